"""The state machine of operations, as a table. Pure.

An operation runs its steps in order. What it has declared by the time it fails, is cancelled or takes too long, is
taken back before it ends, so a kill in between leaves it in the phase UNDOING, not half declared.
"""

import itertools
from dataclasses import dataclass, replace
from enum import StrEnum

from workspace.deployments.records import (
    STEPS,
    DeploymentOperation,
    OperationError,
    OperationState,
    OperationStep,
    StepRecord,
)


class Phase(StrEnum):
    """Phase of an operation inside the runner."""

    NEW = "new"
    RUNNING = "running"
    UNDOING = "undoing"
    ENDED = "ended"


class Happening(StrEnum):
    """Kind of an event in the life of an operation."""

    BEGIN = "begin"
    """The runner takes it up, for the first time or after a restart."""
    STEP_DONE = "step done"
    FAIL = "fail"
    CANCEL = "cancel"
    TIME_OVER = "time over"
    UNDONE = "undone"
    """What it had declared is taken back."""


class Effect(StrEnum):
    """Action of the runner after a transition; every transition is saved first."""

    RUN_STEP = "run step"
    STOP_STEP = "stop step"
    UNDO = "undo"
    END = "end"


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """Event in the life of an operation."""

    happening: Happening
    error: OperationError | None = None
    """Reason, for FAIL, CANCEL and TIME_OVER."""
    note: str = ""
    """Result of the step, for STEP_DONE."""


Moves = dict[tuple[Phase, Happening], tuple[Phase, tuple[Effect, ...]]]


def _table(moves: Moves) -> Moves:
    """`moves`, completed by staying in place without an effect."""
    return {pair: moves.get(pair, (pair[0], ())) for pair in itertools.product(Phase, Happening)}


TABLE: Moves = _table(
    {
        (Phase.NEW, Happening.BEGIN): (Phase.RUNNING, (Effect.RUN_STEP,)),
        (Phase.NEW, Happening.CANCEL): (Phase.ENDED, (Effect.END,)),
        (Phase.RUNNING, Happening.BEGIN): (Phase.RUNNING, (Effect.RUN_STEP,)),
        (Phase.RUNNING, Happening.STEP_DONE): (Phase.RUNNING, (Effect.RUN_STEP,)),
        (Phase.RUNNING, Happening.FAIL): (Phase.UNDOING, (Effect.UNDO,)),
        (Phase.RUNNING, Happening.CANCEL): (Phase.UNDOING, (Effect.STOP_STEP, Effect.UNDO)),
        (Phase.RUNNING, Happening.TIME_OVER): (Phase.UNDOING, (Effect.STOP_STEP, Effect.UNDO)),
        (Phase.UNDOING, Happening.BEGIN): (Phase.UNDOING, (Effect.UNDO,)),
        (Phase.UNDOING, Happening.UNDONE): (Phase.ENDED, (Effect.END,)),
    }
)
"""(Phase, happening) -> next phase and effects. STEP_DONE of the last step ends the operation instead."""

OUTCOMES = {
    Happening.FAIL: OperationState.FAILED,
    Happening.CANCEL: OperationState.CANCELLED,
    Happening.TIME_OVER: OperationState.TIMED_OUT,
}
"""Happening -> state in which the operation ends."""


def phase_of(operation: DeploymentOperation) -> Phase:
    """The phase of an operation."""
    if operation.is_ended:
        return Phase.ENDED
    if operation.undoing is not None:
        return Phase.UNDOING
    return Phase.NEW if operation.state is OperationState.NOT_STARTED else Phase.RUNNING


def advance(
    operation: DeploymentOperation, event: OperationEvent, now: float
) -> tuple[DeploymentOperation, tuple[Effect, ...]]:
    """The operation after an event, and the actions to take.

    operation: before the event.
    event: the event; without effect if it does not fit the phase.
    now: unix seconds.
    """
    before = phase_of(operation)
    phase, effects = TABLE[before, event.happening]
    if not effects:
        return operation, ()
    if event.happening in OUTCOMES:
        outcome = OUTCOMES[event.happening]
        failed = replace(_step_ended(operation, now), error=event.error)
        if phase is Phase.ENDED:
            return replace(failed, state=outcome, ended=now), effects
        return replace(failed, undoing=outcome), effects
    if event.happening is Happening.UNDONE:
        return replace(operation, state=operation.undoing or OperationState.FAILED, undoing=None, ended=now), effects
    if before is Phase.UNDOING:
        return operation, effects
    if event.happening is Happening.STEP_DONE:
        operation = _step_ended(operation, now, event.note)
        step = following(operation)
    else:
        step = operation.step or following(operation)
    if step is None:
        return replace(operation, state=OperationState.SUCCEEDED, ended=now), (Effect.END,)
    return _step_begun(operation, step, now), effects


def following(operation: DeploymentOperation) -> OperationStep | None:
    """The step after the current one; None after the last."""
    steps = STEPS[operation.kind]
    if operation.step is None:
        return steps[0] if steps else None
    place = steps.index(operation.step) + 1
    return steps[place] if place < len(steps) else None


def _step_begun(operation: DeploymentOperation, step: OperationStep, now: float) -> DeploymentOperation:
    """The operation in `step`; a step that is run again after a restart keeps its first time."""
    begun = operation.steps
    if not any(each.step is step for each in begun):
        begun = (*begun, StepRecord(step, now))
    return replace(operation, state=OperationState.RUNNING, step=step, steps=begun)


def _step_ended(operation: DeploymentOperation, now: float, note: str = "") -> DeploymentOperation:
    steps = tuple(
        replace(each, ended=now, note=note) if each.step is operation.step and each.ended is None else each
        for each in operation.steps
    )
    return replace(operation, steps=steps)
