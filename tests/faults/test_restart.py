"""Router workers are replaced while they serve: nothing is lost, no slot is used by both."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from router.supervisor.worker_supervisor import RestartFailed
from tests.fakes.certificates import Folder
from tests.fakes.clock import eventually, reaches
from tests.integration.router.clients import Client, get, request
from tests.integration.router.group import Group, snapshot
from tests.integration.router.replicas import Replica, Script, answers, echo, when
from tests.integration.router.rig import declared

Sites = Callable[..., Awaitable[tuple[Group, list[Replica]]]]


@pytest.fixture
async def sites() -> AsyncIterator[Sites]:
    """Starts replicas of `iris/blue`, and a worker that knows them."""
    async with AsyncExitStack() as stack:

        async def start(
            script: Script = echo, replicas: int = 1, slots: int = 1, tls: Folder | None = None
        ) -> tuple[Group, list[Replica]]:
            started = []
            for _ in range(replicas):
                replica = Replica(script)
                await replica.start()
                stack.push_async_callback(replica.stop)
                started.append(replica)
            group = Group(snapshot(*(declared(f"r{n}", each.port, slots) for n, each in enumerate(started))))
            if tls is not None:
                group.supervisor.spawner.command += [f"--tls-cert={tls.cert}", f"--tls-key={tls.key}"]
            stack.push_async_callback(group.stop)
            await group.start()
            return group, started

        yield start


async def test_under_load_no_request_is_lost_and_no_replica_has_two(sites: Sites) -> None:
    group, replicas = await sites(answers(after_s=0.005), replicas=3)
    statuses: list[int] = []
    closed = itertools.count()
    done = asyncio.Event()

    async def load() -> None:
        client = await group.client()
        while not done.is_set():
            answer = await client.ask(request(b"x"))
            statuses.append(answer.status)
            if answer.values("connection") == ["close"]:
                next(closed)
                client = await group.client()
            await asyncio.sleep(0.003)

    clients = [asyncio.create_task(load(), name=f"client {number}") for number in range(12)]
    for number in range(1, 4):
        await group.supervisor.restart()
        await eventually(reaches(lambda: len(statuses), number * 200 + 1))
    done.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert [replica.most_at_once for replica in replicas] == [1, 1, 1]
    assert sum(len(replica.seen) for replica in replicas) == len(statuses)


async def begin_restart(group: Group) -> asyncio.Task[None]:
    """Returns once the new worker serves and the old one hands over."""
    restarting = asyncio.create_task(group.supervisor.restart(), name="restart")
    await eventually(lambda: "draining" in group.supervisor.workers.phases().values(), 20)
    return restarting


async def test_an_idle_connection_goes_on_with_the_new_worker(sites: Sites) -> None:
    group, _ = await sites()
    client = await group.client()
    (first,) = group.processes()
    assert (await client.ask(request(b"before"))).body == b"before"
    await group.supervisor.restart()
    (second,) = group.processes()
    assert first.pid != second.pid
    answer = await client.ask(request(b"after"))
    assert (answer.body, answer.values("connection")) == (b"after", [])


async def test_half_a_head_and_a_body_on_its_way_go_on_with_the_new_worker(sites: Sites) -> None:
    group, _ = await sites()
    early, late, large = [await group.client() for _ in range(3)]
    whole = request(b"hello")
    early.send(whole[:20])
    late.send(whole[:-3])
    chunked = request(None, fields=("Transfer-Encoding: chunked",))
    large.send(chunked + b"5\r\nhel")
    restarting = await begin_restart(group)
    early.send(whole[20:])
    late.send(whole[-3:])
    large.send(b"lo\r\n0\r\n\r\n")
    for client in (early, late, large):
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"hello")
    await restarting


async def test_requests_in_flight_end_in_their_worker_and_keep_their_slot(sites: Sites) -> None:
    go_on = asyncio.Event()
    group, (replica,) = await sites(when(go_on))
    first, second = await group.client(), await group.client()
    first.send(get())
    await eventually(lambda: replica.at_once)
    restarting = await begin_restart(group)
    second.send(get())
    await asyncio.sleep(0.1)
    assert not restarting.done()
    assert len(replica.seen) == 1
    go_on.set()
    assert (await first.answer()).status == 200
    assert (await second.answer()).status == 200
    await restarting
    assert replica.most_at_once == 1


async def test_slots_that_the_old_worker_does_not_use_serve_at_once(sites: Sites) -> None:
    go_on = asyncio.Event()
    group, (replica,) = await sites(when(go_on), slots=3)
    first, *others = [await group.client() for _ in range(4)]
    first.send(get())
    await eventually(lambda: replica.at_once)
    restarting = await begin_restart(group)
    for client in others:
        client.send(get())
    await eventually(lambda: replica.at_once == 3)
    await asyncio.sleep(0.05)
    assert replica.at_once == 3
    go_on.set()
    assert [(await client.answer()).status for client in (first, *others)] == [200] * 4
    await restarting


async def test_a_new_worker_that_does_not_come_up_changes_nothing(sites: Sites) -> None:
    group, _ = await sites()
    group.supervisor.spawner.command[:] = ["false"]
    with pytest.raises(RestartFailed):
        await group.supervisor.restart()
    client: Client = await group.client()
    assert (await client.ask(request(b"still"))).body == b"still"
    assert len(group.processes()) == 1
