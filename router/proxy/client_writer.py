"""Writing side of a client connection: its transport, and the memory and time that a slow reader may take."""

import asyncio
import math
from typing import TYPE_CHECKING

from router.proxy.slow_reader import SlowReader
from router.proxy.tcp_socket import bytes_in_kernel
from router.socket_write import write_at_once

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.gateway import Gateway


class ClientWriter(asyncio.Protocol):
    """Responses to one client. `ClientConnection` adds reading and the close."""

    __slots__ = (
        *("_ahead", "_batch", "_batched", "_gateway", "_handoff", "_slow_reader"),
        *("deadline", "exchange", "transport", "write_paused"),
    )

    transport: asyncio.Transport

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._handoff = gateway.handoff
        self._batch = gateway.batch
        self._batched = b""
        """A whole response that is written at the end of the loop's iteration."""
        self.exchange: Exchange | None = None
        """The request being served."""
        self.write_paused = False
        self.deadline = math.inf
        """Time of the next `check`, on the gateway's clock."""
        self._ahead = 0
        """Bytes of the next response that have been written already."""
        self._slow_reader: SlowReader | None = None
        """Set while `write_paused`."""

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._batched:
            self.flush_batched()
        if self._ahead:
            data, self._ahead = data[self._ahead :], 0
        if self._handoff.active and self._handoff.can_pass(self.transport):
            # A response kept by the loop until the end of its iteration would prevent the hand-off.
            data = write_at_once(self.transport, self.transport.get_extra_info("socket").fileno(), data)
        if data:
            self.transport.write(data)

    def write_whole(self, response: bytes) -> None:
        """Send a whole response, a small one together with others of the loop's iteration."""
        if (
            len(response) > self._batch.limit_bytes
            or self._batched
            or self._ahead
            or self._handoff.active
            or self.transport.get_write_buffer_size()
        ):
            self.write(response)
            return
        self._batched = response
        self._batch.add(self)

    def flush_batched(self) -> None:
        """Pass a batched response to the transport: before anything else is written, closed or handed off."""
        response, self._batched = self._batched, b""
        if response and not self.transport.is_closing():
            self.transport.write(response)

    def write_ahead(self, beginning: bytes) -> None:
        """Send the beginning of the next response, whatever it is going to be."""
        if not self._ahead:
            self.write(beginning)
            self._ahead = len(beginning)

    def unsent(self) -> int:
        """Bytes not yet accepted by the socket."""
        return self.transport.get_write_buffer_size() + len(self._batched)

    def pause_writing(self) -> None:
        """asyncio: the client reads too slowly."""
        self.write_paused = True
        gateway, settings = self._gateway, self._gateway.settings
        self.deadline = gateway.now() + settings.write_timeout_s
        self._caught_up()
        self._slow_reader = SlowReader(gateway.bodies, settings.collect_bytes, self._pending())
        if self.exchange is not None:
            self.exchange.client_paused(0)

    def hold_unsent(self, added_bytes: int) -> bool:
        """Keep the unsent bytes in memory; False if they are too many. `added_bytes`: written since the last call."""
        return self._slow_reader is not None and self._slow_reader.hold(self.unsent(), added_bytes)

    def _caught_up(self) -> None:
        if self._slow_reader is not None:
            self._slow_reader.release()
            self._slow_reader = None

    def _pending(self) -> int:
        """Bytes not yet received by the client."""
        sock = self.transport.get_extra_info("socket")
        return self.unsent() + (bytes_in_kernel(sock.fileno()) if sock is not None else 0)

    def _keep_slow_reader(self, now: float) -> bool:
        """Set a new deadline for unsent bytes; False if the client received too few since the last one."""
        settings, slow = self._gateway.settings, self._slow_reader
        if slow is None or not slow.progressed(self._pending(), settings.buffer_bytes // 2):
            return False
        self.deadline = now + settings.write_timeout_s
        return True
