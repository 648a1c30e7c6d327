"""Links between workers: real sessions over connections that delay, lose, duplicate, reorder, stall and break.

A pair of members keeps one connection; the member with the lower name dials. An end answers frames on a
closed connection with a reset, like TCP.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

from router.core.slot_messages import PeerMessage
from router.peers.frames import Frame, decode, encode
from router.peers.session import Answered, Broken, Delivered, Opened, Session
from tests.sim.clock import Clock
from tests.sim.scenario import Scenario

REDIAL_S = 0.1
"""Time limit for a session to open; then the dialler reconnects."""


class End(Protocol):
    """A worker as seen by the network."""

    name: str

    def do(self, action: Callable[..., object], *args: object) -> None: ...
    def knows(self, peer: str) -> bool: ...
    def link_up(self, peer: str) -> None: ...
    def link_down(self, peer: str) -> None: ...
    def receive(self, peer: str, message: PeerMessage) -> None: ...


class Connection:
    """A connection between two workers; each end has its own state."""

    __slots__ = ("closed", "dialler", "other", "sessions")

    def __init__(self, dialler: str, other: str) -> None:
        self.dialler = dialler
        self.other = other
        self.sessions: dict[str, Session] = {}
        """Session by end; missing at the accepting end until its first frame."""
        self.closed: list[str] = []
        """Ends that closed the connection."""

    def across(self, name: str) -> str:
        """The other end."""
        return self.other if name == self.dialler else self.dialler


class Direction:
    """The channel from one worker to another."""

    __slots__ = ("cut", "last", "stalled", "waiting")

    def __init__(self) -> None:
        self.cut = False
        """True if frames are lost."""
        self.stalled = False
        """True if frames wait."""
        self.waiting: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.last = 0.0
        """Arrival time of the last frame; later frames arrive after it."""


class Network:
    """All links of a run."""

    def __init__(self, clock: Clock, random: Random, scenario: Scenario) -> None:
        self.ends: dict[str, End] = {}
        self.faulty = False
        """True while frames are lost, duplicated and reordered."""
        self.broken_sessions = 0
        self.duplicates = 0
        self._clock = clock
        self._random = random
        self._scenario = scenario
        self._open: dict[tuple[str, str], Connection] = {}
        """Open connection by end and peer."""
        self._dialled: dict[tuple[str, str], Connection] = {}
        self._dialling: set[tuple[str, str]] = set()
        self._directions: dict[tuple[str, str], Direction] = {}

    # ---- calls of workers

    def send(self, sender: str, messages: list[tuple[str, PeerMessage]]) -> None:
        """Send the messages of one step, one batch per peer; dropped without a session."""
        batches: dict[str, list[PeerMessage]] = {}
        for peer, message in messages:
            batches.setdefault(peer, []).append(message)
        for peer, batch in batches.items():
            connection = self._open.get((sender, peer))
            if connection is not None:
                self._send(connection, sender, connection.sessions[sender].pack(tuple(batch)))

    def is_up(self, one: str, other: str) -> bool:
        """True if both ends have the same session."""
        connection = self._open.get((one, other))
        return connection is not None and connection is self._open.get((other, one))

    def meet(self, name: str) -> None:
        """A worker enters a view: it connects to new members and closes links to others."""
        for one, other in [pair for pair in self._open if pair[0] == name]:
            if not self.ends[one].knows(other):
                self._close(self._open[one, other], one)
        for other in self.ends:
            if other != name and self.ends[name].knows(other):
                self._dial_later(*sorted((name, other)))

    def leave(self, name: str) -> None:
        """A process has ended: the kernel closes its connections at both ends."""
        for pair in [pair for pair in self._open if pair[0] == name]:
            connection = self._open.pop(pair)
            self._carry(*pair, self._hear_closed, connection, pair[1])
        del self.ends[name]

    def way(self, sender: str, receiver: str) -> Direction:
        """The channel between two workers, created on first use."""
        way = self._directions.get((sender, receiver))
        if way is None:
            way = self._directions[sender, receiver] = Direction()
        return way

    def release(self, sender: str, receiver: str) -> None:
        """End a stall: waiting frames arrive in order."""
        way = self.way(sender, receiver)
        way.stalled = False
        waiting, way.waiting = way.waiting, []
        for action, args in waiting:
            self._carry(sender, receiver, action, *args)

    def reset(self, name: str, peer: str) -> None:
        """A connection breaks, seen by one end first."""
        connection = self._open.get((name, peer))
        if connection is not None:
            self._close(connection, name)

    # ---- the channel

    def _carry(self, sender: str, receiver: str, action: Callable[..., object], *args: object) -> None:
        way = self._directions.get((sender, receiver)) or self.way(sender, receiver)
        if way.cut:
            return
        if way.stalled:
            way.waiting.append((action, args))
            return
        uniform, scenario = self._random.random, self._scenario
        moment = self._clock.now + scenario.link_s * uniform()
        if self.faulty:
            if uniform() < scenario.loss:
                return
            if uniform() < scenario.duplication:
                self._clock.at(moment + scenario.link_s * uniform(), action, *args)
            if uniform() < scenario.reordering:
                self._clock.at(moment, action, *args)
                return
        way.last = moment = max(moment, way.last)
        self._clock.at(moment, action, *args)

    def _send(self, connection: Connection, sender: str, frame: Frame) -> None:
        if self._scenario.encoded:
            frame = decode(bytes(encode(frame)[4:]))
        receiver = connection.across(sender)
        self._carry(sender, receiver, self._arrive, connection, receiver, frame)

    def _arrive(self, connection: Connection, name: str, frame: Frame) -> None:
        end = self.ends.get(name)
        if end is not None:
            end.do(self._take, connection, name, frame)

    # ---- sessions

    def _take(self, connection: Connection, name: str, frame: Frame) -> None:
        """Deliver a frame, after a pause of the receiver."""
        if name in connection.closed:
            self._carry(name, connection.across(name), self._hear_closed, connection, connection.across(name))
            return
        session = connection.sessions.get(name)
        if session is None:
            session = connection.sessions[name] = Session(name, "", self._random.getrandbits(32))
        before = session.duplicates
        match session.receive(frame):
            case Delivered(messages):
                self._deliver(connection, name, messages)
            case Answered(peer, hello):
                if self.ends[name].knows(peer):
                    self._send(connection, name, hello)
                else:
                    self._close(connection, name)
            case Opened(confirm, messages):
                if confirm is not None:
                    self._send(connection, name, confirm)
                self._opened(connection, name)
                self._deliver(connection, name, messages)
            case Broken():
                self._close(connection, name)
            case None:
                self.duplicates += session.duplicates - before

    def _deliver(self, connection: Connection, name: str, messages: tuple[PeerMessage, ...]) -> None:
        peer = connection.across(name)
        for message in messages:
            if self._open.get((name, peer)) is connection:
                self.ends[name].receive(peer, message)

    def _opened(self, connection: Connection, name: str) -> None:
        peer = connection.across(name)
        end = self.ends[name]
        if not end.knows(peer):
            self._close(connection, name)
            return
        old = self._open.get((name, peer))
        if old is not None:
            self._close(old, name)
        self._open[name, peer] = connection
        end.link_up(peer)

    def _hear_closed(self, connection: Connection, name: str) -> None:
        end = self.ends.get(name)
        if end is not None:
            end.do(self._close, connection, name)

    def _close(self, connection: Connection, name: str) -> None:
        """Close the connection at this end and inform the other."""
        if name in connection.closed:
            return
        connection.closed.append(name)
        peer = connection.across(name)
        self._carry(name, peer, self._hear_closed, connection, peer)
        if self._open.get((name, peer)) is connection:
            del self._open[name, peer]
            self.broken_sessions += 1
            self.ends[name].link_down(peer)
        self._dial_later(*sorted((name, peer)))

    # ---- dialling

    def _dial_later(self, dialler: str, other: str) -> None:
        if (dialler, other) not in self._dialling:
            self._dialling.add((dialler, other))
            self._clock.after(self._random.uniform(0.2, 1.0) * REDIAL_S, self._reach, dialler, other)

    def _reach(self, dialler: str, other: str) -> None:
        self._dialling.discard((dialler, other))
        end = self.ends.get(dialler)
        if end is not None:
            end.do(self._dial, dialler, other)

    def _dial(self, dialler: str, other: str) -> None:
        if (dialler, other) in self._open or other not in self.ends or not self.ends[dialler].knows(other):
            return
        given_up = self._dialled.get((dialler, other))
        if given_up is not None:
            self._close(given_up, dialler)
        connection = self._dialled[dialler, other] = Connection(dialler, other)
        session = connection.sessions[dialler] = Session(dialler, other, self._random.getrandbits(32))
        self._send(connection, dialler, session.greet())
        self._dial_later(dialler, other)  # until connected
