"""In-flight rows in files: read once every process that could begin a request has ended, and not before."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from router.supervisor.inflight_folder import InflightFolder, forget, groups, wait_ended

ROUTER = """
import subprocess, sys, time
from pathlib import Path
from router.inflight_table import InflightTable, WorkerRow
from router.supervisor.inflight_folder import InflightFolder

class Replica:
    def __init__(self, id):
        self.id, self.table_index = id, -1

WORKER = '''
import sys, time
from router.inflight_table import InflightTable
class Replica:
    id, table_index = "r1", -1
table = InflightTable(int(sys.argv[1]))
table.started(Replica)
table.started(Replica)
print("ready", flush=True)
time.sleep(60)
'''
folder = InflightFolder(Path(sys.argv[1]), "g1")
idle = WorkerRow(folder.row("w1"))
row = WorkerRow(folder.row("w2"))
worker = subprocess.Popen([sys.executable, "-c", WORKER, str(row.fd)], pass_fds=[row.fd], stdout=subprocess.PIPE)
worker.stdout.readline()
print(worker.pid, flush=True)
time.sleep(60)
"""
WAIT_S = 20.0


class Waiting:
    """`wait_ended` in a thread."""

    def __init__(self, root: Path) -> None:
        self.found: Mapping[str, Mapping[str, int] | None] | None = None
        self._root = root
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        self.found = wait_ended(self._root, "g1")

    def join(self) -> Mapping[str, Mapping[str, int] | None] | None:
        self._thread.join(WAIT_S)
        return self.found

    def is_waiting(self) -> bool:
        """True if it still waits after a moment."""
        self._thread.join(0.2)
        return self._thread.is_alive()


@pytest.fixture
def router(tmp_path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", ROUTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)


def test_a_killed_router_has_ended_once_its_last_worker_has(router: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with router:
        assert router.stdout is not None
        worker = int(router.stdout.readline())
        try:
            assert groups(tmp_path) == ["g1"]
            waiting = Waiting(tmp_path)
            assert waiting.is_waiting(), "both run"
            router.kill()
            router.wait()
            assert waiting.is_waiting(), "the worker may begin requests"
        finally:
            router.kill()
            os.kill(worker, signal.SIGKILL)
        assert waiting.join() == {"w1": {}, "w2": {"r1": 2}}
    forget(tmp_path, "g1")
    assert groups(tmp_path) == []


def test_a_group_is_not_seen_before_it_holds_its_lock(tmp_path: Path) -> None:
    (tmp_path / "g0").mkdir()
    (tmp_path / "g0" / "alive.new").touch()
    assert groups(tmp_path) == []
    assert groups(tmp_path / "missing") == []


def test_a_row_without_memory_had_no_worker(tmp_path: Path) -> None:
    folder = InflightFolder(tmp_path, "g1")
    folder.row("w1").touch()
    folder.close()
    assert wait_ended(tmp_path, "g1") == {"w1": {}}
