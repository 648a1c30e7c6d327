"""Pages of the router itself: `/healthz`."""

from router.core.ids import RequestIds
from router.proxy.request_head import RequestHead
from router.proxy.responses import ResponseFields

HEALTH_PATH = b"/healthz"


class OwnPages:
    """Responses to requests for the router instead of an endpoint."""

    def __init__(self, fields: ResponseFields, ids: RequestIds) -> None:
        self._fields = fields
        self._ids = ids
        self.ready = True
        """Readiness: `/healthz` answers 503 once it is False."""

    def serves(self, head: RequestHead) -> bool:
        """True if the request is for the router itself."""
        return head.path == HEALTH_PATH and head.method == b"GET"

    def response(self, head: RequestHead) -> bytes:
        """`/healthz`: 200 while the router accepts requests, 503 while it drains; without credentials."""
        status, text = (b"200 OK", b"ok\n") if self.ready else (b"503 Service Unavailable", b"draining\n")
        close = b"" if head.keep_alive and not head.has_body else b"Connection: close\r\n"
        return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
            status,
            len(text),
            self._fields.lines(head.client_request_id, self._ids.next()),
            close,
            text,
        )
