"""Errors of the control plane. Each class has its HTTP status and machine-readable code."""

from serving.endpoint import VersionKey


class ControlError(Exception):
    """Base class; the text is for people."""

    status = 500
    code = "Internal"


class NoSuchEndpoint(ControlError):
    """No endpoint of that name is declared."""

    status = 404
    code = "EndpointNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no endpoint '{name}'")


class EndpointSkipped(NoSuchEndpoint):
    """The stored record of the endpoint is damaged, so it is not served."""

    code = "EndpointSkipped"

    def __init__(self, name: str, why: str, remedy: str) -> None:
        super().__init__(name)
        self.args = (f"endpoint '{name}' is skipped: {why}; {remedy}",)


class NoSuchVersion(ControlError):
    """The endpoint has no version of that name."""

    status = 404
    code = "VersionNotFound"

    def __init__(self, key: VersionKey) -> None:
        super().__init__(f"endpoint '{key.endpoint}' has no version '{key.version}'")


class InvalidCall(ControlError):
    """The request is malformed, independent of the declared endpoints."""

    status = 400
    code = "BadRequest"


class RoutersUnreachable(ControlError):
    """No router answers the control plane."""

    status = 502
    code = "RoutersUnreachable"


class MissingCredential(ControlError):
    """The credential is missing or invalid."""

    status = 401
    code = "Unauthorized"


class NotPermitted(ControlError):
    """The caller lacks the right, or the request comes from a refused origin."""

    status = 403
    code = "Forbidden"


class NotYours(NotPermitted):
    """The connection belongs to another user of this machine."""

    code = "NotYours"


class TooManyRequests(ControlError):
    """Rate limit exceeded; retry after a second."""

    status = 429
    code = "TooManyRequests"


class ConflictingChange(ControlError):
    """The change contradicts the declared state, or another change."""

    status = 409
    code = "Conflict"


class NotAvailableHere(ControlError):
    """The operation exists, but not in this kind of installation."""

    status = 501
    code = "NotImplemented"


class StoreError(ControlError):
    """The store cannot be read or written, or is in use; the text names the file or object."""

    code = "StoreFailed"


class StoreUnavailable(StoreError):
    """The store does not answer; nothing was changed."""

    status = 503
    code = "StoreUnavailable"


class DamagedFile(StoreError):
    """A stored file is damaged; the text names the file, the field and the rule."""


class NewerFormat(StoreError):
    """The file was written by a newer scorefront and cannot be read by this one."""
