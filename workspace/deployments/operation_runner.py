"""Running of operations, step by step, to their end."""

import asyncio
import logging

from cluster.owned_tasks import OwnedTasks
from controlplane.control_errors import ControlError
from serving.clock import Clock
from serving.faults import InvalidManifest
from serving.printable import one_record
from workspace.deployments.deployment_steps import DeploymentSteps, OutOfTime, StepFailure
from workspace.deployments.operation_course import OperationCourse
from workspace.deployments.operation_journal import OperationJournal
from workspace.deployments.operation_states import Happening, Phase, phase_of
from workspace.deployments.records import OperationError

UNDO_AGAIN_S = 5.0
"""Pause before what an operation has declared is taken back again, after the store has refused."""

_log = logging.getLogger(__name__)


class OperationRunner:
    """Runs each operation in a task of its own; those that are stopped go on at the next start."""

    def __init__(self, journal: OperationJournal, steps: DeploymentSteps, clock: Clock) -> None:
        """`journal`: gets ended operations. `steps`: of deployments. `clock`: event-loop clock."""
        self._journal = journal
        self._steps = steps
        self._clock = clock
        self._tasks = OwnedTasks()

    def run(self, course: OperationCourse) -> None:
        """Run an operation from its current step on, in the background."""
        self._tasks.spawn(self._drive(course), name=f"operation {course.record.id}")

    async def close(self) -> None:
        """Stop all operations where they are."""
        await self._tasks.close()

    async def _drive(self, course: OperationCourse) -> None:
        await course.handle(Happening.BEGIN)
        while (phase := phase_of(course.operation)) is not Phase.ENDED:
            if phase is Phase.UNDOING:
                await self._undo(course)
            else:
                await self._step(course)
        self._journal.close(course)
        operation, error = course.operation, course.operation.error
        level = logging.INFO if error is None else logging.WARNING
        reason = "" if error is None else f": {one_record(error.message)}"
        _log.log(level, "operation %s of endpoint %s: %s%s", operation.id, operation.endpoint, operation.state, reason)

    async def _step(self, course: OperationCourse) -> None:
        step = course.operation.step
        if step is None:
            raise RuntimeError("an operation in progress has a step")
        course.step = asyncio.create_task(self._steps.run(step, course), name=f"{step} of {course.record.id}")
        try:
            note = await course.step
        except asyncio.CancelledError:
            runner = asyncio.current_task()
            if not course.is_stopped or (runner is not None and runner.cancelling()):
                raise
        except StepFailure as error:
            happening = Happening.TIME_OVER if isinstance(error, OutOfTime) else Happening.FAIL
            await course.handle(happening, OperationError(error.code, str(error), step, error.log_tail))
        except Exception as error:
            _log.exception("operation %s: step %s: internal error", course.record.id, step)
            await course.handle(Happening.FAIL, OperationError("Internal", f"internal error: {error!r}", step))
        else:
            await course.handle(Happening.STEP_DONE, note=note)
        finally:
            course.step = None

    async def _undo(self, course: OperationCourse) -> None:
        """Take back what the operation has declared; repeated while the store refuses."""
        course.record = course.record.without_keys()
        warned = False
        while True:
            try:
                note = await self._steps.undo(course.record)
                break
            except InvalidManifest as error:  # files of the former version are gone: no repetition brings them back
                note = f"the former version cannot be declared again: {error}"
                break
            except ControlError as error:
                if not warned:
                    _log.warning("operation %s: its declaration cannot be taken back yet: %s", course.record.id, error)
                warned = True
            await self._clock.sleep(UNDO_AGAIN_S)
        if note:
            course.log(note)
        await course.handle(Happening.UNDONE)
