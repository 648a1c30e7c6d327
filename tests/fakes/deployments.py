"""A deployment service on a control plane with fakes around it, and requests to feed it."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from serving.endpoint import VersionKey
from tests.fakes.plane import Bench, manifest
from workspace.builders.interface import EnvironmentBuilder
from workspace.deployments.deployment_service import DeploymentService
from workspace.deployments.places import PlacedFile
from workspace.deployments.records import DeploymentOperation, DeploymentRequest, SourceFile
from workspace.workspace_errors import NoSuchBlob, NoSuchModel

SCRIPT = b"def init(): ...\ndef run(data): return data\n"


@dataclass
class FakeBlobs:
    """Blobs in memory, or in a folder for hard links."""

    folder: Path | None = None
    content: dict[str, bytes] = field(default_factory=dict)

    def put(self, path: str, data: bytes) -> SourceFile:
        """A file with this content."""
        digest = hashlib.sha256(data).hexdigest()
        self.content[digest] = data
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            (self.folder / digest).write_bytes(data)
        return SourceFile(path, digest, len(data))

    def open_blob(self, sha256: str) -> BinaryIO:
        if sha256 not in self.content:
            raise NoSuchBlob(sha256)
        return io.BytesIO(self.content[sha256])

    def local_path(self, sha256: str) -> Path | None:
        return None if self.folder is None else self.folder / sha256


@dataclass(frozen=True)
class FakeModel:
    """A registered model."""

    files: Sequence[PlacedFile]


@dataclass
class FakeModels:
    """Registered models by name and version."""

    models: dict[tuple[str, int], FakeModel] = field(default_factory=dict)

    def get(self, name: str, version: int | None = None) -> FakeModel:
        if version is None or (name, version) not in self.models:
            raise NoSuchModel(name, version)
        return self.models[name, version]


class DeploymentBench:
    """A deployment service with everything around it faked, but for the files."""

    def __init__(self, directory: Path, bench: Bench | None = None) -> None:
        self.directory = directory
        self.bench = bench or Bench(directory)
        self.blobs = FakeBlobs()
        self.models = FakeModels()
        self.builder: EnvironmentBuilder | None = None
        self.template: Callable[[VersionKey], str] = lambda key: ""
        self._numbers = 0

    async def start(self) -> Self:
        """Start control plane and service."""
        await self.bench.start()
        self.service = self._service()
        await self.service.begin()
        return self

    async def stop(self) -> None:
        """Stop both, as at a shutdown or, for the files, a kill."""
        await self.service.close()
        await self.bench.plane.stop()

    async def again(self) -> "DeploymentBench":
        """Stop, and start anew on the same files."""
        await self.stop()
        after = DeploymentBench(self.directory)
        after.blobs, after.models, after.builder = self.blobs, self.models, self.builder
        after._numbers = self._numbers
        after.bench.provider.starts_ready = self.bench.provider.starts_ready
        return await after.start()

    def request(
        self, endpoint: str = "iris", version: str = "blue", script: bytes = SCRIPT, **fields: Any
    ) -> DeploymentRequest:
        """A request for a version with one file; `document` and others by `fields`."""
        entry = {"name": version, "replica": {"entryScript": "score.py"}, **fields.pop("entry", {})}
        fields.setdefault("document", manifest(endpoint, [entry]))
        fields.setdefault("source", (self.blobs.put("score.py", script),))
        return DeploymentRequest(endpoint, version, **fields)

    def added(self, version: str, **entry: Any) -> DeploymentRequest:
        """A request that adds a version to the declared endpoint iris."""
        current = self.document()
        others = [{**each, **({"isDefault": False} if entry.get("isDefault") else {})} for each in versions(current)]
        new = {"name": version, "replica": {"entryScript": "score.py"}, **entry}
        document = {**current, "spec": {**current["spec"], "versions": [*others, new]}}
        return self.request(version=version, document=document)

    def document(self, endpoint: str = "iris") -> dict[str, Any]:
        """The declared document."""
        found = self.service._steps.document(endpoint)
        assert found is not None
        return found

    async def deployed(self, request: DeploymentRequest) -> DeploymentOperation:
        """The operation after its end."""
        return await self.ended((await self.service.start(request)).id)

    async def ended(self, operation: str) -> DeploymentOperation:
        """An operation after its end; virtual time goes on meanwhile."""
        await self.until(lambda: self.service.get(operation).is_ended)
        return await self.service.wait(operation)

    async def reaches(self, operation: str, step: str) -> None:
        """Wait until an operation is in a step."""
        await self.until(lambda: self.service.get(operation).step == step)

    async def until(self, predicate: Callable[[], object], within_s: float = 10.0) -> None:
        """Wait for threads and let virtual time go on until it comes about."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not predicate():
            assert asyncio.get_running_loop().time() < deadline, f"it did not come about within {within_s:g} s"
            await self.bench.clock.advance(0.1)
            await asyncio.sleep(0.001)

    async def lines(self, operation: str) -> list[str]:
        """The log of an operation without times."""
        return [line.text for line in await self.service.log(operation)]

    def _service(self) -> DeploymentService:
        return DeploymentService(
            self.bench.plane.endpoints,
            self.models,
            self.blobs,
            self.builder,
            lambda key: self.template(key),
            self.directory,
            self.bench.clock,
            self.bench.clock.wall,
            self._new_id,
        )

    def _new_id(self) -> str:
        self._numbers += 1
        return f"op-{self._numbers}"


def versions(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The versions of a document."""
    return list(document["spec"]["versions"])
