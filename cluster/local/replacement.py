"""Which replicas of one version to start and which to retire: scaling and rolling replacement in one rule. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

SURGE = 0.25
"""Share of the wanted number that a rolling replacement may have on top, at least one replica."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One replica that is not on its way out."""

    id: str
    age: int
    """Order of starting: the higher, the younger."""
    ready: bool
    current: bool
    """It was started from the template that is declared now."""


@dataclass(frozen=True, slots=True)
class ReplacementPlan:
    """What to do now; when it has taken effect, plan again."""

    start: int = 0
    retire: tuple[str, ...] = ()


def plan(wanted: int, standing: Sequence[Standing]) -> ReplacementPlan:
    """Steer towards `wanted` replicas of the current template without ever serving with fewer than can be helped.

    Too many of the current template: those not READY go first, then the youngest. Replicas of an older template go as
    soon as they serve nothing, or as many current ones are READY; a template that never gets ready costs no old one.
    """
    current = [one for one in standing if one.current]
    old = [one for one in standing if not one.current]
    surplus = len(current) - wanted
    retire = sorted(current, key=lambda one: (one.ready, -one.age))[: max(0, surplus)]
    serving = sum(one.ready for one in current) - sum(one.ready for one in retire)

    useful = sorted((one for one in old if one.ready), key=lambda one: one.age)
    kept = useful[: max(0, wanted - serving)]
    retire += [one for one in old if one not in kept]

    room = wanted - len(current)
    if kept:
        surge = max(1, int(wanted * SURGE))
        room = min(room, wanted + surge - len(current) - len(kept))
    return ReplacementPlan(start=max(0, room), retire=tuple(one.id for one in retire))
