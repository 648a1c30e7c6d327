"""The listener without TLS beside the one with it: sends every client there, and does nothing else."""

import re
from typing import TYPE_CHECKING

from router.core.router_errors import BadRequest
from router.proxy.downstream import Downstream
from router.proxy.head import RequestHead

if TYPE_CHECKING:
    from router.proxy.gateway import Gateway

HTTPS_PORT = 443
STATUS = 308
# Names and addresses that a browser would look up; of what else RFC 3986 allows in a host, nothing is a server's name.
_host = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


class RedirectDownstream(Downstream):
    """A client that came without TLS: one answer, and the connection ends. Limits and times are those of any client."""

    __slots__ = ("_port",)

    def __init__(self, gateway: "Gateway", port: int) -> None:
        """`port`: where clients find the listener with TLS."""
        super().__init__(gateway)
        self._port = port

    def leave_worker(self) -> None:
        """Close the connection if it is idle."""
        if not self._lingering and not self._buffer:
            self._finish(linger=False)

    def pass_on(self) -> bool:
        """Always False: another worker would score what comes here."""
        return False

    def _open(self, head: RequestHead, length: int) -> None:
        gateway = self._gateway
        there = location(head, self._port)
        gateway.count_unrouted(head, STATUS)
        ids = gateway.id_lines(head.client_request_id, gateway.ids.next())
        self.write(
            b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n%bConnection: close\r\n\r\n"
            % (there, ids)
        )
        self._finish(linger=True)


def location(head: RequestHead, port: int) -> bytes:
    """The same target with TLS. Raises BadRequest where the request does not say which host it is for."""
    host = _host.fullmatch(head.host)
    if host is None or not any(name == b"host" for name, _, _ in head.fields):
        raise BadRequest("The request does not name a host that it could be sent to.")
    shown = b"" if port == HTTPS_PORT else b":%d" % port
    return b"https://%b%b%b%b" % (host[1], shown, head.path, head.query)
