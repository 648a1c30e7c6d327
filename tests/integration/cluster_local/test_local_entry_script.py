"""The real inference server with a user's score.py."""

import asyncio
import json
from pathlib import Path

import aiohttp
import psutil
import pytest

from cluster.local.local_provider import LocalProvider
from serving.endpoint import ReplicaKind, ReplicaSource
from serving.replica import Replica, ReplicaState
from tests.integration.cluster_local.local_rig import HERE, KEY, Watcher, endpoint, pids_with, version


def listeners(port: int) -> set[str]:
    """Addresses with a listener on this port."""
    table = psutil.net_connections("inet")
    return {one.laddr.ip for one in table if one.laddr and one.status == psutil.CONN_LISTEN and one.laddr.port == port}


async def score(replica: Replica, document: object) -> dict[str, object]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{replica.port}/score", json=document) as response,
    ):
        answer: dict[str, object] = json.loads(await response.text())
        assert response.headers["x-ms-server-version"].startswith("azmlinfsrv/")
        return answer


async def test_an_entry_script_gets_raw_json_its_model_and_a_worker_per_slot_on_loopback_only(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    source = ReplicaSource(
        ReplicaKind.ENTRY_SCRIPT,
        entry_script=str(HERE / "score.py"),
        source_directory=str(HERE),
        model_dir=str(models),
    )
    await provider.apply(endpoint(version(source, slots_per_replica=2)), {"blue": 1})
    (replica,) = await watcher.until_ready()
    answers = await asyncio.gather(*(score(replica, {"sleep": 1.0}) for _ in range(2)))
    assert all(answer["type"] == "str" and answer["home"] == str(HERE) for answer in answers)
    assert len({answer["pid"] for answer in answers}) == 2
    assert len(pids_with(f"SCOREFRONT_REPLICA={replica.id}\0")) == 3
    assert listeners(replica.port) == {"127.0.0.1"}
    lines = [line.text for line in (await provider.logs(KEY, 100))[replica.id]]
    assert any(f"model loaded from {models}" in line for line in lines)


async def test_an_entry_script_that_raises_in_init_is_reported_with_its_traceback(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    script = tmp_path / "broken.py"
    script.write_text("def init():\n    raise RuntimeError('no weights')\n\ndef run(data):\n    return data\n")
    source = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(script))
    await provider.apply(endpoint(version(source)), {"blue": 1})
    await watcher.until(lambda: any("exited with code" in replica.reason for replica in watcher.replicas.values()))
    lines = [line.text for kept in (await provider.logs(KEY, 200)).values() for line in kept]
    assert any("no weights" in line for line in lines)


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        ("import os; os._exit(1)", "exited with code 1"),
        ("import os; os._exit(0)", "exited with code 0"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("raise OSError('no weights')", "exited with code 3"),
    ],
)
async def test_an_entry_script_whose_init_ends_its_process_fails_with_code_or_signal_and_backs_off(
    provider: LocalProvider,
    watcher: Watcher,
    tmp_path: Path,
    body: str,
    ending: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = tmp_path / "dying.py"
    script.write_text(f"def init():\n    print('loading', flush=True)\n    {body}\n\ndef run(data):\n    return data\n")
    source = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(script))
    await provider.apply(endpoint(version(source, slots_per_replica=2)), {"blue": 1})
    await watcher.until(lambda: len(watcher.ever) == 2 and watcher.in_state(ReplicaState.FAILED), within_s=60.0)
    (failed,) = watcher.in_state(ReplicaState.FAILED)
    assert f"{ending} before it was ready" in failed.reason
    assert "failed as before, 2 times in a row, replacement starts in 0.5 s" in caplog.text
    assert any("loading" in line for line in (await provider.logs(KEY, 100))[failed.id])
