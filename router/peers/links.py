"""Links of one worker: one session with every other member, reconnected after failures. The asyncio shell.

Of two members the one with the smaller name connects. Messages of one loop tick are sent as one frame, except after
`flush_now`. Messages to an unlinked peer are dropped; the next session starts with a Declare.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cluster.owned_tasks import OwnedTasks
from router.core.slot_messages import PeerMessage
from router.core.view import Member, View
from router.log_limit import LogLimit
from router.peers.address import Address, Unix, parse_address
from router.peers.peer_connection import HANDSHAKE_S, PeerConnection
from router.peers.peer_identity import Trust, TrustError, covers, names
from router.peers.peer_listener import PeerListener
from router.peers.session import Session
from router.peers.sockets import connect_tcp, connect_unix

_log = logging.getLogger("scorefront.router")

FIRST_PAUSE_S = 0.02
"""First pause after a failed link; doubled with every further failure."""
LONGEST_PAUSE_S = 1.0
"""Longest pause: bounds the time from the end of a partition to the handshake."""
_FAULTS = (ssl.SSLError, ValueError, TrustError)
"""Failures that need an operator, logged as warnings; others are transient."""


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Callbacks on the loop, never from within `send`; they may call `send` and `enter`."""

    on_up: Callable[[str], None]
    """A session with this peer begins; earlier messages no longer arrive."""
    on_down: Callable[[str], None]
    """The session has ended; once for every `on_up`, except at `close`."""
    on_message: Callable[[str, PeerMessage], None]


