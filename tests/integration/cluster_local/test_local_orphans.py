"""Nothing outlives the parent, however it ends."""

import asyncio
import contextlib
import http.client
import os
import signal
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from cluster.local.local_provider import LocalProvider
from cluster.provider import ProviderError
from tests.integration.cluster_local.local_rig import PYTHON, Watcher, endpoint, pids_with, poll, tiny, version

GUARD = "cluster/local/process_guard.py"
SUBREAPER = "cluster/local/subreaper.py"
ROOT = Path(__file__).parents[3]
Parent = tuple[asyncio.subprocess.Process, list[tuple[str, int]]]


@pytest.fixture
def start_parent(tmp_path: Path) -> Callable[..., Awaitable[Parent]]:
    async def start(count: int, loop: str, kind: str) -> Parent:
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, str(Path(__file__).with_name("parent.py")), str(tmp_path / "state"), str(count), loop, kind),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        replicas = []
        async with asyncio.timeout(30):
            while (line := (await process.stdout.readline()).decode().split()) != ["ready"]:
                replicas.append((line[0], int(line[1])))
        return process, replicas

    return start


def guards_of(parent: int, script: str = GUARD) -> set[int]:
    """Living guards, or subreapers, that this process has started."""
    return {pid for pid in pids_with(script) if psutil.Process(pid).ppid() == parent}


def left_of(replicas: list[tuple[str, int]]) -> set[int]:
    return {pid for replica_id, _ in replicas for pid in pids_with(f"SCOREFRONT_REPLICA={replica_id}\0")}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_parent_leaves_no_replica_nor_anything_a_replica_has_started(
    start_parent: Callable[..., Awaitable[Parent]], loop: str, tmp_path: Path
) -> None:
    parent, replicas = await start_parent(2, loop, "tiny")
    assert len(left_of(replicas)) == 4
    guards = guards_of(parent.pid)
    assert len(guards) == 1
    parent.kill()
    await parent.wait()
    await poll(lambda: not left_of(replicas), within_s=2.0)
    await poll(lambda: not guards & pids_with(GUARD))


async def test_a_killed_parent_leaves_no_inference_server_even_in_the_middle_of_a_request(
    start_parent: Callable[..., Awaitable[Parent]],
) -> None:
    parent, replicas = await start_parent(1, "asyncio", "entry")
    (_, port), *_ = replicas
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/score", b'{"sleep": 60}', {"Content-Type": "application/json"}
    )
    scoring = asyncio.create_task(asyncio.to_thread(_ignore_errors, request), name="score")
    await poll(lambda: _connections(port) > 0)
    assert len(left_of(replicas)) == 3  # gunicorn and a worker for each of the two slots
    parent.kill()
    await parent.wait()
    await poll(lambda: not left_of(replicas), within_s=2.0)
    await scoring


def _ignore_errors(request: urllib.request.Request) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(request, timeout=30).close()


def _connections(port: int) -> int:
    return Path("/proc/net/tcp").read_text().count(f":{port:04X} 01 ")


async def test_a_new_run_clears_up_even_if_guard_and_subreaper_were_killed_too(
    start_parent: Callable[..., Awaitable[Parent]], tmp_path: Path
) -> None:
    parent, replicas = await start_parent(1, "asyncio", "tiny")
    # The guard first, then at once its parent, before it can have started another one.
    (guard_pid,) = guards_of(parent.pid)
    os.kill(parent.pid, signal.SIGSTOP)
    os.kill(guard_pid, signal.SIGKILL)
    for pid in guards_of(parent.pid, SUBREAPER):
        os.kill(pid, signal.SIGKILL)
    parent.kill()
    await parent.wait()
    # The replica itself dies with its subreaper (PDEATHSIG); its descendants do not.
    await poll(lambda: len(left_of(replicas)) == 1)
    provider = LocalProvider(tmp_path / "state")
    await provider.start()
    assert not left_of(replicas)
    await provider.close()


async def test_a_guard_that_dies_is_replaced_by_one_that_knows_all(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path)
    await provider.start()
    first = guards_of(os.getpid())
    assert len(first) == 1
    os.kill(first.pop(), signal.SIGKILL)
    await poll(lambda: len(guards_of(os.getpid()) - first) == 1)
    await provider.close()
    assert not guards_of(os.getpid())


async def test_two_providers_cannot_share_a_state_directory(tmp_path: Path) -> None:
    first, second = LocalProvider(tmp_path), LocalProvider(tmp_path)
    await first.start()
    with pytest.raises(ProviderError, match="another scorefront is running"):
        await second.start()
    await first.close()
    await second.start()
    await second.close()


async def test_closing_in_the_middle_of_starting_leaves_nothing(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path)
    await provider.start()
    watcher = Watcher(provider)
    watching = asyncio.create_task(watcher.run(), name="watcher")
    await provider.apply(endpoint(version(tiny("fork"))), {"blue": 5})
    await watcher.until(lambda: len(watcher.replicas) == 5)
    await provider.close()
    assert not {pid for replica_id in watcher.ever for pid in pids_with(replica_id)}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
