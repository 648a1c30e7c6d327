"""A worker without free descriptors, with failing timers, lost clients or resetting replicas."""

import asyncio
import resource
import signal
import socket
import struct

import pytest

from cluster.link import Metrics, RemoveEndpoint, encode
from router.accesslog import AccessLogMode
from router.settings import RouterSettings
from router.supervisor.listening import listening_socket
from router.worker.router_worker import RouterWorker, WorkerOptions
from serving.endpoint import Auth, RetryRule
from tests.fakes.clock import eventually
from tests.integration.router.clients import BrokenOff, Client, get, request
from tests.integration.router.group import snapshot
from tests.integration.router.replicas import Request, Wire, answers, echo, silent, when
from tests.integration.router.rig import Rig, endpoint, version

# ---- descriptors


async def test_a_client_too_many_gets_503_and_a_crowd_of_them_is_cut_off(rig: Rig) -> None:
    await rig.replica(echo)
    rig.gateway.clients.max_connections = 2
    first, second = await rig.client(), await rig.client()
    assert (await first.ask(request(b"1"))).body == b"1"
    assert (await second.ask(request(b"2"))).body == b"2"
    crowd = [await rig.client() for _ in range(40)]
    told = [await outcome(client) for client in crowd]
    assert set(told) == {503, 0}
    assert told.count(0) >= 40 - 16
    assert (await first.ask(request(b"again"))).body == b"again"


async def outcome(client: Client) -> int:
    """The status; 0 for a connection that ended without an answer."""
    try:
        answer = await client.answer()
    except BrokenOff:
        return 0
    assert answer.value("retry-after") == "1"
    client.leave()
    return answer.status


async def test_clients_never_take_the_descriptors_that_replicas_need(rig: Rig) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(400, before[0]), before[1]))
        assert rig.worker._max_connections() == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    most = rig.gateway.settings.max_connections
    assert rig.worker._max_connections() == min(most, before[0] * 3 // 4)


# ---- stuck slots


async def test_a_slot_with_a_failed_timer_is_ended_counted_and_logged(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    replica = await rig.replica(silent)
    rig.declare(endpoint(version(scoring_timeout_s=0.05)))
    rig.gateway.deadlines._arm_running = lambda queue: None  # type: ignore[method-assign]  # the fault: no timer is ever set
    client = await rig.client()
    client.send(request(b"x"))
    await eventually(lambda: rig.busy())
    answer = await client.answer()
    assert (answer.status, answer.code) == (504, "ScoringTimeout")
    assert rig.gateway.stats.counters["stuck_slots"] == 1
    assert rig.id_of(replica) in caplog.text and answer.value("x-ms-request-id") in caplog.text


async def test_a_slot_that_is_in_time_is_not_stuck(rig: Rig) -> None:
    go_on = asyncio.Event()
    await rig.replica(when(go_on))
    client = await rig.client()
    client.send(request(b"x"))
    await eventually(lambda: rig.busy())
    await rig.swept(5)
    go_on.set()
    assert (await client.answer()).status == 200
    assert rig.gateway.stats.counters["stuck_slots"] == 0


# ---- clients that are not heard leaving


async def test_a_client_that_resets_while_it_is_not_being_read_frees_its_place(rig: Rig) -> None:
    go_on = asyncio.Event()
    replica = await rig.replica(when(go_on))
    first = await rig.client()
    first.send(request(b"x"))
    await eventually(lambda: rig.busy())
    # A body that fills the buffer: the client is not read any more, and waits for a slot.
    second = await rig.client()
    second.send(request(bytes(4_000_000)))
    await eventually(lambda: rig.waiting())
    sock = second.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    second.leave()
    await eventually(lambda: not rig.waiting())
    go_on.set()
    assert (await first.answer()).status == 200
    assert len(replica.seen) == 1


# ---- storms


@pytest.mark.parametrize("rule", list(RetryRule))
async def test_when_every_replica_resets_there_is_no_storm_of_attempts(rig: Rig, rule: RetryRule) -> None:
    async def resets(wire: Wire, request: Request) -> None:
        wire.reset()

    replicas = [await rig.replica(resets) for _ in range(3)]
    rig.declare(endpoint(version(queue_wait_s=0.2), retry=rule))
    clients = [await rig.client() for _ in range(60)]
    for client in clients:
        client.send(request(b"x"))
    statuses = [(await client.answer()).status for client in clients]
    attempts = sum(len(replica.seen) for replica in replicas)
    assert set(statuses) <= {502, 503}
    assert attempts <= 1.2 * len(clients)


async def test_five_times_the_capacity_is_served_to_capacity_and_the_rest_gets_retry_after(rig: Rig) -> None:
    replicas = [await rig.replica(answers(after_s=0.01)) for _ in range(2)]
    rig.declare(endpoint(version(queue_wait_s=0.1)))
    clients = [await rig.client() for _ in range(100)]
    for client in clients:
        client.send(get())
    found = [await client.answer() for client in clients]
    served = [answer for answer in found if answer.status == 200]
    refused = [answer for answer in found if answer.status == 503]
    assert served and len(served) + len(refused) == len(clients)
    assert all(answer.value("retry-after") for answer in refused)
    assert [replica.most_at_once for replica in replicas] == [1, 1]
    assert sum(len(replica.seen) for replica in replicas) == len(served)
    assert (await clients[0].ask(get())).status == 200


# ---- stored objects


def scraped(rig: Rig) -> set[str]:
    """Endpoints of a scrape."""
    (told,) = (part for part in rig.worker._reports.scrape(1, 0, {}) if isinstance(part, Metrics))
    return {each.endpoint for each in told.metrics.versions}


async def test_series_of_removed_versions_end(rig: Rig) -> None:
    rig.declare(endpoint(name="guest", auth=Auth.KEY))
    client = await rig.client()
    assert (await client.ask(get("/api/v1/service/guest/score"))).status == 401
    kept = scraped(rig)
    rig.tell(RemoveEndpoint("guest"))
    rig.gateway.dispatcher.prune()
    assert kept - scraped(rig) == {"guest"}


# ---- background tasks


async def test_a_worker_ends_rather_than_live_on_without_one_of_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    listen = listening_socket("127.0.0.1", 0)
    link, control = socket.socketpair()
    worker = RouterWorker(WorkerOptions("", listen, link, RouterSettings(), AccessLogMode.OFF, -1))
    worker._sweep = fails  # type: ignore[method-assign]  # the fault
    with control:
        control.sendall(encode(snapshot()))
        try:
            async with asyncio.timeout(5):
                await worker.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(number)
            listen.close()
    assert "task failed: sweep connections" in caplog.text
