"""Replacing a worker, when one of the two dies in the middle; and as a user asks for it."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest

from loadtests.installation import Installation, manifest, witness_version
from tests.e2e.conftest import Site
from tests.fakes.certificates import Folder, make
from tests.fakes.clock import eventually
from tests.faults.test_restart import Sites, begin_restart, sites
from tests.integration.router.clients import Client, get, request
from tests.integration.router.replicas import answers, when
from tests.integration.router.secure import client_context

__all__ = ["sites"]


def alive() -> list[psutil.Process]:
    """Worker processes; one that was killed may still wait for its parent to notice."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "router-worker" in child.cmdline():
                found.append(child)
    return found


async def test_when_the_old_worker_dies_before_the_new_one_serves_there_is_one_worker_all_the_same(
    sites: Sites,
) -> None:
    group, (replica,) = await sites()
    (old,) = alive()
    restarting = asyncio.create_task(group.supervisor.restart(), name="restart")
    await eventually(lambda: len(alive()) == 2)
    old.send_signal(signal.SIGKILL)
    await restarting
    client = await group.client()
    assert (await client.ask(request(b"x"))).body == b"x"
    await eventually(lambda: len(alive()) == 1)
    assert replica.most_at_once == 1


async def test_when_the_new_worker_dies_while_the_old_one_ends_its_requests_another_takes_over(sites: Sites) -> None:
    go_on = asyncio.Event()
    group, (replica,) = await sites(when(go_on))
    first = await group.client()
    first.send(get())
    await eventually(lambda: replica.at_once)
    (old,) = alive()
    restarting = await begin_restart(group)
    (new,) = [process for process in alive() if process != old]
    new.send_signal(signal.SIGKILL)
    second = await group.client()
    second.send(get())
    await eventually(lambda: {old} < set(alive()) and new not in alive(), 20)
    assert len(replica.seen) == 1
    go_on.set()
    assert [(await client.answer()).status for client in (first, second)] == [200, 200]
    await restarting
    assert replica.most_at_once == 1


async def test_a_worker_that_is_leaving_ends_with_the_others(sites: Sites) -> None:
    group, (replica,) = await sites(when(asyncio.Event()))
    client = await group.client()
    client.send(get())
    await eventually(lambda: replica.at_once)
    restarting = await begin_restart(group)
    began = time.monotonic()
    restarting.cancel()
    client.leave()
    await group.supervisor.close(5)
    assert not alive()
    assert time.monotonic() - began < 4
    await asyncio.gather(restarting, return_exceptions=True)


@pytest.mark.timeout(60)
def test_sighup_replaces_the_worker_of_a_running_installation(tmp_path: Path) -> None:
    with Installation(tmp_path, "--workers", "1") as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        site = Site(installation)
        key, _ = site.keys("echo")
        (old,) = workers(installation)
        assert site.score("echo", key).status == 200
        assert installation.process is not None
        installation.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while old.is_running() and old.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the old worker is still there"
            assert site.score("echo", key).status == 200
        assert len(workers(installation)) == 1
        assert site.score("echo", key).status == 200
        assert "router workers: restarted" in installation.output.read_text()
        assert installation.stop() == 0


def workers(installation: Installation) -> list[psutil.Process]:
    return [process for process in installation.descendants() if "router-worker" in process.cmdline()]


async def test_over_tls_clients_are_asked_to_reconnect_and_no_request_is_lost(sites: Sites, tmp_path: Path) -> None:
    files = Folder(tmp_path, make("front.test"))
    group, (replica,) = await sites(answers(after_s=0.002), tls=files)
    done = asyncio.Event()
    statuses: list[int] = []
    told = 0

    async def connect() -> Client:
        client = Client(
            *await asyncio.open_connection("127.0.0.1", group.port, ssl=client_context(), server_hostname="front.test")
        )
        leaving.append(client)
        return client

    async def load() -> None:
        nonlocal told
        client = await connect()
        while not done.is_set():
            answer = await client.ask(request(b"x"))
            statuses.append(answer.status)
            if answer.values("connection") == ["close"]:
                told += 1
                client.leave()
                client = await connect()
            await asyncio.sleep(0.01)

    leaving: list[Client] = []
    clients = [asyncio.create_task(load(), name=f"client {number}") for number in range(4)]
    await eventually(lambda: len(statuses) > 20)
    await group.supervisor.restart()
    enough = len(statuses) + 20
    await eventually(lambda: len(statuses) > enough)
    done.set()
    await asyncio.gather(*clients)
    for client in leaving:
        client.leave()
    assert set(statuses) == {200}
    assert told >= 4
    assert replica.most_at_once == 1
