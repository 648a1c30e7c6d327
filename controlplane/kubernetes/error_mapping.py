"""Mapping of Kubernetes API errors to errors of the control plane."""

import contextlib
from collections.abc import Iterator

from cluster.kubernetes.client import api_errors as api
from cluster.provider import ProviderError
from controlplane.control_errors import ConflictingChange, ControlError, InvalidCall, StoreError, StoreUnavailable

BUSY = 429
SERVER_ERROR = 500


def translated(error: api.ApiError, action: str) -> ControlError:
    """The ControlError for an API error. `action`: the failed action, e.g. "write the keys of iris"."""
    text = f"cannot {action}: {error}"
    if error.status in (0, BUSY) or error.status >= SERVER_ERROR:
        return StoreUnavailable(text)
    match error:
        case api.WriteConflict():
            return ConflictingChange(text)
        case api.RequestRefused() if error.status != 403:
            return InvalidCall(text)
    return StoreError(text)


@contextlib.contextmanager
def translating(action: str, retried: bool = False) -> Iterator[None]:
    """Convert errors of the API or a provider to ControlError.

    `action`: see `translated`. `retried`: a WriteConflict passes, for `conflict_retry.update`; default False.
    """
    try:
        yield
    except api.ApiError as error:
        if retried and isinstance(error, api.WriteConflict):
            raise
        raise translated(error, action) from error
    except ProviderError as error:
        raise StoreError(f"cannot {action}: {error}") from error
