"""What the API of a cluster says no with, as what the control plane says no with."""

import contextlib
from collections.abc import Iterator

from cluster.kubernetes.client import api_errors as api
from cluster.provider import ProviderError
from controlplane.control_errors import ConflictingChange, ControlError, InvalidCall, StoreError, StoreUnavailable

BUSY = 429
SERVER_ERROR = 500


def translated(error: api.ApiError, what: str) -> ControlError:
    """`what` was tried, e.g. "write the keys of iris"."""
    text = f"cannot {what}: {error}"
    if error.status in (0, BUSY) or error.status >= SERVER_ERROR:
        return StoreUnavailable(text)
    match error:
        case api.WriteConflict():
            return ConflictingChange(text)
        case api.RequestRefused() if error.status != 403:
            return InvalidCall(text)
    return StoreError(text)


@contextlib.contextmanager
def translating(what: str) -> Iterator[None]:
    """Raises ControlError for whatever the API or a provider raises within."""
    try:
        yield
    except api.ApiError as error:
        raise translated(error, what) from error
    except ProviderError as error:
        raise StoreError(f"cannot {what}: {error}") from error