class Links:
    """All links of one worker, from the first `enter` to `close`."""

    def __init__(
        self,
        name: str,
        events: LinkEvents,
        u: Callable[[], float],
        trust: Trust | None = None,
        yield_cpu: Callable[[], None] = lambda: None,
    ) -> None:
        """`name`: of this worker. `events`: callbacks. `u`: random numbers in [0, 1).

        `trust`: certificates for peers on other machines; None (default): Unix sockets only. `yield_cpu`: called once
        messages were sent in the middle of a tick, default nothing.
        """
        self._name = name
        self._events = events
        self._u = u
        self._trust = trust
        self._yield_cpu = yield_cpu
        self._loop = asyncio.get_running_loop()
        self._log_limit = LogLimit(self._loop.time)
        self._members: dict[str, Member] = {}
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._tasks = OwnedTasks()
        self._up: dict[str, PeerConnection] = {}
        self._unflushed: list[PeerConnection] = []
        self._flushed_now = False
        self._listener = PeerListener(self._accepted, trust, self._log_limit)
        self._closing = False
        self.on_message = events.on_message
        self.connections: set[PeerConnection] = set()
        self.counters: Counter[str] = Counter()
        """`link_frames_duplicate`, `links_broken` (were open), `links_refused`, `link_messages_unsent`."""

    # ---- calls of the worker

    def listen(self, address: str) -> str:
        """Accept links at an address, in addition to others; returns it with the actual port.

        Raises AddressError, TrustError, OSError. The directory of a Unix socket must be private to this user.
        """
        return str(self._listener.listen(parse_address(address)))

    def listen_on(self, sock: socket.socket) -> str:
        """Accept links on a listening TCP socket, too; returns its address. Raises TrustError."""
        return str(self._listener.listen_on(sock))

    def enter(self, view: View) -> None:
        """Keep links with exactly the members of the view. A view without this worker ends all links."""
        members = {member.name: member for member in view.members}
        self._members = members if members.pop(self._name, None) is not None else {}
        for connection in [each for each in self.connections if each.session.peer not in self._members]:
            if connection.session.peer:
                connection.break_off("no longer a member")
        for peer in self._dialers.keys() - self._members.keys():
            self._dialers.pop(peer).cancel()
        for peer in self._members:
            if self._name < peer and peer not in self._dialers and not self._closing:
                self._dialers[peer] = self._tasks.spawn(self._dial(peer), f"keep a link to {peer}")

    def send(self, peer: str, message: PeerMessage) -> None:
        """Send at the end of this loop tick; dropped and counted without a link."""
        connection = self._up.get(peer)
        if connection is None:
            self.counters["link_messages_unsent"] += 1
        elif connection.enqueue(message):
            if not self._unflushed:
                self._loop.call_soon(self._flush)
            self._unflushed.append(connection)

    def flush_now(self) -> None:
        """Send enqueued messages now, once per tick.

        A slot in transit is unused: under low load it does not wait for the end of the tick; under high load a tick
        still costs two frames at most. A peer on the same core runs before the rest of the tick.
        """
        if not self._flushed_now and self._unflushed:
            self._flushed_now = True
            sent = [connection.flush_now() for connection in self._unflushed]
            if any(sent):
                self._yield_cpu()

    def up(self) -> frozenset[str]:
        """Peers with an open session."""
        return frozenset(self._up)

    async def close(self) -> None:
        """Close every link, without callbacks; no task, socket or socket file remains."""
        self._closing = True
        self._dialers.clear()
        await self._tasks.close()
        await self._listener.close()
        for connection in list(self.connections):
            connection.break_off("this worker ends")
            await connection.closed.wait()

    # ---- callbacks of connections (`router.peers.peer_connection.ConnectionOwner`)

    def admit(self, connection: PeerConnection, peer: str) -> bool:
        """Admit a member that may connect in this direction, with a certificate that covers it."""
        refusal, level = self._refusal(connection, peer)
        if refusal:
            self.counters["links_refused"] += 1
            connection.break_off(refusal, level)
        return not refusal

    def _refusal(self, connection: PeerConnection, peer: str) -> tuple[str, int]:
        """Reason to refuse the peer ("" for none), and its log level."""
        member = self._members.get(peer)
        if self._closing:
            return "this worker ends", logging.INFO
        if member is None:
            return "not a member", logging.INFO  # or of a view not yet received
        if connection.incoming and peer > self._name:
            return "wrong direction: the worker with the smaller name connects", logging.WARNING
        if connection.certificate is not None and not covers(connection.certificate, member):
            shown = ", ".join(names(connection.certificate)) or "no name"
            return f"certificate is for {shown}, not for {peer} at {member.address}", logging.WARNING
        return "", logging.INFO

    def opened(self, connection: PeerConnection) -> None:
        """Register the link; it replaces an older one."""
        peer = connection.session.peer
        before = self._up.get(peer)
        if before is not None:
            before.break_off("replaced by a newer connection of the peer")
            if not connection.live:
                return  # ended by a callback for the old one
        self._up[peer] = connection
        self._log_limit.forget(peer)
        _log.info("link to %s: up", peer)
        self._events.on_up(peer)

    def ended(self, connection: PeerConnection, reason: str, level: int) -> None:
        """Log the end of `connection` with its `reason` at `level`, and report it if the link was up."""
        self.counters["link_frames_duplicate"] += connection.session.duplicates
        peer = connection.session.peer
        was_up = self._up.get(peer) is connection
        if was_up:
            del self._up[peer]
            self.counters["links_broken"] += 1
        if self._closing:
            return
        self._log_limit.log(connection.peer, f"link with {connection.peer}: ended: {reason}", level)
        if was_up:
            self._events.on_down(peer)

    # ---- connecting

    def _accepted(self) -> PeerConnection:
        return PeerConnection(self, Session(self._name, "", self._draw()), incoming=True)

    def _draw(self) -> int:
        return int(self._u() * (1 << 32))

    async def _dial(self, peer: str) -> None:
        """Connect, and reconnect after failures, while the peer is a member."""
        pause_s = FIRST_PAUSE_S
        while True:
            connection = await self._connect(self._members[peer])
            if connection is not None:
                await connection.closed.wait()
                opened_at = connection.opened_at
                if opened_at is not None and self._loop.time() - opened_at >= LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S
            # Jitter between half and the whole pause spreads reconnections to a restarted peer.
            await asyncio.sleep(pause_s * (0.5 + self._u() / 2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connect(self, member: Member) -> PeerConnection | None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                return await self._reach(parse_address(member.address), member.name)
        except (OSError, ValueError, TrustError) as error:
            reason = str(error) or f"no connection within {HANDSHAKE_S:g} s"
            level = logging.WARNING if isinstance(error, _FAULTS) else logging.INFO
            self._log_limit.log(member.name, f"link to {member.name} at {member.address}: failed: {reason}", level)
            return None

    async def _reach(self, address: Address, peer: str) -> PeerConnection:
        connection = PeerConnection(self, Session(self._name, peer, self._draw()), incoming=False)
        if isinstance(address, Unix):
            sock = connect_unix(address.path)
            await self._loop.create_unix_connection(lambda: connection, sock=sock)
            return connection
        if self._trust is None:
            raise TrustError("links between machines need certificates")
        context = self._trust.context(server=False)
        sock = await connect_tcp(address)
        await self._loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=address.host)
        return connection

    def _flush(self) -> None:
        connections, self._unflushed, self._flushed_now = self._unflushed, [], False
        for connection in connections:
            connection.flush()
