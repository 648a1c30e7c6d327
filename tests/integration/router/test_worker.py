"""Worker processes under their supervisor: service, reports, survival and end."""

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import psutil
import pytest

from cluster.link import RemoveReplica, ResetAll, SetKeys, UpsertEndpoint, UpsertReplica
from router.inflight_table import BEAT_S
from serving.credentials import TokenTrust
from serving.endpoint import Auth, VersionKey
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, BrokenOff, Client, get, request
from tests.integration.router.group import Group, environment, snapshot
from tests.integration.router.replicas import Replica, Script, answers, echo, when
from tests.integration.router.rig import declared, endpoint, keys, version

BLUE = VersionKey("iris", "blue")
SUPERVISING = """
import asyncio
from tests.integration.router.group import Group, snapshot

async def supervise():
    group = Group(snapshot())
    await group.start()
    print(group.processes()[0].pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(supervise())
"""
Replicas = Callable[..., Awaitable[Replica]]
Groups = Callable[..., Awaitable[Group]]


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    """Starts replicas not yet known to a router."""
    async with AsyncExitStack() as stack:

        async def start(script: Script = echo) -> Replica:
            replica = Replica(script)
            await replica.start()
            stack.push_async_callback(replica.stop)
            return replica

        yield start


@pytest.fixture
async def groups(replicas: Replicas) -> AsyncIterator[Groups]:
    """Starts groups of workers; they end before the replicas do."""
    async with AsyncExitStack() as stack:

        async def start(told: ResetAll, **how: Any) -> Group:
            group = Group(told, **how)
            stack.push_async_callback(group.stop)
            await group.start()
            return group

        yield start


async def test_a_worker_serves_its_snapshot_and_follows_the_changes(replicas: Replicas, groups: Groups) -> None:
    one, two = await replicas(answers(b"one")), await replicas(answers(b"two"))
    group = await groups(snapshot(declared("r1", one.port)))
    client = await group.client()
    assert (await client.ask(get())).body == b"one"
    group.tell(UpsertReplica(declared("r2", two.port)))
    group.tell(RemoveReplica("r1"))
    group.tell(SetKeys(keys("k" * 43)))
    group.tell(UpsertEndpoint(endpoint(auth=Auth.KEY)))
    await told(group)
    assert (await client.ask(get())).status == 401
    assert (await client.ask(get(fields=("Authorization: Bearer " + "k" * 43,)))).body == b"two"
    metrics = await group.metrics()
    counted = {(each.endpoint, each.version): each.requests for each in metrics.versions}
    assert counted == {("iris", ""): {401: 1}, ("iris", "blue"): {200: 2}}
    assert metrics.connections == 1


async def test_a_worker_reports_usage_without_a_request(replicas: Replicas, groups: Groups) -> None:
    replica = await replicas()
    group = await groups(snapshot(declared("r1", replica.port)))
    client = await group.client()
    (before,) = group.supervisor.work().values()
    for _ in range(5):
        await client.ask(request(b"x"))
    await eventually(lambda: all(work.routed == 5 for work in group.supervisor.work().values()))
    (after,) = group.supervisor.work().values()
    assert 0 < after.routing_s < after.at_s - before.at_s
    assert 0 < after.cpu_s - before.cpu_s < after.at_s - before.at_s
    assert 0 < after.late_s - before.late_s < after.at_s - before.at_s
    assert 1 <= after.beats - before.beats <= (after.at_s - before.at_s) / BEAT_S + 1


async def told(group: Group) -> None:
    """A worker that has answered has executed its earlier messages."""
    await group.supervisor.collect()


async def test_on_sigterm_requests_in_flight_end_and_the_worker_exits_with_0(
    replicas: Replicas, groups: Groups
) -> None:
    go_on = asyncio.Event()
    replica = await replicas(when(go_on))
    group = await groups(snapshot(declared("r1", replica.port, 4)))
    idle, busy = await group.client(), await group.client()
    assert (await idle.ask(get("/healthz"))).status == 200
    busy.send(get())
    await eventually(lambda: replica.at_once)
    processes = [link.process for link in group.supervisor.workers.handles.values()]
    closing = asyncio.create_task(group.supervisor.close(5), name="close the group")
    assert await idle.end() == b""
    assert processes[0].returncode is None
    go_on.set()
    answer = await busy.answer()
    assert (answer.status, answer.value("connection")) == (200, "close")
    await closing
    assert [process.returncode for process in processes] == [0]


async def test_requests_beyond_the_drain_timeout_are_answered_and_new_connections_refused(
    replicas: Replicas, groups: Groups
) -> None:
    replica = await replicas(when(asyncio.Event()))
    group = await groups(snapshot(declared("r1", replica.port)), drain_timeout_s=0.3)
    running, waiting = await group.client(), await group.client()
    running.send(get())
    await eventually(lambda: replica.at_once)
    waiting.send(get())
    processes = [link.process for link in group.supervisor.workers.handles.values()]
    closing = asyncio.create_task(group.supervisor.close(5), name="close the group")
    answers = [await running.answer(), await waiting.answer()]
    assert [(each.status, each.value("x-ms-error-code"), each.value("connection")) for each in answers] == [
        (504, "ScoringTimeout", "close"),
        (503, "NoReadyReplicas", "close"),
    ]
    assert b"The router stopped" in answers[0].body
    await closing
    assert [process.returncode for process in processes] == [0]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", group.port)


