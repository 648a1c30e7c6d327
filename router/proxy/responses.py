"""Response heads as sent to clients, from replicas and from the router itself, and the fields common to all of them."""

from collections.abc import Callable
from email.utils import formatdate

from router.core.cors import FROM_REPLICAS, OF_REPLICAS
from router.core.forwarding import ReplicaOrigin
from router.core.header_fields import for_client
from router.core.ids import kept_client_id
from router.core.router_errors import ModelError, RouterError
from router.proxy.request_head import RequestHead
from router.proxy.response_head import ResponseHead

CLOSE = b"Connection: close\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MODEL_ERROR = f"HTTP/1.1 {ModelError.status} {ModelError.reason}\r\nx-ms-error-code: {ModelError.code}\r\n".encode()
COMMON_LINES = b"x-ms-request-id: "
"""Constant lines of every response, ending with the name of x-ms-request-id. Put a new field for all responses in front
of it, and its name into `router.core.header_fields.ROUTER_RESPONSE`, so that replicas cannot send it."""


class ResponseFields:
    """The fields that every response carries: Date, x-ms-client-request-id if given, COMMON_LINES.

    Responses of a version get them through `RenderedHead.response_lines`, rendered once per head.
    """

    def __init__(self, unix_now: Callable[[], float]) -> None:
        self._unix_now = unix_now
        self._date_second = 0
        self._date_line = b""

    def date_line(self) -> bytes:
        """The Date field, for responses without one (RFC 9110 section 6.6.1); rendered once a second."""
        second = int(self._unix_now())
        if second != self._date_second:
            self._date_second = second
            self._date_line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date_line

    def lines(self, client_request_id: bytes, request_id: bytes) -> bytes:
        """All common lines of a response without a version.

        `client_request_id`: as received, may be empty. `request_id`: of the router.
        """
        return b"%b%b%b%b\r\n" % (self.date_line(), client_id_line(client_request_id), COMMON_LINES, request_id)


def client_id_line(client_request_id: bytes) -> bytes:
    """The x-ms-client-request-id line with the sanitized id; empty without one."""
    kept = kept_client_id(client_request_id)
    return b"x-ms-client-request-id: %b\r\n" % kept if kept else b""


def replica_lines(head: ResponseHead, origin: ReplicaOrigin | None = None, cors: bool = False) -> bytes:
    """Status line and cleaned fields of a replica's response, for an HTTP/1.1 client; the connection stays open.

    A model's own 500 becomes 502, as in azureml-fe. `origin`: of the replica, for its references; default: they are
    passed on as they are. `cors`: the router sends the fields for other origins instead of the replica; default False.
    """
    fields = head.fields
    if origin is not None:
        fields = [(name, sent, origin.rewritten(name, value)) for name, sent, value in fields]
    if cors:
        fields = [field for field in fields if field[0] == FROM_REPLICAS or not field[0].startswith(OF_REPLICAS)]
    return b"".join([status_lines(head), for_client(fields, head.nominated), framing_line(head)])


def status_lines(head: ResponseHead) -> bytes:
    """The status line of a replica's response for the client, and the error code of a model's own 500."""
    return _MODEL_ERROR if head.status == 500 else b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def interim_response(head: ResponseHead) -> bytes:
    """A forwarded 1xx response other than 100 and 101 (RFC 9110 section 15.2)."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, for_client(head.fields, head.nominated))


def connection_line(request: RequestHead, close: bool) -> bytes:
    """The Connection field of a response; empty if an HTTP/1.1 connection stays open."""
    if close:
        return CLOSE
    return b"Connection: keep-alive\r\n" if request.version_minor == 0 else b""


def router_response(error: RouterError, lines: bytes, connection: bytes, to_head: bool = False) -> bytes:
    """A complete response of the router.

    `lines`: the common fields, each with its CRLF. `connection`: the Connection field with its CRLF, may be empty.
    `to_head`: the request was HEAD, so the response has no body (RFC 9110 section 9.3.2).
    """
    body = error.text.encode()
    fields = b"".join([b"%b: %b\r\n" % field for field in error.headers])
    return b"".join(
        [
            b"HTTP/1.1 %d %b\r\n" % (error.status, error.reason.encode()),
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(body),
            b"x-ms-error-code: %b\r\n" % error.code.encode(),
            fields,
            lines,
            connection,
            b"\r\n",
            b"" if to_head else body,
        ]
    )


def framing_line(head: ResponseHead) -> bytes:
    """The field for the client that frames the body of a replica's response."""
    if head.chunked or head.until_close:
        return b"Transfer-Encoding: chunked\r\n"
    if head.content_length < 0 or head.status == 304 or head.status < 200 or head.status == 204:
        return b""
    return b"Content-Length: %d\r\n" % head.content_length
