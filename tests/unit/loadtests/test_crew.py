"""Workers as the system shows them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from loadtests.crew import Worker, alone, clients, crew, named, owner, standing_still
from serving.endpoint import VersionKey

COMMAND = (
    "python",
    "-m",
    "scorefront.worker_process",
    "router-worker",
    "--access-log=errors",
    "--name=w0-ab-7",
    "--link-fd=3",
)


def test_a_worker_is_known_by_its_command() -> None:
    assert named(7, COMMAND) == Worker(7, "w0-ab-7")
    assert named(7, ("python", "-m", "scorefront", "up")) is None


def test_the_owner_is_that_of_the_membership() -> None:
    workers = [Worker(number, f"w{number}") for number in range(5)]
    owners = {owner(VersionKey("iris", f"v{number}"), workers) for number in range(50)}
    assert owners == set(workers)
    assert owner(VersionKey("iris", "v1"), reversed(workers)) == owner(VersionKey("iris", "v1"), workers)
    with pytest.raises(LookupError):
        owner(VersionKey("iris", "v1"), [])


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    processes = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_others_stand_still_while_one_is_alone_and_go_on_afterwards(sleepers: list[int]) -> None:
    first, second = sleepers
    with alone(first, sleepers):
        assert psutil.Process(first).status() != psutil.STATUS_STOPPED
        assert psutil.Process(second).status() == psutil.STATUS_STOPPED
    with pytest.raises(ZeroDivisionError), standing_still(sleepers):
        raise ZeroDivisionError
    deadline = time.monotonic() + 5
    while psutil.STATUS_STOPPED in {psutil.Process(pid).status() for pid in sleepers}:
        assert time.monotonic() < deadline


def test_processes_that_are_no_workers_are_left_out() -> None:
    assert crew(os.getpid()) == []


def test_a_client_is_known_by_its_port() -> None:
    me = Worker(os.getpid(), "me")
    with socket.create_server(("127.0.0.1", 0)) as listen:
        port = listen.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listen.accept()
            with accepted:
                assert clients(me, port) == {client.getsockname()[1]}
                assert clients(me, port + 1) == frozenset()
    assert clients(Worker(2**22 + 1, "gone"), 80) == frozenset()