async def test_a_worker_that_is_killed_is_replaced_and_serves_the_same(replicas: Replicas, groups: Groups) -> None:
    replica = await replicas()
    group = await groups(snapshot(declared("r1", replica.port, 8)))
    await eventually(lambda: group.workers)
    (first,) = group.workers
    (process,) = group.processes()
    client = await group.client()
    assert (await client.ask(request(b"before"))).body == b"before"
    process.send_signal(signal.SIGKILL)
    with pytest.raises(BrokenOff):
        await client.ask(request())
    waiting = await group.client()  # nobody listens, nobody is refused
    assert (await waiting.ask(request(b"after"))).body == b"after"
    await eventually(lambda: group.gone == [first])
    await eventually(lambda: group.workers and first not in group.workers)
    assert [each.pid for each in group.processes()] != [process.pid]


async def test_a_worker_ends_at_once_when_its_supervisor_is_killed() -> None:
    supervising = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUPERVISING), env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert supervising.stdout is not None
    async with asyncio.timeout(20):
        worker = psutil.Process(int(await supervising.stdout.readline()))
    supervising.kill()
    await supervising.communicate()
    await eventually(lambda: not worker.is_running())


async def test_retiring_chooses_the_idle_replica_and_reports_it_as_drained(replicas: Replicas, groups: Groups) -> None:
    go_on = asyncio.Event()
    busy, idle = await replicas(when(go_on)), await replicas()
    group = await groups(snapshot(declared("busy", busy.port)))
    client = await group.client()
    client.send(get())
    await eventually(lambda: busy.at_once)
    group.tell(UpsertReplica(declared("idle", idle.port)))
    assert await group.supervisor.retire(BLUE, 1) == ("idle",)
    await eventually(lambda: group.drained == ["idle"])
    assert await group.supervisor.retire(BLUE, 5) == ("busy",)
    await told(group)
    assert group.drained == ["idle"]
    go_on.set()
    assert (await client.answer()).status == 200
    await eventually(lambda: group.drained == ["idle", "busy"])
    assert await group.supervisor.retire(BLUE, 1) == ()


async def reported_again(group: Group) -> None:
    """Wait until a worker has repeated its report, as at regular times."""
    known = len(group.timed)
    await eventually(lambda: len(group.timed) > known + 1)


def starved_since(group: Group, known: int) -> bool:
    return any(report.starved for _, report in group.timed[known:])


async def test_a_starved_version_is_reported_to_control_at_once(replicas: Replicas, groups: Groups) -> None:
    go_on = asyncio.Event()
    replica = await replicas(when(go_on))
    group = await groups(snapshot(declared("r1", replica.port)))
    loop = asyncio.get_running_loop()
    first = await group.client()
    first.send(get())
    await eventually(lambda: replica.at_once)
    delays = []
    for number in range(5):
        await reported_again(group)
        known = len(group.timed)
        client = await group.client()
        began = loop.time()
        client.send(get())
        await eventually(partial(starved_since, group, known))
        at, report = next(each for each in group.timed[known:] if each[1].starved)
        assert report.starved == (BLUE,)
        assert [usage.waiting for usage in report.versions] == [number + 1]
        delays.append(at - began)
    assert sorted(delays)[2] < 0.08, delays
    go_on.set()
    assert (await first.answer()).status == 200


async def test_reports_carry_the_exact_integral_of_busy_slots(replicas: Replicas, groups: Groups) -> None:
    go_on = asyncio.Event()
    replica = await replicas(when(go_on))
    group = await groups(snapshot(declared("r1", replica.port, 4)))
    for _ in range(3):
        (await group.client()).send(get())
    await eventually(lambda: replica.at_once == 3)
    known = len(group.timed)
    await reported_again(group)
    for _ in range(2):  # something must change for a version to be reported
        (await group.client()).send(get())
        await reported_again(group)
    await eventually(lambda: len(group.timed) > known + 2)
    (usages,) = group.usages().values()
    full = [(at, usage) for at, usage in usages if usage.busy >= 3]
    for (at, before), (later, after) in itertools.pairwise(full):
        mean = (after.busy_slot_seconds - before.busy_slot_seconds) / (later - at)
        assert before.busy - 1e-6 <= mean <= after.busy + 1e-6
    last = full[-1][1]
    assert (last.busy, last.total, last.waiting, last.busy_by_replica) == (4, 4, 1, {"r1": 4})
    go_on.set()


async def test_a_thousand_endpoints_and_ten_thousand_replicas_are_taken_in(replicas: Replicas, groups: Groups) -> None:
    replica = await replicas(answers(b"found"))
    versions = [version(f"v{number}", 1.0 if number == 0 else 0.0, is_default=number == 0) for number in range(6)]
    endpoints = tuple(endpoint(*versions, name=f"e{number:03}") for number in range(1000))
    listed = tuple(
        declared(f"{each.name}-{number}", replica.port, version=f"v{number % 6}", endpoint=each.name)
        for each in endpoints
        for number in range(10)
    )
    group = await groups(ResetAll(endpoints, (), TokenTrust("https://issuer.test"), listed))
    client = await group.client()
    for name in ("e000", "e512", "e999"):
        assert (await client.ask(get(SCORE.replace("iris", name)))).body == b"found"

    def total() -> int:
        newest = {usage.key: usage.total for _, report in group.timed for usage in report.versions}
        return sum(newest.values()) if len(newest) == 6000 else 0

    await eventually(lambda: total() == 10_000)


async def test_two_workers_share_one_port(replicas: Replicas, groups: Groups) -> None:
    """Their grants are not shared yet: each counts the slots for itself, so this is about connections only."""
    replica = await replicas()
    group = await groups(snapshot(declared("r1", replica.port, 64)), workers=2)
    clients: list[Client] = [await group.client() for _ in range(40)]
    assert [(await client.ask(request(b"x"))).body for client in clients] == [b"x"] * 40
    metrics = await group.collect()
    assert sum(each.connections for each in metrics) == 40
    assert len(metrics) == len(group.processes()) == 2
