"""Slots over real connections: never exceeded, none idle beside a waiting request, first come first served."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from cluster.link import Retire, UpsertReplica
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.fakes.clock import eventually, reaches
from tests.integration.router.clients import BrokenOff, get, request
from tests.integration.router.replicas import (
    Request,
    Wire,
    answer_bytes,
    answers,
    deaf,
    echo,
    echo_and_close,
    silent,
    when,
)
from tests.integration.router.rig import Rig, declared, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed after each"])
async def test_64_clients_never_overlap_beyond_the_slots_and_all_are_answered(
    rig: Rig, slots: int, closes: bool
) -> None:
    chance = random.Random(slots)

    async def work(wire: Wire, request: Request) -> None:
        await asyncio.sleep(chance.uniform(0, 0.002))
        await (echo_and_close if closes else echo)(wire, request)

    replicas = [await rig.replica(work, slots) for _ in range(2)]

    async def ask(number: int) -> None:
        client = await rig.client()
        for turn in range(6):
            body = b"%d.%d" % (number, turn)
            answer = await client.ask(request(body))
            assert (answer.status, answer.body) == (200, body)

    await asyncio.gather(*(ask(number) for number in range(64)))
    assert [replica.most_at_once for replica in replicas] == [slots, slots]
    assert sum(len(replica.seen) for replica in replicas) == 64 * 6


async def test_first_come_is_first_served_across_connections(rig: Rig) -> None:
    go_on = asyncio.Event()
    replica = await rig.replica(when(go_on))
    for number in range(20):
        client = await rig.client()
        client.send(request(b"%d" % number))
        await eventually(reaches(lambda: rig.busy() + rig.waiting(), number + 1))
    go_on.set()
    await eventually(lambda: len(replica.seen) == 20)
    assert [seen.body for seen in replica.seen] == [b"%d" % number for number in range(20)]


async def test_a_ticket_is_served_by_the_first_slot_that_comes_free_anywhere(rig: Rig) -> None:
    slow, quick = asyncio.Event(), asyncio.Event()
    await rig.replica(when(slow, b"slow"))
    await rig.replica(when(quick, b"quick"))
    clients = [await rig.client() for _ in range(3)]
    for client in clients:
        client.send(get())
    await eventually(lambda: rig.busy() == 2 and rig.waiting() == 1)
    quick.set()
    await eventually(lambda: rig.waiting() == 0 and rig.busy() == 1)
    slow.set()
    assert sorted([(await client.answer()).body for client in clients]) == [b"quick", b"quick", b"slow"]


async def test_a_replica_that_becomes_ready_serves_the_queue(rig: Rig) -> None:
    client = await rig.client()
    client.send(get())
    await eventually(rig.waiting)
    assert len(rig.starved) == 1
    await rig.replica()
    assert (await client.answer()).status == 200


async def test_more_slots_are_used_at_once_and_fewer_are_respected(rig: Rig) -> None:
    go_on = asyncio.Event()
    replica = await rig.replica(when(go_on))
    clients = [await rig.client() for _ in range(6)]
    for client in clients:
        client.send(get())
    await eventually(lambda: rig.waiting() == 5)
    rig.tell(UpsertReplica(declared(rig.id_of(replica), replica.port, 3)))
    await eventually(lambda: replica.at_once == 3)
    rig.tell(UpsertReplica(declared(rig.id_of(replica), replica.port, 1)))
    go_on.set()
    assert [(await client.answer()).status for client in clients] == [200] * 6
    replica.most_at_once = 0
    await asyncio.gather(*(client.ask(get()) for client in clients))
    assert replica.most_at_once == 1


async def test_a_client_that_leaves_while_it_waits_frees_its_place(rig: Rig) -> None:
    go_on = asyncio.Event()
    replica = await rig.replica(when(go_on))
    first, leaving, last = [await rig.client() for _ in range(3)]
    for number, client in enumerate((first, leaving, last)):
        client.send(request(b"%d" % number))
        await eventually(reaches(lambda: rig.busy() + rig.waiting(), number + 1))
    leaving.leave()
    await eventually(lambda: rig.waiting() == 1)
    go_on.set()
    assert [(await client.answer()).status for client in (first, last)] == [200, 200]
    assert [seen.body for seen in replica.seen] == [b"0", b"2"]
    assert rig.gateway.stats.counters["client_gone"] == 1


async def test_a_client_that_leaves_in_flight_frees_its_slot_and_the_replica_notices(rig: Rig) -> None:
    replica = await rig.replica(silent)
    leaving, next_in_line = await rig.client(), await rig.client()
    leaving.send(get())
    await eventually(rig.busy)
    next_in_line.send(get())
    await eventually(rig.waiting)
    replica.script = answers()
    leaving.leave()
    assert (await next_in_line.answer()).status == 200
    assert replica.left_by_router == 1
    assert replica.most_at_once <= 2


async def test_a_client_that_leaves_while_the_replica_is_being_connected_to_frees_its_slot(rigs: Rigs) -> None:
    rig = await rigs(connect_timeout_s=0.2)
    with deaf() as port:
        rig.tell(UpsertReplica(declared("deaf", port)))
        client = await rig.client()
        client.send(get())
        await eventually(rig.busy)
        client.leave()
        await eventually(lambda: rig.busy() == 0)


async def test_a_client_that_leaves_in_the_middle_of_its_body_takes_no_slot(rig: Rig) -> None:
    replica = await rig.replica()
    client = await rig.client()
    client.send(request(None, fields=("Content-Length: 10",)) + b"half")
    await eventually(lambda: any(each.exchange for each in rig.gateway.clients))
    client.leave()
    await eventually(rig.gateway.clients.empty.is_set)
    assert replica.seen == []


async def test_nothing_leaks_when_clients_come_and_go_at_any_moment(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.03, scoring_timeout_s=0.05)))
    chance = random.Random(7)

    async def work(wire: Wire, request: Request) -> None:
        await asyncio.sleep(chance.choice([0, 0.001, 0.01, 0.2]))
        match chance.randrange(8):
            case 0:
                wire.close()
            case 1:
                wire.reset()
            case _:
                await wire.send(answer_bytes(b"x" * chance.choice([1, 100_000])))

    replicas = [await rig.replica(work, slots=2) for _ in range(3)]
    statuses: set[int] = set()

    async def come_and_go() -> None:
        for _ in range(15):
            client = await rig.client()
            client.send(request(b"y" * chance.choice([1, 70_000])))
            try:
                async with asyncio.timeout(chance.choice([0.0, 0.002, 0.02, 1.0])):
                    statuses.add((await client.answer()).status)
            except (TimeoutError, BrokenOff):
                pass
            client.leave()

    await asyncio.gather(*(come_and_go() for _ in range(20)))
    await eventually(rig.is_at_rest)
    assert statuses >= {200} and statuses & {502, 504}
    assert rig.queue().ledger.total == 6
    for replica in replicas:
        replica.script = answers()
    assert (await (await rig.client()).ask(get())).status == 200


# ---- replicas that go


async def test_a_retired_replica_ends_its_requests_and_is_drained_when_idle(rig: Rig) -> None:
    go_on = asyncio.Event()
    busy = await rig.replica(when(go_on))
    client = await rig.client()
    client.send(get())
    await eventually(lambda: busy.at_once)
    idle = await rig.replica()
    rig.tell(Retire(1, VersionKey("iris", "blue"), 1))
    assert rig.drained == [rig.id_of(idle)], "the idle one goes first, and has nothing to end"
    rig.tell(Retire(2, VersionKey("iris", "blue"), 1))
    assert len(rig.drained) == 1
    go_on.set()
    assert (await client.answer()).status == 200
    assert rig.drained == [rig.id_of(idle), rig.id_of(busy)]
    assert idle.seen == []


async def test_a_draining_replica_takes_no_new_request(rig: Rig) -> None:
    leaving, staying = await rig.replica(), await rig.replica()
    replica_id = rig.id_of(leaving)
    rig.tell(UpsertReplica(declared(replica_id, leaving.port, state=ReplicaState.DRAINING)))
    assert rig.drained == [replica_id]
    client = await rig.client()
    for _ in range(10):
        assert (await client.ask(get())).status == 200
    assert (len(leaving.seen), len(staying.seen)) == (0, 10)


async def test_scaling_down_and_up_under_load_fails_nothing(rig: Rig) -> None:
    replicas = [await rig.replica(answers(after_s=0.002)) for _ in range(4)]
    done = False
    answered = 0

    async def ask() -> None:
        nonlocal answered
        client = await rig.client()
        while not done:
            assert (await client.ask(request())).status == 200
            answered += 1

    tasks = [asyncio.create_task(ask(), name=f"client {number}") for number in range(16)]
    for turn in range(6):
        await eventually(reaches(lambda: answered, answered + 20))
        rig.tell(Retire(turn, VersionKey("iris", "blue"), 2))
        await eventually(reaches(lambda: len(rig.drained), 2 * (turn + 1)))
        assert len(rig.drained) == 2 * (turn + 1)
        for replica_id in rig.drained[-2:]:
            rig.remove(rig.replicas[replica_id])
            rig.replicas[replica_id].kill()
        replicas += [await rig.replica(answers(after_s=0.002)) for _ in range(2)]
    done = True
    await asyncio.gather(*tasks)
    assert answered == sum(len(replica.seen) for replica in replicas)
    assert {replica.most_at_once for replica in replicas} <= {0, 1}


# ---- reports to control


async def test_busy_time_is_reported_as_an_exact_integral(rig: Rig) -> None:
    clock = rig.gateway.now()
    rig.gateway.now = lambda: clock
    go_on = asyncio.Event()
    await rig.replica(when(go_on), slots=2)
    began = rig.queue().ledger.busy_slot_seconds(clock)
    clients = [await rig.client() for _ in range(3)]
    for client in clients[:2]:
        client.send(get())
    await eventually(lambda: rig.busy() == 2)
    clock += 3.0
    clients[2].send(get())
    await eventually(rig.waiting)
    clock += 1.0
    go_on.set()
    assert [(await client.answer()).status for client in clients] == [200] * 3
    assert rig.queue().ledger.busy_slot_seconds(clock) - began == pytest.approx(8.0)
