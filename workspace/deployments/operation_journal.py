"""All known operations: records of ended ones, courses of those in progress, and their logs."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace

from cluster.timed_line import TimedLine
from controlplane.control_errors import ConflictingChange, ControlError
from workspace.deployments.operation_course import OperationCourse
from workspace.deployments.operation_files import OperationFiles
from workspace.deployments.records import DeploymentOperation, DeploymentRecord


class NoSuchOperation(ControlError):
    """There is no operation of that id."""

    status = 404
    code = "OperationNotFound"

    def __init__(self, operation: str) -> None:
        super().__init__(f"there is no operation '{operation}'")


class OperationJournal:
    """Operations by id; at most one of an endpoint is in progress."""

    def __init__(self, files: OperationFiles, wall: Callable[[], float]) -> None:
        """An empty journal. `files`: keeps it. `wall`: unix seconds."""
        self._files = files
        self._wall = wall
        self._ended: dict[str, DeploymentRecord] = {}
        """By id, in the order of their ends."""
        self._courses: dict[str, OperationCourse] = {}
        self._busy: dict[str, str] = {}
        """Endpoint -> id of its operation in progress."""

    async def load(self) -> tuple[OperationCourse, ...]:
        """Read all records; the courses of those that have not ended. Raises StoreError."""
        for record in await asyncio.to_thread(self._files.load):
            if record.operation.is_ended:
                self._ended[record.id] = record
            else:
                self._courses[record.id] = OperationCourse(record, self._files, self._wall)
                self._busy[record.operation.endpoint] = record.id
        return tuple(self._courses.values())

    # ---- changes

    async def open(self, record: DeploymentRecord) -> OperationCourse:
        """Save a new operation. Raises ConflictingChange while another one of its endpoint is in progress; StoreError.

        Earlier failures of the endpoint are forgotten.
        """
        endpoint = record.operation.endpoint
        if (running := self._busy.get(endpoint)) is not None:
            raise ConflictingChange(f"operation '{running}' of endpoint '{endpoint}' is in progress; wait or cancel it")
        self._busy[endpoint] = record.id
        course = OperationCourse(record, self._files, self._wall)
        try:
            await course.keep()
            await self.dismiss(endpoint)
        except BaseException:
            del self._busy[endpoint]
            raise
        self._courses[record.id] = course
        return course

    def close(self, course: OperationCourse) -> None:
        """Move an ended operation to the records."""
        self._ended[course.record.id] = course.record
        self._courses.pop(course.record.id, None)
        if self._busy.get(course.operation.endpoint) == course.record.id:
            del self._busy[course.operation.endpoint]
        course.finish()

    async def dismiss(self, endpoint: str) -> None:
        """Forget the failures of an endpoint that is deployed again or deleted. Raises StoreError."""
        for record in list(self._ended.values()):
            if record.operation.endpoint == endpoint and record.operation.error is not None and not record.dismissed:
                self._ended[record.id] = replace(record, dismissed=True)
                await asyncio.to_thread(self._files.save, self._ended[record.id])

    async def drop(self, operation: str) -> None:
        """Remove an ended operation and its log. Raises StoreError."""
        self._ended.pop(operation, None)
        await asyncio.to_thread(self._files.remove, operation)

    # ---- queries

    def record(self, operation: str) -> DeploymentRecord:
        """The record of an operation. Raises NoSuchOperation."""
        course = self._courses.get(operation)
        record = course.record if course is not None else self._ended.get(operation)
        if record is None:
            raise NoSuchOperation(operation)
        return record

    def course(self, operation: str) -> OperationCourse | None:
        """An operation in progress; None: ended, or unknown."""
        return self._courses.get(operation)

    def running(self, endpoint: str) -> str | None:
        """The id of the operation of an endpoint in progress."""
        return self._busy.get(endpoint)

    def busy(self) -> frozenset[str]:
        """Endpoints with an operation in progress."""
        return frozenset(self._busy)

    def in_progress(self) -> frozenset[str]:
        """Ids of the operations in progress."""
        return frozenset(self._courses)

    def ended(self) -> tuple[DeploymentRecord, ...]:
        """The records of ended operations, in the order of their ends."""
        return tuple(self._ended.values())

    def all(self) -> Mapping[str, DeploymentRecord]:
        """All records, by id."""
        return {**self._ended, **{course.record.id: course.record for course in self._courses.values()}}

    def operations(self, endpoint: str | None) -> tuple[DeploymentOperation, ...]:
        """All operations, newest first. `endpoint`: None: of all endpoints."""
        found = [each.operation for each in self.all().values() if endpoint in (None, each.operation.endpoint)]
        return tuple(sorted(found, key=lambda each: each.created, reverse=True))

    async def log(self, operation: str) -> tuple[TimedLine, ...]:
        """The lines of the log of an operation. Raises NoSuchOperation, StoreError."""
        self.record(operation)
        lines, _ = await asyncio.to_thread(self._files.read_log, operation)
        return tuple(lines)

    async def follow_log(self, operation: str) -> AsyncGenerator[TimedLine, None]:
        """The lines of the log of an operation, as written, until it ends. Raises NoSuchOperation, StoreError."""
        self.record(operation)
        position, more = 0, asyncio.Event()
        course = self._courses.get(operation)
        while True:
            is_last = course is None or course.ended.is_set()
            lines, position = await asyncio.to_thread(self._files.read_log, operation, position)
            for line in lines:
                yield line
            if course is None or is_last:
                return
            await course.follow(more)
