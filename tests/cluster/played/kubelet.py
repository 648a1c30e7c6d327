"""Plays the agent of a node: `python -m tests.cluster.played.kubelet [--pods 110] [--name player] [--folder DIR]`.

For a cluster (KUBECONFIG) with an API server, a controller-manager and a scheduler, and no node: every pod that is
bound to the played node runs as processes of this machine, with an address of 127.0.0.0/8. SIGTERM or ^C ends them all
and removes the node; after a SIGKILL a guard ends the processes. DIR gets the journal and the logs.
"""

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
import tempfile
from pathlib import Path

import aiohttp

from cluster.local.guardian import Guardian
from tests.cluster.played.images import IMAGES
from tests.cluster.played.journal import Journal
from tests.cluster.played.kube import ApiFailure, Kube
from tests.cluster.played.logs import Logs
from tests.cluster.played.node import Foreign, Node, check_that_all_are_played
from tests.cluster.played.pod import Pod, World

READY = "the node is ready"
MARK = "PLAYED_BY"
_FIRST, _LAST = 16, 250
"""Of the second number of an address: far from 127.0.0.1, 127.0.1.1 and their like."""


class Addresses:
    """127.N.x.y, each given once."""

    def __init__(self, network: int) -> None:
        self._network = network
        self._given = 0

    def next(self) -> str:
        """A new one."""
        self._given += 1
        return f"127.{self._network}.{self._given // 250}.{self._given % 250 + 1}"


class Kubelet:
    """One node and its pods."""

    def __init__(self, world: World, node: Node, addresses: Addresses) -> None:
        self._world = world
        self._node = node
        self._addresses = addresses
        self._pods: dict[str, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled; then every process ends at once."""
        beating = asyncio.create_task(self._node.beat(), name="heartbeat")
        selector = f"spec.nodeName={self._node.name}"
        try:
            async with contextlib.aclosing(self._world.kube.changes("/api/v1/pods", fieldSelector=selector)) as changes:
                async for change in changes:
                    self._see(change.object, change.gone)
        finally:
            for task in (beating, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(beating, *self._tasks.values(), return_exceptions=True)

    def _see(self, seen: dict[str, object], gone: bool) -> None:
        metadata, status = seen["metadata"], seen.get("status", {})
        assert isinstance(metadata, dict) and isinstance(status, dict)
        uid = metadata["uid"]
        if uid not in self._pods:
            if gone or status.get("phase") in ("Succeeded", "Failed"):
                return
            pod = self._pods[uid] = Pod(self._world, seen, self._addresses.next())
            self._tasks[uid] = asyncio.create_task(pod.run(), name=f"pod {pod.name}")
            self._tasks[uid].add_done_callback(lambda task: self._over(uid, task))
        self._pods[uid].see(seen, gone)

    def _over(self, uid: str, task: "asyncio.Task[None]") -> None:
        del self._pods[uid], self._tasks[uid]
        if not task.cancelled() and (error := task.exception()) is not None:
            print(f"{task.get_name()} failed: {error!r}", file=sys.stderr, flush=True)


async def play(name: str, pods: int, folder: Path) -> None:
    """Until SIGTERM or SIGINT. Raises Foreign, ApiFailure, OSError."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    mark = (MARK, secrets.token_hex(8))
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube())
        await check_that_all_are_played(kube)
        session = await stack.enter_async_context(_session())
        logs = await stack.enter_async_context(Logs(folder / "logs"))
        guardian = Guardian(sys.executable, "=".join(mark))
        guardian.start()
        stack.push_async_callback(guardian.close)
        journal = Journal(folder / "journal")
        stack.callback(journal.close)
        node = Node(kube, name, pods, logs.port)
        await node.join()
        stack.push_async_callback(_leave, node)
        world = World(kube, IMAGES, folder, journal, session, guardian, mark)
        network = Addresses(random.SystemRandom().randint(_FIRST, _LAST))
        running = asyncio.create_task(Kubelet(world, node, network).run(), name="kubelet")
        print(READY, flush=True)
        stopped = asyncio.create_task(stopping.wait(), name="wait for the end")
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, stopped):
            task.cancel()
        await asyncio.gather(running, stopped, return_exceptions=True)


def _session() -> aiohttp.ClientSession:
    # A probe makes a connection of its own each time, as a real agent does.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def _leave(node: Node) -> None:
    with contextlib.suppress(ApiFailure):  # the API server may be gone already
        await node.leave()


def main() -> int:
    """Play until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.played.kubelet")
    parser.add_argument("--name", default="player", help="of the node")
    parser.add_argument("--pods", type=int, default=110, help="how many the node has room for")
    parser.add_argument("--folder", type=Path, help="for journal and logs; default: a new one, removed afterwards")
    arguments = parser.parse_args()
    if not os.environ.get("KUBECONFIG"):
        parser.error("KUBECONFIG is not set")
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubelet-")))
        try:
            asyncio.run(play(arguments.name, arguments.pods, folder))
        except (Foreign, ApiFailure, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
