"""Connections of a control or admin port: limits, deadlines, choice of the one to cut. Pure.

Every function takes `now`, seconds on one monotonic clock.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto

BODY_BYTES_PER_S = 65_536
"""A body gets one more second for each of these: the clock stops slow senders, not large bodies."""
END_S = 2.0
"""From the end of a deadline until the connection is aborted; its last answer is sent meanwhile."""


@dataclass(frozen=True, slots=True)
class PortLimits:
    """Limits of one control or admin port; `ports.timed_port.port_limits` reads them."""

    max_connections: int = 256
    """Connections at one time, TLS handshakes included; one address may hold half of them."""
    head_timeout_s: float = 10.0
    """From the connection, or from the first byte of a further request, to the end of the head."""
    body_timeout_s: float = 30.0
    """From the end of the head to the end of the body, and one second more for each 64 KiB received."""
    idle_timeout_s: float = 75.0
    """Without a request on a kept connection."""

    @property
    def share(self) -> int:
        """Connections of one address."""
        return max(1, self.max_connections // 2)


class PortPhase(Enum):
    """Phase of a connection."""

    HEAD = auto()
    """TLS handshake or request head."""
    BODY = auto()
    """The rest of a request body."""
    WORK = auto()
    """The answer; without a deadline, since a followed log has no end."""
    IDLE = auto()
    """The first byte of the next request."""
    ENDING = auto()
    """Its own end."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Result for a new connection: accepted or not, and the connection to cut for it."""

    accepted: bool
    cut: int | None = None


@dataclass(slots=True)
class _Held:
    holder: Hashable | None
    since_s: float
    phase: PortPhase = PortPhase.HEAD
    known: bool = False
    body_bytes: int = 0
    next_head_s: float | None = None


class ConnectionTable:
    """The connections of one port, by number."""

    def __init__(self, limits: PortLimits) -> None:
        self._limits = limits
        self._held: dict[int, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def phase(self, number: int) -> PortPhase | None:
        """None: no such connection."""
        held = self._held.get(number)
        return None if held is None else held.phase

    def admit(self, number: int, holder: Hashable | None, now: float) -> Admission:
        """Add a new connection in phase HEAD.

        `holder`: the address or user that shares are counted by; None: exempt from shares. When the table or the
        holder's share is full, the longest-waiting connection that has no request under way is cut: one without an
        accepted credential before any other. If all have a request under way, the new one is refused.
        """
        cut = None
        mine = [key for key, held in self._held.items() if held.holder == holder] if holder is not None else []
        if len(mine) >= self._limits.share:
            cut = self._longest_waiting(mine)
        elif len(self._held) >= self._limits.max_connections:
            cut = self._longest_waiting(list(self._held))
        else:
            self._held[number] = _Held(holder, now)
            return Admission(True)
        if cut is None:
            return Admission(False)
        del self._held[cut]
        self._held[number] = _Held(holder, now)
        return Admission(True, cut)

    def spare(self) -> int | None:
        """The connection to cut when descriptors run out; removed from the table."""
        cut = self._longest_waiting(list(self._held))
        if cut is not None:
            del self._held[cut]
        return cut

    def received(self, number: int, size_bytes: int, now: float) -> None:
        """Bytes have come: of a body, or the first ones of a head."""
        held = self._held.get(number)
        if held is None:
            return
        if held.phase is PortPhase.BODY:
            held.body_bytes += size_bytes
        elif held.phase is PortPhase.IDLE:
            held.phase, held.since_s = PortPhase.HEAD, now
        elif held.phase is PortPhase.WORK and held.next_head_s is None:
            held.next_head_s = now

    def began(self, number: int, has_body: bool, now: float) -> None:
        """A head is whole. `has_body`: some of the body is still to come."""
        held = self._held.get(number)
        if held is not None and held.phase is not PortPhase.ENDING:
            held.phase, held.since_s = PortPhase.BODY if has_body else PortPhase.WORK, now
            held.body_bytes, held.next_head_s = 0, None

    def body_ended(self, number: int, now: float) -> None:
        """The body is whole."""
        held = self._held.get(number)
        if held is not None and held.phase is PortPhase.BODY:
            held.phase, held.since_s = PortPhase.WORK, now

    def answered(self, number: int, known: bool, now: float) -> None:
        """The answer is written. `known`: the request had an accepted credential."""
        held = self._held.get(number)
        if held is None or held.phase is PortPhase.ENDING:
            return
        held.known = held.known or known
        if held.next_head_s is None:
            held.phase, held.since_s = PortPhase.IDLE, now
        else:
            held.phase, held.since_s, held.next_head_s = PortPhase.HEAD, held.next_head_s, None

    def gone(self, number: int) -> None:
        """The connection is closed; twice is harmless."""
        self._held.pop(number, None)

    def overdue(self, now: float) -> list[tuple[int, PortPhase]]:
        """Connections past their deadline, with their phase, which becomes ENDING."""
        found = [(number, held.phase) for number, held in self._held.items() if now >= self._deadline_s(held)]
        for number, _ in found:
            self._held[number].phase, self._held[number].since_s = PortPhase.ENDING, now
        return found

    def _deadline_s(self, held: _Held) -> float:
        match held.phase:
            case PortPhase.HEAD:
                return held.since_s + self._limits.head_timeout_s
            case PortPhase.BODY:
                return held.since_s + self._limits.body_timeout_s + held.body_bytes / BODY_BYTES_PER_S
            case PortPhase.IDLE:
                return held.since_s + self._limits.idle_timeout_s
            case PortPhase.ENDING:
                return held.since_s + END_S
            case PortPhase.WORK:
                return math.inf

    def _longest_waiting(self, numbers: list[int]) -> int | None:
        waiting = [number for number in numbers if self._may_be_cut(self._held[number])]
        return min(waiting, key=lambda number: (self._held[number].known, self._held[number].since_s), default=None)

    @staticmethod
    def _may_be_cut(held: _Held) -> bool:
        return held.phase in (PortPhase.HEAD, PortPhase.IDLE, PortPhase.ENDING) or (
            held.phase is PortPhase.BODY and not held.known
        )
