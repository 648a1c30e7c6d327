"""Heads as clients get them: of a replica's answer, and of an answer that the router gives itself."""

from router.core.header_fields import for_client
from router.core.router_errors import ModelError, RouterError
from router.proxy.head import RequestHead, ResponseHead

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def replica_lines(head: ResponseHead) -> bytes:
    """Status line and fields of a replica's answer, cleaned, for a client of HTTP/1.1 whose connection goes on.

    A model's own 500 becomes 502, as azureml-fe does.
    """
    status, reason, code = head.status, head.reason, b""
    if status == 500:
        status, reason = ModelError.status, ModelError.reason.encode()
        code = b"x-ms-error-code: %b\r\n" % ModelError.code.encode()
    return b"".join(
        [b"HTTP/1.1 %d %b\r\n" % (status, reason), code, for_client(head.fields, head.nominated), _framing(head)]
    )


def interim(head: ResponseHead) -> bytes:
    """A 1xx answer other than 100 and 101, passed on (RFC 9110 section 15.2)."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, for_client(head.fields, head.nominated))


def connection_line(request: RequestHead, close: bool) -> bytes:
    """What the client is told of its connection; nothing where HTTP/1.1 goes on."""
    if close:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if request.version_minor == 0 else b""


def own_answer(error: RouterError, lines: bytes, close: bool, to_head: bool = False) -> bytes:
    """A whole answer of the router. `lines`: the fields that every answer carries, each with its CRLF.

    `to_head`: the request was HEAD, whose answer never has a body (RFC 9110 section 9.3.2).
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
            b"Connection: close\r\n\r\n" if close else b"\r\n",
            b"" if to_head else body,
        ]
    )


def _framing(head: ResponseHead) -> bytes:
    if head.chunked or head.until_close:
        return b"Transfer-Encoding: chunked\r\n"
    if head.status == 304 or head.status < 200 or head.status == 204:
        return b""
    return b"Content-Length: %d\r\n" % head.content_length
