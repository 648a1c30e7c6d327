"""Output of `up` while endpoints become ready."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scorefront.command_hints import CommandHints, program
from scorefront.up import banner as module
from scorefront.up.banner import Banner, ShowKeys
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.fakes.clock import eventually
from tests.fakes.plane import Bench, manifest, version

CONTROL = "http://127.0.0.1:9999"


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "POLL_S", 0.001)
    monkeypatch.setattr(module, "PATIENCE_S", 0.005)
    bench = await Bench(tmp_path / "state").start()
    yield bench
    await bench.plane.stop()


async def fetch(host: str, port: int) -> Any:
    schema = {"example": {"data": [[4, 2]]}}
    return {"paths": {"/score": {"post": {"parameters": [{"in": "body", "schema": schema}]}}}}


def banner(bench: Bench, **options: Any) -> Banner:
    return Banner(bench.plane.endpoints, CONTROL, fetch, **options)


async def declare(bench: Bench, *names: str, **spec: Any) -> None:
    for name in names:
        await bench.apply(manifest(name, **spec))


async def test_a_bad_endpoint_hides_neither_the_others_nor_the_dashboard(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.provider.starts_ready = False
    await declare(bench, "bad", "good")
    (good,), (bad,) = (bench.provider.of(VersionKey(name, "blue")) for name in ("good", "bad"))
    showing = asyncio.create_task(banner(bench).show())
    printed = [""]

    def said(text: str) -> bool:
        printed[0] += "".join(capsys.readouterr())
        return text in printed[0]

    bench.provider.become(bad, ReplicaState.STARTING, "it does not listen on its port\nand more")
    await eventually(lambda: said("bad/blue: still starting (it does not listen on its port); its log: "))
    assert f"logs bad --control-url {CONTROL}\n" in printed[0]
    assert "dashboard" not in printed[0] and "✓" not in printed[0]
    bench.provider.become(good, ReplicaState.READY)
    await eventually(lambda: said("Ctrl-C ends everything."))
    assert "✓ good is ready" in printed[0] and "✓ bad" not in printed[0]
    assert bench.plane.endpoints.keys("good").primary in printed[0]
    assert f"dashboard  {CONTROL}/" in printed[0]
    assert not showing.done()
    bench.provider.become(bad, ReplicaState.READY)
    await showing
    assert said("✓ bad is ready")
    assert printed[0].count("Ctrl-C") == printed[0].count("✓ good") == printed[0].count("bad/blue: still") == 1


async def test_an_endpoint_that_is_deleted_is_not_waited_for(bench: Bench) -> None:
    bench.provider.starts_ready = False
    await declare(bench, "gone")
    showing = asyncio.create_task(banner(bench).show())
    await asyncio.sleep(0)
    await bench.plane.endpoints.delete("gone")
    async with asyncio.timeout(5):
        await showing


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_sample_fits_the_model_after_a_restart_too(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], restarted: bool
) -> None:
    (tmp_path / "sample.json").write_text('{"instances": [1]}')
    script = {"entryScript": str(tmp_path / "code" / "score.py"), "sourceDirectory": str(tmp_path / "code")}
    await declare(bench, "described", versions=[{"name": "blue", "replica": script}])
    await declare(bench, "sampled", versions=[version(replica={"command": ["x"], "sourceDirectory": str(tmp_path)})])
    await declare(bench, "unknown")
    shown = await bench.again() if restarted else bench
    await banner(shown).show()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("curl ")]
    if restarted:
        await shown.plane.stop()
    assert [shlex.split(line)[-1] for line in lines] == ['{"data": [[4, 2]]}', '{"instances": [1]}', '{"data": []}']


async def test_a_long_sample_is_sent_from_its_file(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text('"' + "x" * 3000 + '"')
    await declare(bench, "iris", versions=[version(replica={"command": ["x"], "sourceDirectory": str(tmp_path)})])
    await banner(bench).show()
    assert f"-d @{sample}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "credential"),
    [
        ({"authEnabled": False}, ""),
        ({"tokenAuthEnabled": True}, '"Authorization: Bearer $(HINT token iris --control-url URL)"'),
        ({}, "\"Authorization: Bearer $(HINT keys iris --control-url URL | awk '/primary/ {print $2}')\""),
    ],
)
async def test_a_credential_that_is_not_printed_is_fetched_by_the_line(
    bench: Bench, capsys: pytest.CaptureFixture[str], spec: dict[str, Any], credential: str
) -> None:
    await declare(bench, "iris", **spec)
    await banner(bench, keys=ShowKeys.NEVER).show()
    printed = capsys.readouterr().out
    assert credential.replace("HINT", program()).replace("URL", CONTROL) in printed
    assert bench.plane.endpoints.keys("iris").primary not in printed


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:8081", "scorefront logs iris"),
        ("http://127.0.0.1:8082", "scorefront logs iris --control-url http://127.0.0.1:8082"),
        ("unix:/tmp/a b", "scorefront logs iris --control-url 'unix:/tmp/a b'"),
    ],
)
def test_a_hint_names_the_control_url_unless_it_is_the_default(url: str, line: str) -> None:
    assert CommandHints(url, "scorefront").line("logs", "iris") == line


def test_a_hint_names_the_program_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "bin" / "scorefront"
    installed.parent.mkdir()
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(installed)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == "bin/scorefront"
    monkeypatch.setenv("PATH", str(installed.parent))
    assert program() == "scorefront"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir("/usr")
    assert program() == str(installed)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "__main__.py")])
    assert program().endswith(" -m scorefront")
