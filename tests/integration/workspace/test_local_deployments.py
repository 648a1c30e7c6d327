"""Deployments on the real local provider: scripts that start, and scripts that do not."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cluster.local.local_provider import LocalProvider
from controlplane.plane import ControlPlane
from controlplane.store import StateStore
from scorefront.process.process_main import ProcessClock
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.fakes.clock import eventually
from tests.fakes.deployments import SCRIPT, FakeBlobs, FakeModel, FakeModels
from tests.fakes.plane import manifest
from tests.fakes.routers import FakeRouters
from workspace.deployments.deployment_service import DeploymentService
from workspace.deployments.records import DeploymentOperation, DeploymentRequest, OperationState, OperationStep

pytestmark = pytest.mark.process
KEY = VersionKey("iris", "blue")
MODEL_DIR_SCRIPT = b"""
import json, os
def init():
    print("loading")
def run(data):
    top = os.environ["AZUREML_MODEL_DIR"]
    return sorted(os.path.relpath(os.path.join(here, name), top) for here, _, names in os.walk(top) for name in names)
"""


class LocalSite:
    """A control plane with the local provider, without routers, and a deployment service."""

    def __init__(self, directory: Path) -> None:
        self.blobs = FakeBlobs(directory / "blobs")
        self.models = FakeModels()
        self.provider = LocalProvider(directory / "state")
        clock, wall = ProcessClock(), time.time  # noqa: TID251 - the shell of this test
        routers = FakeRouters()
        store = StateStore(directory / "state")
        self.plane = ControlPlane(store, self.provider, routers, clock, wall, publisher=routers)
        self.service = DeploymentService(
            self.plane.endpoints,
            self.models,
            self.blobs,
            None,
            self.provider.template_of,
            directory / "state",
            clock,
            wall,
            lambda: str(uuid.uuid4()),
        )

    async def start(self) -> None:
        await self.provider.start()
        await self.plane.start()
        await self.service.begin()

    async def stop(self) -> None:
        await self.service.close()
        await self.plane.stop()
        await self.provider.close()

    async def deployed(
        self, script: bytes, replaces: bool = False, models: tuple[tuple[str, int], ...] = ()
    ) -> DeploymentOperation:
        document = manifest("iris", [{"name": "blue", "replica": {"entryScript": "score.py"}}])
        source = (self.blobs.put("score.py", script),)
        request = DeploymentRequest("iris", "blue", document, source, models, replaces=replaces)
        async with asyncio.timeout(60):
            return await self.service.wait((await self.service.start(request)).id)

    def ready(self) -> list[Replica]:
        return [each for each in self.plane.endpoints.replicas(KEY) if each.state is ReplicaState.READY]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LocalSite]:
    one = LocalSite(tmp_path)
    await one.start()
    yield one
    await one.stop()


async def answer(replica: Replica) -> object:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{replica.port}/score", json={}) as response,
    ):
        return json.loads(await response.text())


async def test_a_script_finds_the_files_of_its_models(site: LocalSite) -> None:
    site.models.models[("iris", 3)] = FakeModel((site.blobs.put("model/weights.bin", b"1"),))
    site.models.models[("other", 1)] = FakeModel((site.blobs.put("x.pkl", b"2"),))
    one = await site.deployed(MODEL_DIR_SCRIPT, models=(("iris", 3),))
    assert one.state is OperationState.SUCCEEDED, one.error
    assert await answer(site.ready()[0]) == ["model/weights.bin"]
    several = await site.deployed(MODEL_DIR_SCRIPT, replaces=True, models=(("iris", 3), ("other", 1)))
    assert several.state is OperationState.SUCCEEDED, several.error
    assert await answer(site.ready()[-1]) == ["iris/3/model/weights.bin", "other/1/x.pkl"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (b"import nowhere_to_be_found\ndef init(): ...\ndef run(data): ...\n", "No module named 'nowhere_to_be_found'"),
        (b"def init():\n    raise RuntimeError('no weights')\ndef run(data): ...\n", "RuntimeError: no weights"),
        (b"import os\ndef init():\n    os._exit(7)\ndef run(data): ...\n", "before it was ready"),
        (b"def init(:\n", "SyntaxError"),
    ],
    ids=["missing package", "init raises", "init exits", "broken script"],
)
async def test_a_script_that_does_not_start_fails_with_its_reason_while_the_old_version_serves(
    site: LocalSite, script: bytes, reason: str
) -> None:
    await site.deployed(SCRIPT)
    (old,) = site.ready()
    before = site.plane.declared("iris")
    failed = await site.deployed(script, replaces=True)
    assert failed.state is OperationState.FAILED
    assert failed.error is not None
    assert failed.error.step is OperationStep.READY
    assert reason in failed.error.message
    log = "\n".join(line.text for line in await site.service.log(failed.id))
    assert failed.error.message.splitlines()[0] in log
    assert site.ready() == [old]
    assert before is not None
    assert site.plane.declared("iris") == before


async def test_an_endpoint_that_does_not_start_leaves_no_process(site: LocalSite) -> None:
    failed = await site.deployed(b"import nowhere_to_be_found\n")
    assert failed.state is OperationState.FAILED
    assert site.plane.endpoints.names() == []
    await eventually(lambda: not site.plane.endpoints.replicas(KEY), 20)
    assert [each.name for each in site.service.failed_endpoints()] == ["iris"]
