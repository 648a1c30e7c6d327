"""One end of a session: frames in order, each once, or the session is broken. Pure.

The end that connects says Hello, the other answers, and the first batch confirms: only then is the session open at
both, and no end can take an old connection, whose maker has long given up, for a new one. Whatever is odd breaks it;
both ends then begin anew, with a Declare.
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
    """Of one end."""

    GREETING = "greeting"
    """It has connected and said Hello."""
    AWAITING = "awaiting"
    """It was connected to, and knows nothing of the other."""
    ANSWERED = "answered"
    """It has answered the Hello of the other."""
    OPEN = "open"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Answered:
    """`peer` says Hello: send `hello`, or, where it is not admit, break off."""

    peer: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class Opened:
    """Messages may be sent from now on; `confirm` goes before them (None: nothing to confirm)."""

    confirm: Batch | None
    messages: tuple[PeerMessage, ...]
    """The first ones of the other."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Messages of the other, in their order."""

    messages: tuple[PeerMessage, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """Nothing more goes over this session."""

    reason: str


Step = Answered | Opened | Delivered | Broken


class Session:
    """`peer` is the name of the other end; "" until it is known."""

    __slots__ = (
        *("_greeting", "_half", "_id", "_name", "_received", "_sent"),
        *("duplicates", "peer", "peer_minor", "state"),
    )

    def __init__(self, name: str, peer: str, half: int) -> None:
        """`name`: of this end. `peer`: to whom it has connected; "" where the other has. `half`: 32 random bits."""
        self._name = name
        self._half = half
        self._id = 0
        self._greeting: Hello | None = None
        self._sent = self._received = 0
        self.peer = peer
        self.peer_minor = 0
        self.state = SessionState.GREETING if peer else SessionState.AWAITING
        self.duplicates = 0
        """Frames that came twice, and were dropped."""

    def greet(self) -> Hello:
        """What the end that has connected sends first."""
        return Hello(MAJOR, MINOR, self._name, self.peer, self._half << _HALF_BITS)

    def pack(self, messages: tuple[PeerMessage, ...]) -> Batch:
        """The next frame to send; only on a session that is open."""
        assert self.state is SessionState.OPEN
        self._sent += 1
        return Batch(self._id, self._sent, messages)

    def receive(self, frame: Frame) -> Step | None:
        """What to do about a frame of the other end; None: nothing."""
        return _ON[self.state, type(frame)](self, frame)

    def break_off(self, reason: str) -> Broken:
        """For a reason of this end or of the channel."""
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
            return self.break_off("a frame of another session")
        if batch.number > self._received + 1 or batch.number < 1:
            return self.break_off(f"frame {batch.number} after frame {self._received}")
        if batch.number <= self._received:
            self.duplicates += 1
            return None
        self._received = batch.number
        return Delivered(batch.messages)

    def _again(self, hello: Hello) -> Step | None:
        if hello != self._greeting:
            return self.break_off("a second Hello, unlike the first")
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
        """Why this cannot be the Hello of a peer; "" where it can."""
        if hello.major != MAJOR:
            return f"it speaks version {hello.major}.{hello.minor} of the protocol, this is {MAJOR}.{MINOR}"
        if hello.to != self._name:
            return f"it wants to talk to {hello.to!r}, this is {self._name!r}"
        if not hello.name or hello.name == self._name or hello.name != (self.peer or hello.name):
            return f"it is {hello.name!r}, not {self.peer or 'a peer'!r}"
        theirs, ours = divmod(hello.session, 1 << _HALF_BITS)
        if (theirs != self._half) if self.peer else (ours or not 0 <= theirs < 1 << _HALF_BITS):
            return "a Hello of another session"
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
