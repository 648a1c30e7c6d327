"""What the control plane can say no with. A class knows its HTTP status and its machine-readable code."""

from serving.endpoint import VersionKey


class ControlError(Exception):
    """The root; the text is for people."""

    status = 500
    code = "Internal"


class NoSuchEndpoint(ControlError):
    """No endpoint of that name is declared."""

    status = 404
    code = "EndpointNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no endpoint '{name}'")


class EndpointSkipped(NoSuchEndpoint):
    """It was declared, but what is kept of it is damaged, so that it is not served."""

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
    """The request itself makes no sense, whatever is declared."""

    status = 400
    code = "BadRequest"


class MissingCredential(ControlError):
    """The control token is missing or wrong."""

    status = 401
    code = "Unauthorized"


class NotPermitted(ControlError):
    """Refused because of where the request comes from."""

    status = 403
    code = "Forbidden"


class NotYours(NotPermitted):
    """Refused because the connection belongs to another user of this machine."""

    code = "NotYours"


class TooManyRequests(ControlError):
    """Refused for now; the same may be asked again in a second."""

    status = 429
    code = "TooManyRequests"


class ConflictingChange(ControlError):
    """It contradicts what is declared."""

    status = 409
    code = "Conflict"


class StoreError(ControlError):
    """What is kept cannot be read or written, or is in use; the text names the file or object."""

    code = "StoreFailed"


class StoreUnavailable(StoreError):
    """What keeps the state does not answer now; nothing was changed."""

    status = 503
    code = "StoreUnavailable"


class DamagedFile(StoreError):
    """What is in a file is not what was written there; the text names the file, the field and the rule."""


class NewerFormat(StoreError):
    """The file was written by a later scorefront: it is not damaged, this is the wrong program to read it."""
