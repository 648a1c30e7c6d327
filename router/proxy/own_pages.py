"""Pages of the router itself: `/` and `/healthz`."""

from router.core.ids import RequestIds
from router.proxy.request_head import RequestHead
from router.proxy.responses import ResponseFields, connection_line

OWN_PATHS = frozenset({b"/", b"/healthz", b"/healthz/"})
LONGEST_OWN_PATH = max(map(len, OWN_PATHS))
OWN_METHODS = (b"GET", b"HEAD")


class OwnPages:
    """Responses to requests for the router instead of an endpoint."""

    def __init__(self, fields: ResponseFields, ids: RequestIds) -> None:
        self._fields = fields
        self._ids = ids
        self.ready = True
        """Readiness: the pages answer 503 once it is False."""

    def serves(self, head: RequestHead) -> bool:
        """True if the request is for the router itself."""
        return head.path in OWN_PATHS and head.method in OWN_METHODS

    def response(self, head: RequestHead, close: bool) -> bytes:
        """200 while the router accepts requests, 503 while it drains; without credentials.

        `head`: of the request. `close`: the connection ends.
        """
        status, text = (b"200 OK", b"ok\n") if self.ready else (b"503 Service Unavailable", b"draining\n")
        return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
            status,
            len(text),
            self._fields.lines(head.client_request_id, self._ids.next()),
            connection_line(head, close),
            b"" if head.to_head else text,
        )
