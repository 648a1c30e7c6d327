"""Interfaces of the two sides of an exchange: the client side (downstream) and the replica side (upstream).

Static protocols without runtime cost. `Downstream` and `UpstreamConnection` implement them for HTTP/1.1.
"""

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.request_plan import Planner


class ReadHold(Enum):
    """Reason not to read from a client."""

    SLOT = "slot"
    """The body buffer is full and the request has no slot yet."""
    REPLICA = "replica"
    """The replica reads more slowly than the client sends."""
    PIPELINE = "pipeline"
    """Further requests fill the buffer while one is served."""
    RESPONSES = "responses"
    """The client does not read its responses."""


class ClientStream(Protocol):
    """Client side of an exchange."""

    exchange: "Exchange | None"
    """The request being served."""
    planner: "Planner"
    authorized: bool
    """True once an endpoint has admitted a request of this connection."""
    write_paused: bool
    """True while the client reads too slowly."""

    def write(self, data: bytes) -> None:
        """Send a part of the response."""

    def write_whole(self, response: bytes) -> None:
        """Send a whole response, a small one together with others of the loop's iteration."""

    def write_ahead(self, beginning: bytes) -> None:
        """Send the beginning of the next response, whatever it is going to be."""

    def hold_unsent(self, added_bytes: int) -> bool:
        """Keep unsent bytes in memory; False if they are too many. `added_bytes`: written since the last call."""

    def hold_reading(self, reason: ReadHold, hold: bool) -> None:
        """Set or clear a reason not to read the request body."""

    def note_admission(self) -> None:
        """An endpoint has admitted the request."""

    def exchange_done(self, close: bool, body_complete: bool, now: float) -> None:
        """The response is complete.

        `close`: the connection ends with it. `body_complete`: the request body was received. `now`: monotonic seconds.
        """

    def exchange_broken(self) -> None:
        """The response cannot be completed, and a close would look like its end: reset the connection."""

    def start_tunnel(self) -> None:
        """Protocols have been switched: pass bytes unchanged, buffered ones first."""

    def write_through(self, data: bytes) -> None:
        """Send bytes of the tunnel."""


class UpstreamStream(Protocol):
    """Replica side of an exchange: one connection, one exchange at a time."""

    closed: bool

    def begin(self, exchange: "Exchange", data: bytes, at_once: bool) -> None:
        """Send the head and the received part of the body. `at_once`: now, the replica is idle; default batched."""

    def write(self, data: bytes) -> None:
        """Send more of the request body, or bytes of the tunnel."""

    def hold_reading(self, hold: bool) -> None:
        """Pause or resume reading the response."""

    def detach(self, reusable: bool, now: float) -> None:
        """The exchange has ended. `reusable`: return the connection to the pool. `now`: monotonic seconds."""

    def finish(self) -> None:
        """Close a tunnel after flushing the bytes of the client."""

    def abort(self) -> None:
        """Break the connection, so that the replica notices."""
