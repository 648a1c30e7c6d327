"""The steps of a deployment. Each can be run again after a kill at any point."""

import asyncio
import errno
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from controlplane.cluster_view import headline, needed
from controlplane.control_errors import ControlError
from controlplane.endpoint_service import EndpointService
from controlplane.keys import KeyType
from serving.clock import Clock
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_document
from serving.replica import ReplicaState
from workspace.builders.interface import EnvironmentBuilder
from workspace.deployments import documents
from workspace.deployments.deployment_rules import check
from workspace.deployments.operation_course import OperationCourse, whole
from workspace.deployments.places import DeploymentPlaces, PlacedFile, PlacedModel
from workspace.deployments.readiness import Judgement, Verdict, judge
from workspace.deployments.records import DeploymentRecord, OperationStep

READY_LIMIT_S = 1200.0
"""Longest wait for readiness, as in Azure ML: 20 minutes."""
READY_POLL_S = 0.1
TAIL_LINES = 50
"""Log lines of a failed replica in the error of its operation."""

HOST = "azureml_inference_server_http."
"""Beginning of the names of exceptions of the inference server, which follow the script's own."""
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b.*")


class StepFailure(Exception):
    """The reason that ends a deployment."""

    def __init__(self, code: str, message: str, log_tail: Sequence[str] = ()) -> None:
        """`code`: one word. `message`: for people. `log_tail`: last log lines of a replica; default none."""
        super().__init__(message)
        self.code = code
        self.log_tail = tuple(log_tail)


class OutOfTime(StepFailure):
    """The version did not get ready within the limit."""


class ModelFiles(Protocol):
    """Files of a registered model."""

    @property
    def files(self) -> Sequence[PlacedFile]:
        """All files."""


class ModelSource(Protocol):
    """Registered models; implemented by `workspace.models.model_registry.ModelRegistry`."""

    def get(self, name: str, version: int | None = None) -> ModelFiles:
        """A model. Raises ControlError."""


Step = Callable[[OperationCourse], Awaitable[str]]


