"""The links of one worker: a session with every other member, made, kept and made anew. The asyncio shell.

Of two members the one with the smaller name connects. Messages of one loop tick travel as one frame, but for the first
that are in a flush_now; what is sent to a peer that is not linked is dropped, for the Declare at the start of the next
session makes up for it.
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
from router.peers.address import Address, Unix, parse_address
from router.peers.log_limit import PeerLogLimit
from router.peers.peer_connection import HANDSHAKE_S, PeerConnection
from router.peers.peer_identity import Trust, TrustError, covers, names
from router.peers.peer_listener import PeerListener
from router.peers.session import Session
from router.peers.sockets import connect_tcp, connect_unix

_log = logging.getLogger("scorefront.router")

FIRST_PAUSE_S = 0.02
"""After a link that failed; doubled with every further failure: a peer may just be starting."""
LONGEST_PAUSE_S = 1.0
"""A partition that has healed is over within this and a handshake."""
_FAULTS = (ssl.SSLError, ValueError, TrustError)
"""What somebody has to put right; other failures to connect pass."""


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Called on the loop, never from within `send`; may call `send` and `enter`."""

    on_up: Callable[[str], None]
    """A session with this peer begins: nothing that was sent before arrives any more."""
    on_down: Callable[[str], None]
    """It has ended; once for every `on_up`, but for those that `close` ends."""
    on_message: Callable[[str, PeerMessage], None]


