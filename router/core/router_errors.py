"""Error responses of the router: one class tree; each class has its HTTP status, error code and text.

The code is sent in `x-ms-error-code`; the texts of 502 and 503 are those of azureml-fe.
"""

SCORING_METHODS = (b"GET", b"HEAD", b"POST")
"""Methods of an endpoint."""


class RouterError(Exception):
    """An error response of the router. `text` is the body (text/plain)."""

    status = 500
    reason = "Internal Server Error"
    code = "Internal"
    text = "The router failed."
    close = False
    """True if the connection must be closed: following bytes may not be a request."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    rule = ""
    """The rule of HTTP that was broken, for logs; "" if the error is of another kind."""
    client_request_id = method = path = origin = b""
    """`x-ms-client-request-id` of a request with a refused head; empty if unknown."""

    def __init__(self, text: str | None = None) -> None:
        if text is not None:
            self.text = text
        super().__init__(self.text)


class BadRequest(RouterError):
    """Invalid HTTP/1.1, or ambiguous framing (RFC 9112 section 6)."""

    status, reason, code, close = 400, "Bad Request", "BadRequest", True

    def __init__(self, rule: str) -> None:
        """`rule`: that was broken."""
        super().__init__(f"The request is not valid HTTP/1.1: {rule}.")
        self.rule = rule


class RefusedRequest(RouterError):
    """A valid HTTP request that cannot be served; the connection stays open."""

    status, reason, code = 400, "Bad Request", "BadRequest"

    def __init__(self, rule: str) -> None:
        """`rule`: that was broken."""
        super().__init__(f"The request cannot be served: {rule}.")
        self.rule = rule


class Unauthorized(RouterError):
    """No credential, or an invalid one."""

    status, reason, code = 401, "Unauthorized", "Unauthorized"
    text = "A valid key or token is needed: Authorization: Bearer <key or token>."
    headers = ((b"WWW-Authenticate", b"Bearer"),)


class Forbidden(RouterError):
    """A valid token for another endpoint."""

    status, reason, code = 403, "Forbidden", "Forbidden"
    text = "This token is for another endpoint."


class EndpointNotFound(RouterError):
    """The path names no endpoint."""

    status, reason, code = 404, "Not Found", "EndpointNotFound"
    text = "No endpoint at this path."


class VersionNotFound(RouterError):
    """The endpoint has no version of the pinned name."""

    status, reason, code = 404, "Not Found", "VersionNotFound"
    text = "The endpoint has no version of this name."


class MethodNotAllowed(RouterError):
    """The path does not have this method."""

    status, reason, code = 405, "Method Not Allowed", "MethodNotAllowed"

    def __init__(self, allowed: tuple[bytes, ...] = SCORING_METHODS) -> None:
        """`allowed`: the methods of the path; default those of an endpoint."""
        listed = b", ".join(allowed)
        super().__init__(f"Only {listed.decode()} are served.")
        self.headers = ((b"Allow", listed),)


class RequestTimeout(RouterError):
    """Head or body did not arrive within the limit."""

    status, reason, code, close = 408, "Request Timeout", "RequestTimeout", True
    text = "The request did not arrive in time."


class PayloadTooLarge(RouterError):
    """The body is over the limit."""

    status, reason, code, close = 413, "Content Too Large", "PayloadTooLarge", True
    text = "The body is too large."


class UriTooLong(RouterError):
    """The target is over the limit."""

    status, reason, code, close = 414, "URI Too Long", "UriTooLong", True
    text = "The request target is too long."


class HeadersTooLarge(RouterError):
    """The head, one field, or the number of fields is over the limit."""

    status, reason, code, close = 431, "Request Header Fields Too Large", "HeadersTooLarge", True
    text = "The header fields are too large or too many."


class CodingNotImplemented(RouterError):
    """Transfer coding other than chunked (RFC 9112 section 6.1)."""

    status, reason, code, close = 501, "Not Implemented", "NotImplemented", True
    text = "Only the chunked transfer coding is understood."


class ReplicaFailed(RouterError):
    """The replica closed the connection or sent an invalid response."""

    status, reason, code = 502, "Bad Gateway", "ReplicaFailed"
    text = "Replica closed connection before replying"

    def __init__(self, rule: str = "") -> None:
        """`rule`: broken by the response; default: there was none."""
        super().__init__()
        self.rule = rule


class Overloaded(RouterError):
    """No slot became free within the queue wait, or the queue is full."""

    status, reason, code = 503, "Service Unavailable", "Overloaded"
    headers = ((b"Retry-After", b"1"),)

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"Too many requests for service {endpoint} (overloaded)")


class NoReadyReplicas(RouterError):
    """The version has no ready replica."""

    status, reason, code = 503, "Service Unavailable", "NoReadyReplicas"
    headers = ((b"Retry-After", b"1"),)

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"No ready replicas for service {endpoint}.")


class ScoringTimeout(RouterError):
    """The response did not end within the version's scoring timeout."""

    status, reason, code = 504, "Gateway Timeout", "ScoringTimeout"
    text = "The replica did not answer in time."


class ModelError:
    """Status and code for a model's own 500, sent as 502 like azureml-fe; not an error of the router."""

    status, reason, code = 502, "Bad Gateway", "ModelError"
