"""Quarantine: slots of a dead worker stay reserved for one lease, because its replicas may still be busy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from router.core.timers import Timers
from router.core.view import Departed


@dataclass(frozen=True, slots=True)
class DeadMember:
    """A member that died less than a lease ago."""

    in_flight: Mapping[str, int] | None
    """Requests in flight at its death, by replica; None: unknown."""
    until: float
    """End of the quarantine."""


class Quarantine:
    """Members that died less than a lease ago."""

    def __init__(self, lease_s: float, timers: Timers, on_end: Callable[[float], list[Any]]) -> None:
        """`lease_s`: length of a quarantine. `timers`: timers of the group. `on_end`: called after each end."""
        self.members: dict[str, DeadMember] = {}
        self._lease_s = lease_s
        self._timers = timers
        self._on_end = on_end
        self._known: set[str] = set()

    @property
    def unknown_use(self) -> bool:
        """True if a dead member is in quarantine whose requests in flight are unknown."""
        return any(dead.in_flight is None for dead in self.members.values())

    def add(self, departed: tuple[Departed, ...], now: float) -> tuple[str, ...]:
        """Start the quarantine of departed members.

        Returns the names whose requests in flight are new: seen for the first time, or unknown until now.
        """
        new = [one for one in departed if one.name not in self._known]
        self._known = {one.name for one in departed} | set(self.members)
        for one in new:
            until = now + max(0.0, self._lease_s - one.age_s)
            if until > now:
                self.members[one.name] = DeadMember(one.held, until)
                self._known.add(one.name)
                self._timers.at(until, self._end, one.name)
        found = [one for one in departed if one.held is not None and self._is_unknown(one.name)]
        for one in found:
            self.members[one.name] = DeadMember(one.held, self.members[one.name].until)
        return tuple(one.name for one in (*new, *found))

    def _is_unknown(self, name: str) -> bool:
        dead = self.members.get(name)
        return dead is not None and dead.in_flight is None

    def _end(self, name: str, now: float) -> list[Any]:
        del self.members[name]
        return self._on_end(now)