class Links:
    """From `enter` of the first view to `close`."""

    def __init__(self, name: str, events: LinkEvents, u: Callable[[], float], trust: Trust | None = None) -> None:
        """`u` draws from [0, 1). `trust`: for peers on other machines; without it there are none."""
        self._name = name
        self._events = events
        self._u = u
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._log_limit = PeerLogLimit(self._loop.time)
        self._members: dict[str, Member] = {}
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._tasks = OwnedTasks()
        self._up: dict[str, PeerConnection] = {}
        self._unflushed: list[PeerConnection] = []
        self._hurried = False
        self._listener = PeerListener(self._accepted, trust, self._log_limit)
        self._closing = False
        self.on_message = events.on_message
        self.connections: set[PeerConnection] = set()
        self.counters: Counter[str] = Counter()
        """`link_frames_duplicate`, `links_broken` (were open), `links_refused`, `link_messages_unsent`."""

    # ---- what the worker calls

    def listen(self, address: str) -> str:
        """Take links there; may be called for several addresses. Returns the address, with a port where it said 0.

        Raises AddressError, TrustError, OSError. The directory of a Unix socket must be private to this user.
        """
        return str(self._listener.listen(parse_address(address)))

    def listen_on(self, door: socket.socket) -> str:
        """Take links there, too: at a TCP socket that listens already. Returns its address. Raises TrustError."""
        return str(self._listener.listen_on(door))

    def enter(self, view: View) -> None:
        """Have links with the members of this view and nobody else. A view without this worker ends all."""
        members = {member.name: member for member in view.members}
        self._members = members if members.pop(self._name, None) is not None else {}
        for connection in [each for each in self.connections if each.session.peer not in self._members]:
            if connection.session.peer:
                connection.break_off("it is not a member any more")
        for peer in self._dialers.keys() - self._members.keys():
            self._dialers.pop(peer).cancel()
        for peer in self._members:
            if self._name < peer and peer not in self._dialers and not self._closing:
                self._dialers[peer] = self._tasks.spawn(self._dial(peer), f"keep a link to {peer}")

    def send(self, peer: str, message: PeerMessage) -> None:
        """Goes out at the end of this tick of the loop; dropped and counted where there is no link."""
        connection = self._up.get(peer)
        if connection is None:
            self.counters["link_messages_unsent"] += 1
        elif connection.enqueue(message):
            if not self._unflushed:
                self._loop.call_soon(self._flush)
            self._unflushed.append(connection)

    def flush_now(self) -> None:
        """What was sent goes out now, unless something has been hurried in this tick already.

        A slot on its way to another worker is one that nobody uses: while little happens, it does not wait for the end
        of the tick; while much does, a tick still costs two frames at most.
        """
        if not self._hurried and self._unflushed:
            self._hurried = True
            for connection in self._unflushed:
                connection.flush_now()

    def up(self) -> frozenset[str]:
        """Peers with an open session."""
        return frozenset(self._up)

    async def close(self) -> None:
        """End every link; nothing is told any more, and no task, socket or socket file is left."""
        self._closing = True
        self._dialers.clear()
        await self._tasks.close()
        await self._listener.close()
        for connection in list(self.connections):
            connection.break_off("this worker ends")
            await connection.closed.wait()

    # ---- what connections tell (`router.peers.peer_connection.ConnectionOwner`)

    def admit(self, connection: PeerConnection, peer: str) -> bool:
        """See `ConnectionOwner`."""
        refusal, level = self._refusal(connection, peer)
        if refusal:
            self.counters["links_refused"] += 1
            connection.break_off(refusal, level)
        return not refusal

    def _refusal(self, connection: PeerConnection, peer: str) -> tuple[str, int]:
        """Why not to talk to this peer ("": nothing speaks against it), and how loud to say so."""
        member = self._members.get(peer)
        if self._closing:
            return "this worker ends", logging.INFO
        if member is None:
            return "it is not a member", logging.INFO  # or is in a view that is still on its way to this worker
        if connection.incoming and peer > self._name:
            return "it is not the one of the two that connects", logging.WARNING
        if connection.certificate is not None and not covers(connection.certificate, member):
            shown = ", ".join(names(connection.certificate)) or "nobody"
            return f"its certificate is for {shown}, not for {peer} at {member.address}", logging.WARNING
        return "", logging.INFO

    def opened(self, connection: PeerConnection) -> None:
        """See `ConnectionOwner`."""
        peer = connection.session.peer
        before = self._up.get(peer)
        if before is not None:
            before.break_off("the peer has made a new one")
            if not connection.live:
                return  # whoever was told of the end of the old one has ended this one, too
        self._up[peer] = connection
        self._log_limit.forget(peer)
        _log.info("link to %s is up", peer)
        self._events.on_up(peer)

    def ended(self, connection: PeerConnection, reason: str, level: int) -> None:
        """See `ConnectionOwner`."""
        self.counters["link_frames_duplicate"] += connection.session.duplicates
        peer = connection.session.peer
        was_up = self._up.get(peer) is connection
        if was_up:
            del self._up[peer]
            self.counters["links_broken"] += 1
        if self._closing:
            return
        self._log_limit.log(connection.peer, f"no link with {connection.peer}: {reason}", level)
        if was_up:
            self._events.on_down(peer)

    # ---- connecting and being connected to

    def _accepted(self) -> PeerConnection:
        return PeerConnection(self, Session(self._name, "", self._draw()), incoming=True)

    def _draw(self) -> int:
        return int(self._u() * (1 << 32))

    async def _dial(self, peer: str) -> None:
        """Make the link and make it anew, for as long as the peer is a member."""
        pause_s = FIRST_PAUSE_S
        while True:
            connection = await self._connect(self._members[peer])
            if connection is not None:
                await connection.closed.wait()
                opened_at = connection.opened_at
                if opened_at is not None and self._loop.time() - opened_at >= LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S
            # Between half and the whole: all who lost the same peer would come back in the same moment.
            await asyncio.sleep(pause_s * (0.5 + self._u() / 2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connect(self, member: Member) -> PeerConnection | None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                return await self._reach(parse_address(member.address), member.name)
        except (OSError, ValueError, TrustError) as error:
            told = str(error) or f"no connection within {HANDSHAKE_S:g} s"
            level = logging.WARNING if isinstance(error, _FAULTS) else logging.INFO
            self._log_limit.log(member.name, f"no link to {member.name} at {member.address}: {told}", level)
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
        connections, self._unflushed, self._hurried = self._unflushed, [], False
        for connection in connections:
            connection.flush()
