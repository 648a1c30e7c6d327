"""Errors of the Kubernetes API, one class per reaction of the caller."""

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """Base class. `status` is the HTTP status, 0 without a response."""

    def __init__(
        self,
        message: str,
        status: int = 0,
        reason: str = "",
        retry_after_s: float | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        """One word for machines, as the API has them: NotFound, AlreadyExists, Conflict, Expired…"""
        self.retry_after_s = retry_after_s
        self.body: Mapping[str, Any] = body or {}
        """The `Status` object of the response, if any."""


class ApiUnreachable(ApiError):
    """No answer: refused, timed out, cut, silent. Try again later."""


class CutShort(ApiUnreachable):
    """A stream ended within a line; `rest` is the incomplete line."""

    def __init__(self, message: str, rest: bytes) -> None:
        super().__init__(message, reason="CutShort")
        self.rest = rest


class Garbled(ApiUnreachable):
    """An answer, but not of an API server: not JSON, no object, no version. The same request may meet it again."""


class ResponseLineTooLong(Garbled):
    """A stream has a line over the limit."""


class Misconfigured(ApiError):
    """The address of the API server or the credentials are missing or unusable; the text names the setting."""


class NotFound(ApiError):
    """404: no such object, namespace or resource."""


class WriteConflict(ApiError):
    """409: the object exists already, has changed since it was read, or belongs to another field manager."""


class ResourceExpired(ApiError):
    """410: the resourceVersion is too old. List again."""


class RequestRefused(ApiError):
    """400, 403 or 422: the same request will be refused again."""


CLASSES: dict[int, type[ApiError]] = {
    400: RequestRefused,
    403: RequestRefused,
    404: NotFound,
    409: WriteConflict,
    410: ResourceExpired,
    422: RequestRefused,
}


def error_of(
    status: int, phrase: str, body: Mapping[str, Any], text: str, retry_after: str | None, what: str
) -> ApiError:
    """The error of a response. `body`: its Status object or empty; `text`: its raw text; `what`: the request."""
    details = body.get("details")
    asked = details.get("retryAfterSeconds") if isinstance(details, Mapping) else None
    message = str(body.get("message") or " ".join(text.split())[:200] or phrase)
    reason = str(body.get("reason") or phrase.replace(" ", ""))
    return CLASSES.get(status, ApiError)(
        f"{what}: {status} {reason}: {message}", status, reason, seconds_of(retry_after, asked), body
    )


def seconds_of(retry_after: str | None, asked: object) -> float | None:
    """Seconds to wait as requested by the server. An HTTP date in Retry-After is ignored: API servers send seconds."""
    if retry_after is not None and retry_after.strip().isdigit():
        return float(retry_after)
    return float(asked) if isinstance(asked, int | float) and asked > 0 else None
