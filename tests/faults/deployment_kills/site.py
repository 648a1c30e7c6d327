"""An installation without routers that deploys by itself: started, killed and started again by the test."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.local.local_provider import LocalProvider
from controlplane.plane import ControlPlane
from controlplane.store import StateStore
from scorefront.process.process_main import ProcessClock
from scorefront.up.laptop_workspace import LaptopWorkspace
from tests.fakes.plane import manifest
from tests.fakes.routers import FakeRouters
from workspace.deployments.records import DeploymentRequest, SourceFile
from workspace.models.model_records import ModelDraft, ModelFile

ENDPOINT, VERSION = "iris", "blue"
GOOD = b"def init(): ...\ndef run(data): return data\n"
BROKEN = b"import nowhere_to_be_found\n"
FILES = 300
"""Files of the source, and of the model."""


@dataclass(frozen=True)
class Course:
    """Deployments of one round."""

    first: bytes | None
    """Script of a version that serves before; None: none."""
    script: bytes
    """Script of the deployment that is killed."""


COURSES = {
    "create": Course(None, GOOD),
    "create-broken": Course(None, BROKEN),
    "replace": Course(GOOD, GOOD + b"# new\n"),
    "replace-broken": Course(GOOD, BROKEN),
}


class Site:
    """Control plane, local provider and workspace on one state directory."""

    def __init__(self, state_dir: Path) -> None:
        clock, wall, routers = ProcessClock(), time.time, FakeRouters()  # noqa: TID251 - a process of its own
        self.provider = LocalProvider(state_dir)
        self.plane = ControlPlane(StateStore(state_dir), self.provider, routers, clock, wall, publisher=routers)
        self.workspace = LaptopWorkspace(
            str(state_dir / "store"), state_dir, self.plane.endpoints, self.provider, clock, wall, "http://localhost"
        )

    async def run(self, course: Course) -> None:
        """Deploy what is not deployed yet, then wait for the end."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with contextlib.AsyncExitStack() as stack:
            await self.provider.start()
            stack.push_async_callback(self.provider.close)
            await self.plane.start()
            stack.push_async_callback(self.plane.stop)
            await self.workspace.begin()
            stack.push_async_callback(self.workspace.close)
            deployments = self.workspace.deployments
            scripts = [script for script in (course.first, course.script) if script is not None]
            for number, script in enumerate(scripts):
                operations = sorted(deployments.list(), key=lambda each: each.created)
                if len(operations) <= number:
                    operation = await deployments.start(await self._request(script))
                else:
                    operation = operations[number]
                print(operation.id, flush=True)
                if number < len(scripts) - 1:
                    await deployments.wait(operation.id)
            await stop.wait()

    async def _request(self, script: bytes) -> DeploymentRequest:
        source = [SourceFile("score.py", await self._blob(script), len(script))]
        source += [SourceFile(f"more/{number}.txt", await self._blob(b"x"), 1) for number in range(FILES)]
        if not self.workspace.models.list("weights"):
            digest = await self._blob(b"w")
            files = tuple(ModelFile(f"part-{number}", digest, 1) for number in range(FILES))
            await self.workspace.models.register(ModelDraft(name="weights", files=files))
        document = manifest(ENDPOINT, [{"name": VERSION, "replica": {"entryScript": "score.py"}}])
        models = (("weights", 1),)
        return DeploymentRequest(ENDPOINT, VERSION, document, tuple(source), models, replaces=True)

    async def _blob(self, data: bytes) -> str:
        writer = await asyncio.to_thread(self.workspace.store.new_blob)
        await asyncio.to_thread(writer.write, data)
        return (await asyncio.to_thread(writer.finish)).sha256


def main() -> int:
    """Run from the command line until SIGTERM; prints the id of each operation."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.deployment_kills.site", description=__doc__)
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("course", choices=COURSES)
    args = parser.parse_args()
    asyncio.run(Site(args.state_dir).run(COURSES[args.course]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
