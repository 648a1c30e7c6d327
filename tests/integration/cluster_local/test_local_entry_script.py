"""The real inference server with a user's score.py."""

import asyncio
import json
from pathlib import Path

import aiohttp
import psutil
import pytest

from cluster.local.local_provider import LocalProvider
from serving.endpoint import ReplicaKind, ReplicaSource
from serving.replica import Replica
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


async def test_a_broken_file_beside_the_script_is_named_in_the_reason(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return data\n")
    (tmp_path / "config.json").write_text('["not an object"]')
    source = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(tmp_path / "score.py"))
    await provider.apply(endpoint(version(source)), {"blue": 1})
    named = f"{tmp_path / 'config.json'}: is read by the inference server, which cannot use it: must be a JSON object"
    await watcher.until(lambda: any(named in replica.reason for replica in watcher.replicas.values()))


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
    await watcher.until(lambda: len(watcher.failures) == 2, within_s=60.0)
    failed = watcher.failures[1]
    assert f"{ending} before it was ready" in failed.reason
    assert "failed as before, 2 times in a row, replacement starts in 0.5 s" in caplog.text
    assert any("loading" in line.text for line in (await provider.logs(KEY, 100))[failed.id])


V1_SCRIPT = """
import os, sys
import helper
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml.core.model import Model
from azureml.monitoring import ModelDataCollector

def init():
    global path, inputs
    path = Model.get_model_path("m")
    inputs = ModelDataCollector("m", designation="inputs", feature_names=["a"])

@rawhttp
def run(request):
    inputs.collect([[1]])
    if request.args.get("loud"):
        print("first", request.headers["x-ms-request-id"] == "id-of-loud")
        sys.stderr.write("second\\n")
    return AMLResponse({"path": path, "helped": helper.x}, 201, json_str=True)
"""


async def test_a_script_of_v1_runs_as_it_is_and_only_its_own_lines_are_logged_with_the_id_of_their_request(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text(V1_SCRIPT)
    (tmp_path / "code" / "helper.py").write_text("x = 'helped'\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.pkl").touch()
    source = ReplicaSource(
        ReplicaKind.ENTRY_SCRIPT,
        entry_script=str(tmp_path / "code" / "main.py"),
        source_directory=str(tmp_path),
        model_dir=str(tmp_path / "model"),
    )
    await provider.apply(endpoint(version(source)), {"blue": 1})
    (replica,) = await watcher.until_ready()
    before = [line.text for line in (await provider.logs(KEY, 200))[replica.id]]
    assert not any("deprecated" in line or "Traceback" in line or "extra keys" in line for line in before)
    url = f"http://127.0.0.1:{replica.port}"
    async with aiohttp.ClientSession() as session:
        for query, name in (("", "id-of-quiet"), ("?loud=1", "id-of-loud"), ("", "id-of-quiet")):
            async with session.post(f"{url}/score{query}", headers={"x-ms-request-id": name}) as response:
                assert response.status == 201
                assert await response.json() == {"path": str(tmp_path / "model" / "m.pkl"), "helped": "helped"}
        async with session.get(f"{url}/swagger.json?version=3", headers={"X-Forwarded-Proto": "http"}) as response:
            document = await response.json()
    assert document["info"]["title"] == "iris" and "/api/v1/service/iris/score" in document["paths"]
    async with asyncio.timeout(10):
        while True:
            log = [line.text for line in (await provider.logs(KEY, 200))[replica.id]]
            lines = [line for line in log if line.startswith("[id-of-") or "deprecated" in line or "POST" in line]
            if len(lines) >= 2:
                break
            await asyncio.sleep(0.02)
    assert len(lines) == 2 and all(line.startswith("[id-of-loud] ") for line in lines)
    assert "first True" in lines[0] and lines[1] == "[id-of-loud] second"


async def test_advice_ends_the_log_of_a_script_that_does_not_start(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    script = tmp_path / "needs.py"
    script.write_text("import sklearn_is_missing\ndef init(): pass\ndef run(data): return data\n")
    source = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(script))
    await provider.apply(endpoint(version(source)), {"blue": 1})
    await watcher.until(lambda: any("exited with code" in replica.reason for replica in watcher.replicas.values()))
    assert any("pip install sklearn-is-missing" in replica.reason for replica in watcher.replicas.values())
