"""Redirect listener: answers every plain HTTP request with a redirect to the TLS listener, and serves nothing else."""

import re
from typing import TYPE_CHECKING

from router.core.router_errors import BadRequest
from router.proxy.client_connection import SERVING
from router.proxy.downstream import Downstream
from router.proxy.request_head import RequestHead

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

HTTPS_PORT = 443
STATUS = 308
# Names and addresses that a browser would look up; other hosts allowed by RFC 3986 are no server names.
_host = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


class RedirectDownstream(Downstream):
    """A client without TLS: one response, then the connection is closed. Limits and timeouts as for any client."""

    __slots__ = ("_port",)

    def __init__(self, gateway: "Gateway", port: int) -> None:
        """`port`: of the TLS listener."""
        super().__init__(gateway)
        self._port = port

    def leave_worker(self) -> None:
        """Close the connection if it is idle."""
        if self._phase is SERVING and not self._buffer:
            self._finish(linger=False)

    def hand_off(self) -> bool:
        """Always False: another worker would serve the connection as a scoring connection."""
        return False

    def _open(self, head: RequestHead) -> None:
        gateway = self._gateway
        target = location(head, self._port)
        gateway.accounting.count_unrouted(head, STATUS)
        ids = gateway.fields.lines(head.client_request_id, gateway.ids.next())
        self.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n%bConnection: close\r\n\r\n"
            % (target, ids)
        )
        self._finish(True, gateway.settings.max_body_bytes if head.chunked else head.content_length)


def location(head: RequestHead, port: int) -> bytes:
    """The URL of the same target with TLS. Raises BadRequest if the request names no valid host."""
    host = _host.fullmatch(head.host)
    if host is None or not any(name == b"host" for name, _, _ in head.fields):
        raise BadRequest("Host must name the server that the request is redirected to")
    shown = b"" if port == HTTPS_PORT else b":%d" % port
    return b"https://%b%b%b%b" % (host[1], shown, head.path, head.query)
