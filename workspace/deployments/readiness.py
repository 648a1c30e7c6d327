"""Judgement of a started version by its replicas: ready, failed, or neither yet. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from serving.replica import Replica, ReplicaState


class Verdict(StrEnum):
    """Condition of a started version."""

    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict on a version, and its reason for people."""

    verdict: Verdict
    reason: str = ""
    replica: str = ""
    """Id of the failed replica."""


def judge(replicas: Iterable[Replica], template: str, needed: int, served: Collection[str]) -> Judgement:
    """The condition of a version.

    replicas: all of the version.
    template: digest of its declared replica template; others are of an earlier declaration.
    needed: replicas that must be ready.
    served: ids of replicas that were ready before: their failure is none of the start.
    """
    own = [each for each in replicas if each.template == template and each.state is not ReplicaState.DRAINING]
    ready = sum(each.state is ReplicaState.READY for each in own)
    if ready >= needed:
        return Judgement(Verdict.READY)
    for each in own:
        if each.state is ReplicaState.FAILED and each.id not in served:
            return Judgement(Verdict.FAILED, each.reason or "has failed", each.id)
    reasons = [each.reason for each in own if each.reason and each.state is ReplicaState.STARTING]
    return Judgement(Verdict.WAITING, reasons[0] if reasons else f"{ready} of {needed} replicas ready")
