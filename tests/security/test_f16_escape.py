"""F16: every descendant of a replica ends with it, wherever it went."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtests.installation import Installation, manifest
from router.worker import router_worker
from tests.conftest import is_alive
from tests.e2e.conftest import Site

REPLICA = Path(__file__).with_name("escaping_replica.py")
WITHIN_S = 10.0


class Escapers:
    """Processes of a replica; identified by pid and start time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[psutil.Process] = set()

    def look(self) -> set[psutil.Process]:
        for file in self._folder.iterdir():
            name, _, pid = file.name.rpartition("-")
            if name and psutil.pid_exists(int(pid)):
                self._known.add(psutil.Process(int(pid)))
        return self._known

    def left(self) -> list[str]:
        return [str(one) for one in self._known if one.is_running() and is_alive(one)]

    def first(self) -> psutil.Process:
        """The replica itself."""
        port = self._folder.name
        alive = [one for one in self._known if is_alive(one)]
        above = {parent for one in alive for parent in one.parents()}
        below = [one for one in above if port in one.cmdline() and str(REPLICA) in one.cmdline()]
        return next(one for one in below if (parent := one.parent()) and "subreaper.py" in " ".join(parent.cmdline()))

    def comet_flies(self) -> bool:
        """It forks every 2 ms, so half a second without a byte is its end."""
        before = (self._folder / "comet").stat().st_size
        time.sleep(0.5)
        return (self._folder / "comet").stat().st_size != before


def until(condition: Callable[[], Any], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Installation(tmp_path) as installation:
        installation.start(declared(tmp_path, 2))
        yield Site(installation)


@pytest.fixture
def escapers(site: Site) -> list[Escapers]:
    """The processes of each replica, from a fresh scan."""
    found = [Escapers(folder) for folder in (site.installation.directory / "escaped").iterdir()]
    assert len(found) == 2
    for one in found:
        assert len(one.look()) >= 8
        assert one.comet_flies()
    return found


def declared(directory: Path, replicas: int) -> dict[str, Any]:
    command = ["python", str(REPLICA), "{port}", str(directory / "escaped")]
    source = directory / "source"  # apart from the folder that the replicas write to: a changed file replaces them
    source.mkdir(exist_ok=True)
    replica = {"command": command, "sourceDirectory": str(source)}
    return manifest("escape", [{"name": "blue", "replica": replica, "numReplicas": replicas}])


def gone(escapers: Escapers) -> None:
    until(lambda: not escapers.left(), escapers.left)
    until(lambda: not escapers.comet_flies(), lambda: "it still forks")


@pytest.mark.parametrize("how", ["delete", "stop", "kill -9"])
def test_nothing_is_left_of_replicas(site: Site, escapers: list[Escapers], how: str) -> None:
    match how:
        case "delete":
            assert site.rest("DELETE", "/api/v1/endpoints/escape").status == 204
        case "stop":
            assert site.installation.stop() == 0
        case "kill -9":
            site.installation.stop(signal.SIGKILL)
    for one in escapers:
        gone(one)


def test_nothing_is_left_of_a_replica_that_is_killed_itself(escapers: list[Escapers]) -> None:
    victim, other = escapers
    victim.first().kill()
    gone(victim)
    assert other.comet_flies()


def test_nothing_is_left_of_a_replica_that_is_scaled_away(site: Site, escapers: list[Escapers]) -> None:
    answer = site.rest("PUT", "/api/v1/endpoints/escape", declared(site.installation.directory, 1))
    assert answer.status == 200, answer.body
    until(lambda: any(not one.left() for one in escapers), lambda: [one.left() for one in escapers])
    (scaled_away,) = (one for one in escapers if not one.left())
    gone(scaled_away)
    assert [one.comet_flies() for one in escapers if one is not scaled_away] == [True]


async def test_a_worker_takes_a_killed_supervisor_for_an_ended_one() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"unread")
    await writer.drain()
    theirs.close()  # with unread bytes: the connection is reset
    assert await router_worker._read(reader) == b""
    writer.close()
