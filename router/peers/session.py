"""State machine of one end of a session: frames in order, each once, or the session is broken. Pure.

The connecting end sends Hello, the other answers with Hello, and the first batch confirms. The session is open at both
ends only then, so an old, abandoned connection is never taken for a new one. Any unexpected frame breaks the session;
the next one starts with a Declare.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from router.core.slot_messages import PeerMessage
from router.peers.frames import MAJOR, MINOR, Batch, Frame, Hello

_HALF_BITS = 32


class SessionState(StrEnum):
    """State of one end."""

    GREETING = "greeting"
    """Connected and sent Hello."""
    AWAITING = "awaiting"
    """Accepted; the peer is unknown."""
    ANSWERED = "answered"
    """Answered the Hello of the peer."""
    OPEN = "open"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Answered:
    """`peer` sent Hello: send `hello`, or break off if the peer is not admitted."""

    peer: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class Opened:
    """The session is open; send `confirm` before any message, unless None."""

    confirm: Batch | None
    messages: tuple[PeerMessage, ...]
    """First messages of the peer."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Messages of the peer, in order."""

    messages: tuple[PeerMessage, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """The session is broken."""

    reason: str


Step = Answered | Opened | Delivered | Broken


class Session:
    """One end of a session. `peer`: name of the other end, "" until known."""

    __slots__ = (
        *("_greeting", "_half", "_id", "_name", "_received", "_sent"),
        *("duplicates", "peer", "peer_minor", "state"),
    )

    def __init__(self, name: str, peer: str, half: int) -> None:
        """`name`: name of this end. `peer`: name of the end connected to, "" if accepted. `half`: 32 random bits."""
        self._name = name
        self._half = half
        self._id = 0
        self._greeting: Hello | None = None
        self._sent = self._received = 0
        self.peer = peer
        self.peer_minor = 0
        self.state = SessionState.GREETING if peer else SessionState.AWAITING
        self.duplicates = 0
        """Duplicate frames, dropped."""

    def greet(self) -> Hello:
        """The first frame of the connecting end."""
        return Hello(MAJOR, MINOR, self._name, self.peer, self._half << _HALF_BITS)

    def pack(self, messages: tuple[PeerMessage, ...]) -> Batch:
        """The next frame to send; the session must be open."""
        assert self.state is SessionState.OPEN
        self._sent += 1
        return Batch(self._id, self._sent, messages)

    def receive(self, frame: Frame) -> Step | None:
        """Handle a frame; returns the step for the shell, or None."""
        return _ON[self.state, type(frame)](self, frame)

    def break_off(self, reason: str) -> Broken:
        """Break the session for a reason of this end or of the channel."""
        self.state = SessionState.BROKEN
        return Broken(reason)

    def _greeted(self, hello: Hello) -> Step:
        fault = self._fault(hello)
        if fault:
            return self.break_off(fault)
        self.peer = hello.name
        self._id = hello.session | self._half
        self._know(hello)
        self.state = SessionState.ANSWERED
        return Answered(self.peer, Hello(MAJOR, MINOR, self._name, self.peer, self._id))

    def _answered(self, hello: Hello) -> Step:
        fault = self._fault(hello)
        if fault:
            return self.break_off(fault)
        self._id = hello.session
        self._know(hello)
        self.state = SessionState.OPEN
        return Opened(self.pack(()), ())

    def _confirmed(self, batch: Batch) -> Step | None:
        step = self._continued(batch)
        if not isinstance(step, Delivered):
            return step
        self.state = SessionState.OPEN
        return Opened(None, step.messages)

    def _continued(self, batch: Batch) -> Step | None:
        if batch.session != self._id:
            return self.break_off("frame of another session")
        if batch.number > self._received + 1 or batch.number < 1:
            return self.break_off(f"frame {batch.number} after frame {self._received}")
        if batch.number <= self._received:
            self.duplicates += 1
            return None
        self._received = batch.number
        return Delivered(batch.messages)

    def _again(self, hello: Hello) -> Step | None:
        if hello != self._greeting:
            return self.break_off("second Hello differs from the first")
        self.duplicates += 1
        return None

    def _early(self, batch: Batch) -> Step:
        return self.break_off("messages before Hello")

    def _over(self, frame: Frame) -> None:
        return None

    def _know(self, hello: Hello) -> None:
        self._greeting = hello
        self.peer_minor = hello.minor

    def _fault(self, hello: Hello) -> str:
        """Reason to reject a Hello; "" if it is valid."""
        if hello.major != MAJOR:
            return f"protocol version {hello.major}.{hello.minor}, expected {MAJOR}.{MINOR}"
        if hello.to != self._name:
            return f"Hello for {hello.to!r}, this is {self._name!r}"
        if not hello.name or hello.name == self._name or hello.name != (self.peer or hello.name):
            return f"Hello from {hello.name!r}, expected {self.peer or 'a peer'!r}"
        theirs, ours = divmod(hello.session, 1 << _HALF_BITS)
        if (theirs != self._half) if self.peer else (ours or not 0 <= theirs < 1 << _HALF_BITS):
            return "Hello of another session"
        return ""


_ON: dict[tuple[SessionState, type[Frame]], Callable[[Session, Any], Step | None]] = {
    (SessionState.GREETING, Hello): Session._answered,
    (SessionState.GREETING, Batch): Session._early,
    (SessionState.AWAITING, Hello): Session._greeted,
    (SessionState.AWAITING, Batch): Session._early,
    (SessionState.ANSWERED, Hello): Session._again,
    (SessionState.ANSWERED, Batch): Session._confirmed,
    (SessionState.OPEN, Hello): Session._again,
    (SessionState.OPEN, Batch): Session._continued,
    (SessionState.BROKEN, Hello): Session._over,
    (SessionState.BROKEN, Batch): Session._over,
}
assert _ON.keys() == set(itertools.product(SessionState, (Hello, Batch)))
