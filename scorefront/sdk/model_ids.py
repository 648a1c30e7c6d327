"""Ids of models in requests. Pure."""

from collections.abc import Sequence
from typing import Any

from scorefront.sdk.exceptions import WebserviceException


def model_ids(models: Sequence[Any]) -> list[str]:
    """The id `name:version` of each model. `models`: registered models, or their ids. Raises WebserviceException."""
    if isinstance(models, str) or not isinstance(models, Sequence):
        raise WebserviceException(f"models: must be a list of registered models (got {models!r})")
    ids = [each if isinstance(each, str) else getattr(each, "id", None) for each in models]
    for place, each in enumerate(ids):
        if not isinstance(each, str) or not each.rpartition(":")[2].isdecimal():
            raise WebserviceException(
                f"models[{place}]: must be a registered model, or its id name:version (got {models[place]!r})"
            )
    return [str(each) for each in ids]
