"""Use cases of deployments: start, follow, cancel and resume operations; origin of declared versions."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.owned_tasks import OwnedTasks
from cluster.timed_line import TimedLine
from controlplane.control_errors import ConflictingChange, NoSuchEndpoint, StoreError
from controlplane.endpoint_service import EndpointService
from serving.clock import Clock
from serving.endpoint import VersionKey
from serving.faults import Fault, InvalidManifest
from serving.manifest import parse, to_document
from workspace.builders.interface import EnvironmentBuilder
from workspace.deployments import history
from workspace.deployments.deployment_rules import check
from workspace.deployments.deployment_steps import DeploymentSteps, ModelSource
from workspace.deployments.documents import version_of
from workspace.deployments.operation_course import OperationCourse
from workspace.deployments.operation_files import OperationFiles
from workspace.deployments.operation_journal import NoSuchOperation, OperationJournal
from workspace.deployments.operation_runner import OperationRunner
from workspace.deployments.operation_states import Happening
from workspace.deployments.place_sweeper import PlaceSweeper
from workspace.deployments.places import BlobSource, DeploymentPlaces
from workspace.deployments.records import (
    DeploymentOperation,
    DeploymentRecord,
    DeploymentRequest,
    FailedEndpoint,
    OperationError,
    OperationKind,
    Provenance,
)

__all__ = ["DeploymentService", "NoSuchOperation"]


class DeploymentService:
    """Use cases of deployments on one machine; at most one operation of an endpoint is in progress."""

    def __init__(
        self,
        endpoints: EndpointService,
        models: ModelSource,
        blobs: BlobSource,
        builder: EnvironmentBuilder | None,
        template_of: Callable[[VersionKey], str],
        state_dir: Path,
        clock: Clock,
        wall: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """A service that is not started.

        endpoints: declares endpoints. models: the registry. blobs: files of source and models.
        builder: of environments; None: only the Python of scorefront.
        template_of: version -> digest of its declared replica template.
        state_dir: folder for records, logs, and the files of deployments.
        clock: event-loop clock. wall: unix seconds. new_id: makes the id of an operation.
        """
        self._endpoints = endpoints
        self._models = models
        self._wall = wall
        self._new_id = new_id
        self._files = OperationFiles(state_dir / "operations")
        self._places = DeploymentPlaces(state_dir / "deployments", blobs)
        self._journal = OperationJournal(self._files, wall)
        self._steps = DeploymentSteps(endpoints, models, self._places, builder, template_of, clock)
        self._runner = OperationRunner(self._journal, self._steps, clock)
        self._sweeper = PlaceSweeper(self._journal, self._places, endpoints, template_of, clock)
        self._tasks = OwnedTasks()

    # ---- life cycle

    async def begin(self) -> None:
        """Load the records and go on with operations that have not ended. Raises StoreError."""
        try:
            await asyncio.to_thread(self._places.sweep)
        except OSError as error:
            raise StoreError(f"cannot use {self._places.root}: {error.strerror}") from error
        for course in await self._journal.load():
            self._runner.run(course)
        self._tasks.spawn(self._sweeper.run(), name="remove unused folders of deployments")

    async def close(self) -> None:
        """Stop; operations in progress go on at the next start."""
        await self._tasks.close()
        await self._runner.close()

    # ---- changes

    async def start(self, request: DeploymentRequest) -> DeploymentOperation:
        """Deploy a version.

        Raises InvalidManifest with every fault, ConflictingChange, StoreError, and the error of an unknown model.
        """
        check(request)
        for name, version in request.models:
            self._models.get(name, version)
        base = self._steps.document(request.endpoint)
        if base is not None and version_of(base, request.version) is not None and not request.replaces:
            raise ConflictingChange(
                f"version '{request.version}' of endpoint '{request.endpoint}' exists; delete it first, or overwrite it"
            )
        operation = self._operation(OperationKind.CREATE, request.endpoint, request.version)
        return await self._open(DeploymentRecord(operation, request=request, base=base))

    async def update(self, endpoint: str, document: Mapping[str, Any]) -> DeploymentOperation:
        """Change the declaration of an endpoint without new code, and wait until its versions are ready.

        Raises NoSuchEndpoint, InvalidManifest, ConflictingChange, StoreError.
        """
        base = self._steps.document(endpoint)
        if base is None:
            raise NoSuchEndpoint(endpoint)
        wanted = to_document(parse(document))
        if wanted["metadata"]["name"] != endpoint:
            raise InvalidManifest((Fault("metadata.name", wanted["metadata"]["name"], f"must be '{endpoint}'"),))
        operation = self._operation(OperationKind.UPDATE, endpoint)
        return await self._open(DeploymentRecord(operation, document=wanted, base=base))

    async def delete(self, endpoint: str) -> DeploymentOperation:
        """Cancel the operation of an endpoint, delete the endpoint, and forget its failure.

        Raises NoSuchEndpoint, StoreError.
        """
        if (course := self._journal.course(self._journal.running(endpoint) or "")) is not None:
            await self._cancel(course)
            await course.ended.wait()
        shown = self.failed_endpoint(endpoint)
        await self._journal.dismiss(endpoint)
        if shown is None or self._endpoints.declared(endpoint) is not None:
            await self._endpoints.delete(endpoint)
        return await self.completed(OperationKind.DELETE, endpoint)

    async def completed(self, kind: OperationKind, endpoint: str, version: str = "") -> DeploymentOperation:
        """Record a change that is done already, e.g. new keys. `kind`: one without steps."""
        course = OperationCourse(DeploymentRecord(self._operation(kind, endpoint, version)), self._files, self._wall)
        await course.handle(Happening.BEGIN)
        self._journal.close(course)
        return course.operation

    async def cancel(self, operation: str) -> DeploymentOperation:
        """Cancel an operation; what it has declared is taken back. Raises NoSuchOperation, ConflictingChange."""
        state = self.get(operation).state
        course = self._journal.course(operation)
        if course is None or course.operation.undoing is not None:
            raise ConflictingChange(f"operation '{operation}' cannot be cancelled: it is ending or has ended ({state})")
        await self._cancel(course)
        return course.operation

    # ---- queries

    def get(self, operation: str) -> DeploymentOperation:
        """One operation. Raises NoSuchOperation."""
        return self._journal.record(operation).operation

    def list(self, endpoint: str | None = None) -> tuple[DeploymentOperation, ...]:
        """All known operations, or those of one endpoint; newest first."""
        return self._journal.operations(endpoint)

    async def wait(self, operation: str) -> DeploymentOperation:
        """Wait until an operation has ended. Raises NoSuchOperation."""
        if (course := self._journal.course(operation)) is not None:
            await course.ended.wait()
            return course.operation
        return self.get(operation)

    async def log(self, operation: str, from_line: int = 0) -> tuple[TimedLine, ...]:
        """The lines of the log of an operation from a number on. Raises NoSuchOperation, StoreError."""
        return (await self._journal.log(operation))[from_line:]

    def follow_log(self, operation: str) -> AsyncGenerator[TimedLine, None]:
        """The lines of the log of an operation, as written, until it ends. Raises NoSuchOperation, StoreError."""
        return self._journal.follow_log(operation)

    def failed_endpoints(self) -> tuple[FailedEndpoint, ...]:
        """Endpoints whose first deployment has failed, unless they were declared or deleted since; by name."""
        known = self._journal.busy() | frozenset(self._endpoints.names())
        return history.failed_endpoints(self._journal.ended(), known)

    def failed_endpoint(self, name: str) -> FailedEndpoint | None:
        """The failed endpoint of that name."""
        return next((each for each in self.failed_endpoints() if each.name == name), None)

    def provenance(self, endpoint: str) -> tuple[Provenance, ...]:
        """The origin of each declared version that was deployed by an operation. Raises NoSuchEndpoint."""
        document = self._steps.document(endpoint)
        if document is None:
            raise NoSuchEndpoint(endpoint)
        return tuple(history.provenance(document, self._places.operation_of, self._journal.all()))

    def request_of(self, operation: str) -> DeploymentRequest | None:
        """The request of an operation; None: without new code. Raises NoSuchOperation."""
        return self._journal.record(operation).request

    def users_of_model(self, name: str, version: int) -> tuple[str, ...]:
        """The declared versions that were deployed from a model, and those in progress, as `endpoint/version`."""
        requests = [each.request for each in self._used() if each.request is not None]
        users = {f"{each.endpoint}/{each.version}" for each in requests if (name, version) in each.models}
        return tuple(sorted(users))

    def environments_in_use(self) -> frozenset[str]:
        """Keys of the environments of declared versions and of operations in progress."""
        return frozenset(each.environment_key for each in self._used() if each.environment_key)

    # ---- internal

    def _operation(self, kind: OperationKind, endpoint: str, version: str = "") -> DeploymentOperation:
        return DeploymentOperation(self._new_id(), kind, endpoint, version, created=self._wall())

    async def _open(self, record: DeploymentRecord) -> DeploymentOperation:
        course = await self._journal.open(record)
        self._runner.run(course)
        return course.operation

    async def _cancel(self, course: OperationCourse) -> None:
        await course.handle(Happening.CANCEL, OperationError("Cancelled", "cancelled by a user", course.operation.step))

    def _used(self) -> tuple[DeploymentRecord, ...]:
        used = self._sweeper.used()
        return tuple(record for record in self._journal.all().values() if record.id in used)
