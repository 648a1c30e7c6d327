"""Replicas of one version to start and to retire: scaling and rolling replacement in one rule. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

SURGE = 0.25
"""Share of the wanted number that a rolling replacement may add, at least one replica."""


@dataclass(frozen=True, slots=True)
class ActiveReplica:
    """A replica that is not being removed."""

    id: str
    age: int
    """Order of start: higher is younger."""
    ready: bool
    current: bool
    """It was started from the current template."""


@dataclass(frozen=True, slots=True)
class ReplacementPlan:
    """Steps to take now; when they have taken effect, plan again."""

    start: int = 0
    retire: tuple[str, ...] = ()


def plan(wanted: int, active: Sequence[ActiveReplica]) -> ReplacementPlan:
    """Steps towards `wanted` replicas of the current template, with as many serving replicas as possible at all times.

    Surplus of the current template: those not READY go first, then the youngest. Replicas of older templates go as soon
    as they do not serve, or as many current ones are READY; a template that never gets ready removes no old one.
    """
    current = [one for one in active if one.current]
    old = [one for one in active if not one.current]
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