class DeploymentSteps:
    """The steps of deployments, by name, and the way back."""

    def __init__(
        self,
        endpoints: EndpointService,
        models: ModelSource,
        places: DeploymentPlaces,
        builder: EnvironmentBuilder | None,
        template_of: Callable[[VersionKey], str],
        clock: Clock,
    ) -> None:
        """Steps that declare endpoints by `endpoints`.

        models: the registry. places: folders for source and models.
        builder: of environments; None: none but that of scorefront.
        template_of: version -> digest of its declared replica template.
        clock: event-loop clock.
        """
        self._endpoints = endpoints
        self._models = models
        self._places = places
        self._builder = builder
        self._template_of = template_of
        self._clock = clock
        self._steps: dict[OperationStep, Step] = {
            OperationStep.VALIDATE: self.validate,
            OperationStep.SNAPSHOT: self.snapshot,
            OperationStep.ENVIRONMENT: self.environment,
            OperationStep.MODELS: self.models,
            OperationStep.START: self.start,
            OperationStep.READY: self.ready,
        }

    async def run(self, step: OperationStep, course: OperationCourse) -> str:
        """Run one step; returns its result for the log. Raises StepFailure."""
        try:
            return await self._steps[step](course)
        except InvalidManifest as error:
            raise StepFailure("InvalidEndpoint", str(error)) from error
        except ControlError as error:
            raise StepFailure(error.code, str(error)) from error
        except OSError as error:
            raise _of_system(error) from error

    # ---- steps

    async def validate(self, course: OperationCourse) -> str:
        """Check the request, and that its models are registered."""
        request = course.record.request
        if request is not None:
            check(request)
            for name, version in request.models:
                self._models.get(name, version)
        elif course.record.document is not None:
            parse(course.record.document)
        return ""

    async def snapshot(self, course: OperationCourse) -> str:
        """Make the source directory."""
        files = course.record.request.source if course.record.request is not None else ()
        await _in_thread(lambda stop: self._places.make_source(course.record.id, files, stop))
        return f"{_counted(len(files), 'file')}, {sum(file.size_bytes for file in files)} bytes"

    async def environment(self, course: OperationCourse) -> str:
        """Find or build the environment."""
        spec = course.record.request.environment if course.record.request is not None else None
        if spec is None:
            return "the Python of scorefront"
        if self._builder is None:
            raise StepFailure("NotImplemented", "this installation builds no environments")
        built = await self._builder.build(spec, course.log)
        is_own = built.interpreter == Path(sys.executable)
        await course.keep(environment_key=built.key, interpreter="" if is_own else str(built.interpreter))
        return f"{built.key[:12]} {'found' if built.found else 'built'}"

    async def models(self, course: OperationCourse) -> str:
        """Make the tree of models."""
        names = course.record.request.models if course.record.request is not None else ()
        if not names:
            return "none"
        models = [PlacedModel(name, version, tuple(self._models.get(name, version).files)) for name, version in names]
        await _in_thread(lambda stop: self._places.make_models(course.record.id, models, stop))
        return f"{_counted(len(models), 'model')}, {_counted(sum(len(each.files) for each in models), 'file')}"

    async def start(self, course: OperationCourse) -> str:
        """Declare the version. One that is added to a serving endpoint gets no traffic yet."""
        name = course.operation.endpoint
        if course.record.declared is None:
            interpreter = course.record.interpreter
            if interpreter and not await asyncio.to_thread(os.path.exists, interpreter):
                await self.environment(course)  # removed since, e.g. during a stop
            await course.keep(declared=self._to_declare(course.record))
        await whole(self._endpoints.apply(course.record.declared))
        if course.record.base is None:
            await self._set_keys(course)
        return f"endpoint {name} declared"

    async def ready(self, course: OperationCourse) -> str:
        """Wait until the version is ready; then give it its traffic."""
        record = course.record
        deadline = self._clock.now() + READY_LIMIT_S
        awaited = self._awaited(record)
        checked: object = self  # no declaration
        served: set[str] = set()
        said: dict[VersionKey, str] = {}
        while True:
            if checked is not (now := self._endpoints.declared(record.operation.endpoint)):
                self._check_ownership(record)
                checked = now
            judged = {key: self._judge(key, served) for key in awaited}
            for key, judgement in judged.items():
                if judgement.verdict is Verdict.FAILED:
                    raise await self._failure(key, judgement)
                if judgement.verdict is Verdict.WAITING and said.get(key) != (reason := headline(judgement.reason)):
                    said[key] = reason
                    course.log(f"{key}: {reason}")
            if all(judgement.verdict is Verdict.READY for judgement in judged.values()):
                break
            if self._clock.now() >= deadline:
                reasons = "; ".join(f"{key}: {said[key]}" for key in awaited if key in said)
                raise OutOfTime("DeploymentTimedOut", f"not ready within {READY_LIMIT_S:.0f} s: {reasons}")
            await self._clock.sleep(READY_POLL_S)
        await self._give_traffic(record)
        if record.base is not None:
            await self._set_keys(course)
        return ""

    async def undo(self, record: DeploymentRecord) -> str:
        """Take back the declaration of an operation; returns the result for the log. Raises StoreError."""
        name, version = record.operation.endpoint, record.operation.version
        current = self.document(name)
        if record.declared is None or current is None or (version and not _is_own(current, record)):
            return ""
        if record.base is None:
            await whole(self._endpoints.delete(name))
            return f"endpoint {name} taken back"
        try:
            await whole(self._endpoints.apply(documents.taken_back(current, record.declared, record.base, version)))
        except InvalidManifest:
            await whole(self._endpoints.apply(record.base))
        return f"endpoint {name} as before"

    def document(self, name: str) -> dict[str, Any] | None:
        """The declared document of an endpoint with its defaults filled in; None: not declared."""
        declared = self._endpoints.declared(name)
        return None if declared is None else to_document(declared.manifest)

    # ---- parts of steps

    def _wanted(self, record: DeploymentRecord) -> dict[str, Any]:
        """The final declaration, with its files."""
        request = record.request
        if request is None:
            return to_document(parse(record.document))
        placed = documents.placed(
            request.document,
            request.version,
            self._places.source(record.id),
            self._places.model_dir(record.id, request.models),
            Path(record.interpreter) if record.interpreter else None,
        )
        return to_document(parse(placed))

    def _to_declare(self, record: DeploymentRecord) -> dict[str, Any]:
        name, version = record.operation.endpoint, record.operation.version
        current, wanted = self.document(name), self._wanted(record)
        if (current is None) is not (record.base is None):
            happened = "deleted" if current is None else "declared"
            raise StepFailure("Superseded", f"endpoint '{name}' was {happened} by others meanwhile")
        if current is None:
            return wanted
        if not version or documents.version_of(current, version) is not None:
            return documents.merged(current, record.base, wanted, version)
        return to_document(parse(documents.without_traffic(current, wanted, version)))

    def _awaited(self, record: DeploymentRecord) -> list[VersionKey]:
        name, version = record.operation.endpoint, record.operation.version
        if version:
            return [VersionKey(name, version)]
        return [VersionKey(name, each) for each in documents.changed_versions(record.base, record.declared or {})]

    def _check_ownership(self, record: DeploymentRecord) -> None:
        """Raises StepFailure if others have removed or replaced the version meanwhile."""
        name, version = record.operation.endpoint, record.operation.version
        current = self.document(name)
        if current is None:
            raise StepFailure("Superseded", f"endpoint '{name}' was deleted meanwhile")
        if version and not _is_own(current, record):
            raise StepFailure("Superseded", f"version '{version}' of '{name}' was removed or replaced meanwhile")

    def _judge(self, key: VersionKey, served: set[str]) -> Judgement:
        declared = self._endpoints.declared(key.endpoint)
        version = None if declared is None else declared.endpoint.version(key.version)
        if version is None:
            return Judgement(Verdict.READY)  # removed by others from an update of the whole endpoint
        replicas = self._endpoints.replicas(key)
        judgement = judge(replicas, self._template_of(key), needed(version), served)
        served.update(each.id for each in replicas if each.state is ReplicaState.READY)
        return judgement

    async def _failure(self, key: VersionKey, judgement: Judgement) -> StepFailure:
        """The failure of a replica, with the last lines of its log."""
        lines = await self._endpoints.logs(key.endpoint, key.version, TAIL_LINES)
        tail = [each.line for each in lines if each.replica == judgement.replica]
        message = f"the replica {headline(judgement.reason)}"
        if raised := last_raised(tail):
            message += f": {raised}"
        return StepFailure("ReplicaFailed", message, tail)

    async def _give_traffic(self, record: DeploymentRecord) -> None:
        """Declare the split as requested, if the version was added without traffic."""
        name, version = record.operation.endpoint, record.operation.version
        if not version or record.base is None or documents.version_of(record.base, version) is not None:
            return
        current = self.document(name)
        if current is not None:
            await whole(self._endpoints.apply(documents.merged(current, record.base, self._wanted(record), version)))

    async def _set_keys(self, course: OperationCourse) -> None:
        """Set the keys of the request, and forget them."""
        request = course.record.request
        if request is None or request.keys is None:
            return
        for which, key in zip((KeyType.PRIMARY, KeyType.SECONDARY), request.keys, strict=True):
            if key is not None:
                await whole(self._endpoints.regenerate(request.endpoint, which, key))
        await course.keep(request=replace(request, keys=None))


def last_raised(lines: Iterable[str]) -> str:
    """The last line that names an exception of the script, not of its host; "" without one."""
    found = [line.strip() for line in lines if _RAISED.fullmatch(line.strip())]
    return next((line for line in reversed(found) if not line.startswith(HOST)), "")


def _is_own(current: documents.Document, record: DeploymentRecord) -> bool:
    """True while the version is declared as the operation has declared it, its split aside."""
    version = record.operation.version
    own = documents.version_of(record.declared, version) if record.declared is not None else None
    now = documents.version_of(current, version)
    return own is not None and now is not None and own["replica"] == now["replica"]


async def _in_thread(work: Callable[[Callable[[], bool]], None]) -> None:
    """Run blocking work in a thread; on cancellation wait until it has stopped. `work`: takes a stop flag."""
    stopped = asyncio.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stopped.is_set))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # Stopped, or an error that does not matter any more
        raise


def _of_system(error: OSError) -> StepFailure:
    code = "NoSpace" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "StoreFailed"
    reason = error.strerror or str(error)
    return StepFailure(code, f"{reason}: {os.fspath(error.filename)}" if error.filename else reason)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
