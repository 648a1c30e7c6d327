"""Entry scripts in environments of their own: requirements, conda files, interpreters."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cluster.local.local_provider import LocalProvider
from serving.endpoint import LivenessProbe, ReplicaKind, ReplicaSource
from serving.replica import ReplicaState
from tests.fakes.wheels import make_installed_wheels, make_wheel
from tests.integration.cluster_local.local_rig import KEY, Watcher, endpoint, version
from workspace.builders.declared_environments import DeclaredEnvironments
from workspace.builders.venv_builder import BuildLimits, VenvBuilder

pytestmark = pytest.mark.process

SCRIPT = """
import sys, os, tiny
def init(): print("started with", tiny.version)
def run(data): return {"tiny": tiny.version, "prefix": sys.prefix, "path": os.environ.get("PYTHONPATH")}
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_installed_wheels(folder, "azureml-inference-server-http")
    make_wheel(folder, "tiny", "1.0")
    make_wheel(folder, "tiny", "2.0")
    return folder


@pytest.fixture
async def provider(tmp_path: Path, wheels: Path) -> AsyncIterator[LocalProvider]:
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **{"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"},
        "UV_CACHE_DIR": str(wheels / "cache"),
    }
    builder = VenvBuilder(tmp_path / "state" / "environments", environ, BuildLimits(100.0))
    one = LocalProvider(tmp_path / "state", environments=DeclaredEnvironments(builder))
    await one.start()
    await builder.begin()
    yield one
    await one.close()


@pytest.fixture
async def watcher(provider: LocalProvider) -> AsyncIterator[Watcher]:
    one = Watcher(provider)
    task = asyncio.create_task(one.run(), name="watcher")
    await one.until(lambda: one.history)
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def source(folder: Path, environment: str, text: str = "") -> ReplicaSource:
    """An entry script whose environment is a file with `text`, or an existing path."""
    (folder / "score.py").write_text(SCRIPT)
    path = folder / environment
    if text:
        path.write_text(text)
    return ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(folder / "score.py"), environment=str(path))


async def answer(port: int) -> dict[str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/score", json={}) as response,
    ):
        found: dict[str, str] = await response.json(content_type=None)
        return found


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("requirements.txt", "tiny==1.0\n", "1.0"),
        ("conda.yml", "dependencies: [python, tiny=2, {pip: [azureml-defaults]}]\n", "2.0"),
    ],
)
async def test_a_script_runs_with_the_packages_of_its_file(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path, file: str, text: str, wanted: str
) -> None:
    declared = endpoint(version(source(tmp_path, file, text), liveness=LivenessProbe()))
    assert provider.check(declared) == []
    await provider.apply(declared, {"blue": 1})
    await watcher.until(lambda: any("building environment" in each.reason for each in watcher.replicas.values()))
    (replica,) = await watcher.until_ready(within_s=100.0)
    found = await answer(replica.port)
    assert found["tiny"] == wanted and found["prefix"].startswith(str(tmp_path / "state" / "environments"))
    assert found["prefix"] != sys.prefix and found["path"] is None
    lines = [line.text for line in (await provider.logs(KEY, 200))[replica.id]]
    assert any(f"tiny {wanted}" in line for line in lines), lines
    assert any(python.startswith(found["prefix"]) for python in provider.interpreters())


async def test_a_package_that_cannot_be_installed_fails_the_replica_with_its_name(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    await provider.apply(endpoint(version(source(tmp_path, "r.txt", "no-such-package\n"))), {"blue": 1})
    await watcher.until(lambda: any(each.state is ReplicaState.FAILED for each in watcher.replicas.values()))
    (replica,) = watcher.replicas.values()
    assert replica.reason.startswith("environment: no-such-package: ")


async def test_an_interpreter_without_the_server_is_refused_with_the_command_that_installs_it(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare"), stdout=asyncio.subprocess.DEVNULL
    )
    assert await bare.wait() == 0
    await provider.apply(endpoint(version(source(tmp_path, "bare/bin/python"))), {"blue": 1})
    await watcher.until(lambda: any(each.state is ReplicaState.FAILED for each in watcher.replicas.values()))
    assert "pip install azureml-inference-server-http" in next(iter(watcher.replicas.values())).reason


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.txt", "", "must be a file that exists"),
        ("bad.txt", "a b c\n", "bad.txt, line 1"),
        ("bad.yml", "packages: [six]\n", "must be a conda file"),
        ("bad.yml", "a: [\n", "must be YAML"),
        ("loop.txt", "-r loop.txt\n", "does not include itself"),
        ("", "", "must be a file: requirements"),
    ],
)
async def test_files_that_are_no_environment_are_refused(
    provider: LocalProvider, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (fault,) = provider.check(endpoint(version(source(tmp_path, name, text))))
    assert fault.path == "spec.versions[0].replica.environment" and said in fault.rule
