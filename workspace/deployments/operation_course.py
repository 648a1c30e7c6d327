"""One operation in progress: its record in memory and on disk, its log and its followers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from controlplane.control_errors import StoreError
from serving.printable import one_record
from workspace.deployments.operation_files import OperationFiles
from workspace.deployments.operation_states import Effect, Happening, OperationEvent, advance
from workspace.deployments.records import DeploymentOperation, DeploymentRecord, OperationError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def whole(work: Awaitable[_T]) -> _T:
    """The result of `work`, which runs to its end also if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class OperationCourse:
    """Single writer of the record of one operation that has not ended."""

    def __init__(self, record: DeploymentRecord, files: OperationFiles, wall: Callable[[], float]) -> None:
        """`record`: known so far. `files`: keeps it. `wall`: unix seconds."""
        self.record = record
        self.is_stopped = False
        """True once the step in progress shall end."""
        self.step: asyncio.Task[Any] | None = None
        """The step in progress."""
        self.ended = asyncio.Event()
        self._files = files
        self._wall = wall
        self._saving = asyncio.Lock()
        self._followers: set[asyncio.Event] = set()

    @property
    def operation(self) -> DeploymentOperation:
        """The operation as it is now."""
        return self.record.operation

    def log(self, text: str) -> None:
        """Add lines to the log."""
        self._files.append(self.record.id, text, self._wall())
        self._tell_followers()

    async def keep(self, **changes: Any) -> None:
        """Change fields of the record and save it. Raises StoreError; the record in memory has the changes."""
        self.record = replace(self.record, **changes)
        await whole(self._save())

    async def handle(self, happening: Happening, error: OperationError | None = None, note: str = "") -> None:
        """Apply an event, save and log its outcome. A full disk does not stop the operation.

        happening: kind of the event. error: its reason. note: result of the step.
        """
        before = self.operation
        after, effects = advance(before, OperationEvent(happening, error, note), self._wall())
        if not effects:
            return
        self.record = replace(self.record, operation=after)
        for line in story(before, after, note):
            self.log(line)
        if Effect.STOP_STEP in effects:
            self.is_stopped = True
            if self.step is not None:
                self.step.cancel()
        try:
            await whole(self._save())
        except StoreError as refused:
            _log.warning("operation %s: not saved, a restart repeats its last step: %s", self.record.id, refused)

    def finish(self) -> None:
        """Announce the end."""
        self.ended.set()
        self._tell_followers()

    async def follow(self, follower: asyncio.Event) -> None:
        """Wait until the log has more lines or the operation has ended. `follower`: the caller's own event."""
        self._followers.add(follower)
        try:
            await follower.wait()
            follower.clear()
        finally:
            self._followers.discard(follower)

    async def _save(self) -> None:
        async with self._saving:
            await asyncio.to_thread(self._files.save, self.record)

    def _tell_followers(self) -> None:
        for follower in self._followers:
            follower.set()


def story(before: DeploymentOperation, after: DeploymentOperation, note: str) -> list[str]:
    """Log lines on a transition.

    before, after: the operation. note: result of the step that has ended.
    """
    lines = []
    for step in after.steps:
        was = next((each for each in before.steps if each.step is step.step), None)
        if step.ended is not None and (was is None or was.ended is None) and after.error is None:
            lines.append(f"{step.step.value}: {note or 'done'} ({step.ended - step.began:.1f} s)")
    if after.step is not before.step and after.step is not None and not after.is_ended:
        lines.append(f"{after.step.value} …")
    elif after.state is before.state and after.step is not None and after.undoing is None:
        lines.append(f"{after.step.value} again, after a restart …")
    if after.error is not None and before.error is None:
        where = f"{after.error.step.value}: " if after.error.step is not None else ""
        lines.append(f"{where}{one_record(after.error.message)}")
        lines.extend(f"  | {line}" for line in after.error.log_tail)
    if after.is_ended:
        lines.append(
            f"{after.kind.value} {after.state.value} after {(after.ended or after.created) - after.created:.1f} s"
        )
    return lines
