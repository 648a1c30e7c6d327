"""The state machine of operations: steps in order, ways to end, nothing ends before it is taken back."""

import itertools

import pytest

from workspace.deployments.operation_states import (
    TABLE,
    Effect,
    Happening,
    OperationEvent,
    Phase,
    advance,
    phase_of,
)
from workspace.deployments.records import (
    STEPS,
    DeploymentOperation,
    OperationError,
    OperationKind,
    OperationState,
    OperationStep,
)

ERROR = OperationError("Broken", "it broke")
FAILURES = [
    (Happening.FAIL, OperationState.FAILED),
    (Happening.CANCEL, OperationState.CANCELLED),
    (Happening.TIME_OVER, OperationState.TIMED_OUT),
]


def new(kind: OperationKind = OperationKind.CREATE) -> DeploymentOperation:
    return DeploymentOperation("1", kind, "iris", "blue", created=1.0)


def after(operation: DeploymentOperation, *happenings: Happening) -> tuple[DeploymentOperation, tuple[Effect, ...]]:
    """The operation after events at 2.0, 3.0, …, and the effects of the last one."""
    effects: tuple[Effect, ...] = ()
    for now, happening in enumerate(happenings, start=2):
        operation, effects = advance(operation, OperationEvent(happening, ERROR, "note"), float(now))
    return operation, effects


def test_the_steps_run_in_order_and_the_last_one_succeeds() -> None:
    operation, steps = new(), []
    operation, effects = advance(operation, OperationEvent(Happening.BEGIN), 2.0)
    while not operation.is_ended:
        assert effects == (Effect.RUN_STEP,)
        steps.append(operation.step)
        operation, effects = advance(operation, OperationEvent(Happening.STEP_DONE, note="note"), 3.0)
    assert tuple(steps) == STEPS[OperationKind.CREATE]
    assert (operation.state, operation.ended, effects) == (OperationState.SUCCEEDED, 3.0, (Effect.END,))
    assert all(each.ended == 3.0 and each.note == "note" for each in operation.steps)


def test_an_operation_without_steps_succeeds_at_once() -> None:
    operation, effects = after(new(OperationKind.DELETE), Happening.BEGIN)
    assert (operation.state, effects) == (OperationState.SUCCEEDED, (Effect.END,))


@pytest.mark.parametrize(("happening", "outcome"), FAILURES)
def test_what_was_declared_is_taken_back_before_the_operation_ends(
    happening: Happening, outcome: OperationState
) -> None:
    operation, effects = after(new(), Happening.BEGIN, happening)
    assert (operation.state, operation.undoing, operation.ended) == (OperationState.RUNNING, outcome, None)
    assert Effect.UNDO in effects
    operation, effects = after(operation, Happening.UNDONE)
    assert (operation.state, operation.error, effects) == (outcome, ERROR, (Effect.END,))


def test_an_operation_that_has_not_begun_is_cancelled_at_once() -> None:
    operation, effects = after(new(), Happening.CANCEL)
    assert (operation.state, effects) == (OperationState.CANCELLED, (Effect.END,))


def test_after_a_restart_the_current_step_runs_again_with_its_first_time() -> None:
    operation, _ = after(new(), Happening.BEGIN, Happening.STEP_DONE)
    again, effects = advance(operation, OperationEvent(Happening.BEGIN), 99.0)
    assert (again, effects) == (operation, (Effect.RUN_STEP,))
    assert again.step is OperationStep.SNAPSHOT


def test_after_a_restart_the_way_back_goes_on() -> None:
    operation, _ = after(new(), Happening.BEGIN, Happening.FAIL)
    again, effects = advance(operation, OperationEvent(Happening.BEGIN), 99.0)
    assert (again, effects) == (operation, (Effect.UNDO,))


@pytest.mark.parametrize("happening", Happening)
def test_an_ended_operation_never_changes(happening: Happening) -> None:
    operation, _ = after(new(), Happening.CANCEL)
    assert advance(operation, OperationEvent(happening, ERROR), 99.0) == (operation, ())


@pytest.mark.parametrize("first", FAILURES)
@pytest.mark.parametrize("second", FAILURES)
def test_the_first_failure_decides(
    first: tuple[Happening, OperationState], second: tuple[Happening, OperationState]
) -> None:
    operation, _ = after(new(), Happening.BEGIN, first[0], second[0], Happening.UNDONE)
    assert operation.state is first[1]


def test_the_table_is_complete_and_only_the_end_has_no_way_out() -> None:
    assert TABLE.keys() == set(itertools.product(Phase, Happening))
    for phase in Phase:
        leads_on = any(TABLE[phase, happening][1] for happening in Happening)
        assert leads_on is (phase is not Phase.ENDED)


def test_whatever_happens_the_phase_is_that_of_the_table() -> None:
    for events in itertools.product(Happening, repeat=4):
        operation = new()
        for happening in events:
            phase = phase_of(operation)
            operation, _ = advance(operation, OperationEvent(happening, ERROR), 2.0)
            assert phase_of(operation) is TABLE[phase, happening][0]
            assert (operation.ended is not None) is operation.is_ended
