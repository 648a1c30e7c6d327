"""The collector as a child process: killed, it goes on where it was; the port of scripts is taken or free."""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from scorefront.up import payload_collector
from scorefront.up.payload_collector import PayloadCollectorChild, rings_folder
from serving.endpoint import Auth, Endpoint, PayloadCollection, VersionKey
from telemetry.collector_settings import CollectorSettings
from telemetry.payload_observer import PayloadObservers
from tests.fakes.clock import eventually
from tests.integration.router.rig import version
from tests.unit.telemetry.collecting import FakeHead

pytestmark = pytest.mark.process
KEY = VersionKey("iris", "blue")


class Site:
    """A collector of one machine, and a worker."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.endpoints: list[Endpoint] = []
        environment = {**os.environ, "SCOREFRONT_PAYLOADS_BATCH_S": "0.05"}
        self.child = PayloadCollectorChild(
            folder, str(folder / "store"), CollectorSettings(port=port), lambda: self.endpoints, environment
        )
        self.observers = PayloadObservers(self.child.rings_dir, "w-1", 1 << 20, time.time)  # noqa: TID251 - a shell
        self.count = 0

    def declare(self) -> None:
        collecting = dataclasses.replace(version(), collection=PayloadCollection())
        self.endpoints.append(Endpoint("iris", Auth.NONE, (collecting,)))

    def request(self) -> None:
        observer = self.observers.observer(KEY, PayloadCollection())
        assert observer is not None
        self.count += 1
        request_id = b"6f1ba2a4-0000-4000-8000-%012x" % self.count
        observer.request_ended(request_id, FakeHead(), b"[%d]" % self.count, None, b"", 200, 0.1)

    def stored(self) -> list[int]:
        files = self.folder.glob("store/modelDataCollector/iris/blue/request/**/*.jsonl")
        return [json.loads(line)["data"][0] for file in files for line in file.read_text().splitlines()]

    def collectors(self) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "collector" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(payload_collector, "LOOK_S", 0.02)
    monkeypatch.setattr(payload_collector, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(payload_collector, "PAUSE_GROWTH", 1_000_000)  # a pause that grows takes longer than any test
    site = Site(tmp_path, free_port())
    running = asyncio.create_task(site.child.run())
    yield site
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    site.observers.close()
    await site.child.stop()
    assert site.collectors() == []
    for file in site.child.rings_dir.glob("*"):
        file.unlink()
    if site.child.rings_dir.exists():
        site.child.rings_dir.rmdir()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_a_killed_collector_is_replaced_and_each_request_is_stored_once(site: Site) -> None:
    site.declare()
    for _ in range(3):
        site.request()
        await eventually(lambda: site.stored() == list(range(1, site.count + 1)), 30.0)
        await eventually(lambda: site.child.counts()[KEY].stored == site.count, 30.0)
        (collector,) = site.collectors()
        site.request()
        collector.kill()
        site.request()
    await eventually(lambda: site.stored() == list(range(1, 10)), 30.0)
    await eventually(lambda: site.child.counts()[KEY].stored == 9)
    assert site.child.problems(KEY) == {}


async def test_no_collector_runs_before_a_version_collects(site: Site) -> None:
    for _ in range(5):
        await asyncio.sleep(0.02)  # several looks
    assert site.collectors() == [] and not site.child.rings_dir.exists()


def test_a_taken_port_is_named_and_another_one_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        taken = int(sock.getsockname()[1])
        site = Site(tmp_path, taken)
        used = site.child.script_port()
        assert used not in (0, taken) and site.child.script_port() == used
        assert f"port {taken} of 127.0.0.1 is not available" in caplog.text and f"port {used} is used" in caplog.text
        asyncio.run(site.child.stop())


def test_rings_are_in_shared_memory_or_beside_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rings_folder(tmp_path) == rings_folder(tmp_path / "x" / "..") != rings_folder(tmp_path / "x")
    monkeypatch.setattr(payload_collector, "SHARED_MEMORY", tmp_path / "none")
    assert rings_folder(tmp_path) == tmp_path / "rings"
