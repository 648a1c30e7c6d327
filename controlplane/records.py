"""Decision records of replica scaling and front end scaling, and the log that holds them. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.frontend_policy import FrontEndDecision
from autoscaler.frontend_settings import Size
from autoscaler.input_log import WhatIf
from autoscaler.policy import Decision, Direction
from autoscaler.policy_text import policy_text
from controlplane.answers import (
    DecisionAnswer,
    DifferenceAnswer,
    FrontEndDecisionAnswer,
    FrontEndSizeAnswer,
    VersionWhatIfAnswer,
)
from serving.endpoint import AutoscalePolicy, VersionKey

PER_VERSION = 1000
MOST_MOVES = 2000
"""Changes of all versions that are kept for the history, which reads them every ten seconds."""


@dataclass(slots=True)
class DecisionRecord:
    """One decision. Times are unix seconds."""

    decision: Decision
    at: float
    acted_at: float | None = None
    """Time at which the provider accepted the change; None: not yet, or no change."""
    outcome: str = ""
    """Why the provider has not accepted it: `asked for 4: refused: …`; "" if it has, or was not asked."""


@dataclass(frozen=True, slots=True)
class FrontEndRecord:
    """One decision of front end scaling, made at `at` (unix seconds)."""

    decision: FrontEndDecision
    at: float


class DecisionLog:
    """The last decisions of each declared version, and counts by direction since the start."""

    def __init__(self, per_version: int = PER_VERSION) -> None:
        self._per_version = per_version
        self._records: dict[VersionKey, deque[DecisionRecord]] = {}
        self._acted: dict[VersionKey, tuple[Decision, float]] = {}
        self._refused: dict[VersionKey, tuple[Decision, str]] = {}
        self._counts: Counter[tuple[VersionKey, Direction]] = Counter()
        self._moves: deque[DecisionRecord] = deque(maxlen=MOST_MOVES)

    def add(self, decision: Decision, at: float) -> None:
        """Record a decision made at `at` (unix seconds). May be called before or after `acted`."""
        record = DecisionRecord(decision, at)
        acted = self._acted.get(decision.key)
        if acted is not None and acted[0] == decision:
            record.acted_at = acted[1]
        refused = self._refused.get(decision.key)
        if refused is not None and refused[0] == decision:
            record.outcome = refused[1]
        self._records.setdefault(decision.key, deque(maxlen=self._per_version)).append(record)
        self._counts[decision.key, decision.direction] += 1
        if decision.direction is not Direction.HOLD:
            self._moves.append(record)

    def acted(self, decision: Decision, at: float) -> None:
        """Record that the provider accepted the decision at `at` (unix seconds)."""
        self._acted[decision.key] = (decision, at)
        self._refused.pop(decision.key, None)
        if (record := self._find(decision)) is not None:
            record.acted_at, record.outcome = at, ""

    def refused(self, decision: Decision, outcome: str) -> None:
        """Record why the provider has not accepted the decision. May be called before `add`."""
        self._refused[decision.key] = (decision, outcome)
        if (record := self._find(decision)) is not None:
            record.outcome = outcome

    def _find(self, decision: Decision) -> DecisionRecord | None:
        found = reversed(self._records.get(decision.key, ()))
        return next((record for record in found if record.decision == decision), None)

    def last(self, keys: list[VersionKey], count: int) -> list[DecisionRecord]:
        """The newest `count` records of these versions, newest last."""
        if count <= 0:
            return []
        found = [record for key in keys for record in self._records.get(key, ())]
        return sorted(found, key=lambda record: record.at)[-count:]

    def take_moves(self) -> list[DecisionRecord]:
        """The records of changed numbers since the last call, oldest first; of all versions."""
        moves = list(self._moves)
        self._moves.clear()
        return moves

    def forget(self, key: VersionKey) -> None:
        """Drop the records and counters of a removed version; if it returns, its counters start at 0."""
        self._records.pop(key, None)
        self._acted.pop(key, None)
        self._refused.pop(key, None)
        self._moves = deque((each for each in self._moves if each.decision.key != key), maxlen=MOST_MOVES)
        for direction in Direction:
            self._counts.pop((key, direction), None)

    def counts(self) -> Mapping[tuple[VersionKey, Direction], int]:
        """Decisions of declared versions since the start, by version and direction."""
        return self._counts


def to_answer(record: DecisionRecord) -> DecisionAnswer:
    """A record as served by REST."""
    decision, seen = record.decision, record.decision.observation
    return DecisionAnswer(
        at=record.at,
        acted_at=record.acted_at,
        version=decision.key.version,
        previous=decision.previous,
        desired=decision.desired,
        wanted=decision.wanted,
        direction=decision.direction,
        rule=decision.rule,
        reason=decision.reason,
        outcome=record.outcome,
        demand=decision.demand,
        busy=seen.busy,
        busy_mean=seen.busy_mean,
        waiting=seen.waiting,
        total_slots=seen.total_slots,
    )


def what_if_answer(version: str, policy: AutoscalePolicy, found: WhatIf) -> VersionWhatIfAnswer:
    """The outcome of a replay as served by REST.

    version: name of the version.
    policy: the changed policy.
    found: the outcome, in unix seconds.
    """
    return VersionWhatIfAnswer(
        version=version,
        policy=policy_text(policy),
        from_=found.from_s,
        to=found.to_s,
        recorded_replica_seconds=found.recorded_replica_seconds,
        what_if_replica_seconds=found.alternative_replica_seconds,
        differences=[
            DifferenceAnswer(each.from_s, each.to_s, each.recorded, each.alternative, each.reason)
            for each in found.differences
        ],
    )


def front_end_answer(record: FrontEndRecord) -> FrontEndDecisionAnswer:
    """A record of front end scaling as served by REST."""
    decision = record.decision
    return FrontEndDecisionAnswer(
        at=record.at,
        previous=_size(decision.previous),
        desired=_size(decision.desired),
        direction=decision.direction,
        rule=decision.rule,
        reason=decision.reason,
    )


def _size(size: Size) -> FrontEndSizeAnswer:
    return FrontEndSizeAnswer(size.workers, size.routers)
