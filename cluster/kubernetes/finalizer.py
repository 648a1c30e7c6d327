"""The finalizer of a ScoringEndpoint: it delays deletion until the workloads of the endpoint are drained."""

from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound, WriteConflict
from cluster.kubernetes.client.paths import ENDPOINTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.objects.labels import FINALIZER
from cluster.provider import ProviderError

ATTEMPTS = 5

Object = dict[str, Any]


async def add_finalizer(api: Api, objects: EndpointObjects, found: Object) -> None:
    """Nothing is made for an object that could go without our seeing it. Raises ProviderError."""
    await _change(api, objects, found, wanted=True)


async def remove_finalizer(api: Api, objects: EndpointObjects, found: Object) -> None:
    """Nothing is left of it: it may go. Raises ProviderError."""
    await _change(api, objects, found, wanted=False)


async def _change(api: Api, objects: EndpointObjects, found: Object, wanted: bool) -> None:
    metadata = found["metadata"]
    uid, where = metadata["uid"], path(ENDPOINTS, metadata["namespace"], metadata["name"])
    for _ in range(ATTEMPTS):
        metadata = found["metadata"]
        there = list(metadata.get("finalizers") or ())
        if (FINALIZER in there) is wanted or metadata["uid"] != uid:
            return
        # The merge replaces the whole list; the resourceVersion protects changes that others have just made.
        after = [*there, FINALIZER] if wanted else [each for each in there if each != FINALIZER]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": after}}
        try:
            objects.put(await api.merge(where, body))
            return
        except NotFound:
            return
        except WriteConflict:
            found = await _read(api, where)
        except ApiError as error:
            raise ProviderError(f"cannot write the finalizer of {where}: {error}") from error
    raise ProviderError(f"the finalizer of {where} is changed by others again and again")


async def _read(api: Api, where: str) -> Object:
    try:
        return await api.get(where)
    except ApiError as error:
        raise ProviderError(f"cannot read {where}: {error}") from error
