"""Replicas that refuse, break off, babble or die: losses, retries and their number."""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from cluster.link import RemoveReplica, UpsertReplica
from serving.endpoint import RetryRule
from tests.fakes.clock import eventually
from tests.integration.router.clients import BrokenOff, Client, get, request
from tests.integration.router.replicas import (
    OK,
    Replica,
    Request,
    Wire,
    answer_bytes,
    answers,
    deaf,
    echo,
    own_socket,
    plays,
    silent,
)
from tests.integration.router.rig import Rig, declared, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

SMUGGLED = answer_bytes(b"SMUGGLED")


def ids_seen(*replicas: Replica) -> Counter[bytes]:
    return Counter(seen.value(b"x-ms-request-id") for replica in replicas for seen in replica.seen)


async def ask_all(rig: Rig, clients: int, each: int, data: bytes = request()) -> Counter[int]:
    """Statuses of `clients` x `each` requests."""

    statuses: Counter[int] = Counter()

    async def ask() -> None:
        client = await rig.client()
        for _ in range(each):
            statuses[(await client.ask(data)).status] += 1

    await asyncio.gather(*(ask() for _ in range(clients)))
    return statuses


# ---- refused


async def test_a_replica_that_refuses_connections_costs_nothing_and_each_request_is_sent_once(rig: Rig) -> None:
    dead, alive = await rig.replica(), await rig.replica(slots=4)
    dead.refuse()
    assert await ask_all(rig, 16, 20) == {200: 320}
    assert set(ids_seen(alive).values()) == {1} and len(alive.seen) == 320
    assert rig.gateway.stats.counters["retries"] < 40, "it is left alone, longer each time"


async def test_a_replica_that_listens_again_is_used_again(rig: Rig) -> None:
    replica, other = await rig.replica(), await rig.replica()
    replica.refuse()
    assert await ask_all(rig, 2, 20) == {200: 40}
    await replica.start()
    await eventually(lambda: not any(slots.barred for slots in rig.queue().replicas.values()))
    assert await ask_all(rig, 4, 20) == {200: 80}
    assert replica.seen and other.seen


async def test_when_every_replica_refuses_it_is_503_and_nothing_was_sent(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.3)))
    for _ in range(2):
        (await rig.replica()).refuse()
    answer = await (await rig.client()).ask(request())
    assert (answer.status, answer.code) == (503, "NoReadyReplicas")
    assert answer.body == b"No ready replicas for service iris."


async def test_the_only_replica_that_refuses_for_a_moment_is_waited_for(rig: Rig) -> None:
    replica = await rig.replica()
    replica.refuse()
    client = await rig.client()
    client.send(request())
    await eventually(lambda: rig.gateway.stats.counters["retries"])
    await replica.start()
    assert (await client.answer()).status == 200


async def test_a_retried_request_keeps_its_place_in_the_queue(rig: Rig) -> None:
    replica = await rig.replica(echo)
    replica.refuse()
    first = await rig.client()
    first.send(request(b"first"))
    await eventually(lambda: rig.gateway.stats.counters["retries"])
    others = [await rig.client() for _ in range(5)]
    for client in others:
        client.send(request(b"later"))
    await eventually(lambda: rig.waiting() >= 5)
    await replica.start()
    assert (await first.answer()).status == 200
    assert [(await client.answer()).status for client in others] == [200] * 5
    assert replica.seen[0].body == b"first"


# ---- broken off


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_that_was_sent_is_not_sent_again_by_default(rig: Rig, how: str) -> None:
    async def broken(wire: Wire, request: Request) -> None:
        getattr(wire, how)()

    replicas = [await rig.replica(broken), await rig.replica(broken)]
    answer = await (await rig.client()).ask(request())
    assert (answer.status, answer.code) == (502, "ReplicaFailed")
    assert answer.body == b"Replica closed connection before replying"
    assert sum(len(replica.seen) for replica in replicas) == 1


async def test_before_response_allows_a_second_replica_as_long_as_nothing_was_answered(rig: Rig) -> None:
    rig.declare(endpoint(retry=RetryRule.BEFORE_RESPONSE))
    good = await rig.replica(echo)
    bad = await rig.replica(plays(close=True))  # the one that became free last is tried first
    answer = await (await rig.client()).ask(request(b"again"))
    assert (answer.status, answer.body) == (200, b"again")
    assert ids_seen(bad) == ids_seen(good) == {answer.value("x-ms-request-id").encode(): 1}


async def test_before_response_does_not_retry_after_the_begin_of_an_answer(rig: Rig) -> None:
    rig.declare(endpoint(retry=RetryRule.BEFORE_RESPONSE))
    good = await rig.replica()
    await rig.replica(plays(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0.05, close=True))
    client = await rig.client()
    client.send(request())
    with pytest.raises(BrokenOff):
        await client.answer()
    assert good.seen == []


async def test_before_response_gives_up_after_as_many_replicas_as_the_setting_says(rigs: Rigs) -> None:
    rig = await rigs(max_attempts=3)
    rig.declare(endpoint(retry=RetryRule.BEFORE_RESPONSE))
    replicas = [await rig.replica(plays(close=True)) for _ in range(5)]
    assert (await (await rig.client()).ask(request())).status == 502
    assert sum(len(replica.seen) for replica in replicas) == 3


async def test_before_response_does_not_multiply_the_load_on_replicas_that_all_fail(rig: Rig) -> None:
    rig.declare(endpoint(retry=RetryRule.BEFORE_RESPONSE))
    replicas = [await rig.replica(plays(close=True)) for _ in range(3)]
    clients = [await rig.client() for _ in range(60)]
    for client in clients:
        client.send(request())
    assert {(await client.answer()).status for client in clients} == {502}
    assert sum(len(replica.seen) for replica in replicas) <= 1.2 * len(clients)


async def test_a_killed_replica_fails_only_its_requests_in_flight(rig: Rig) -> None:
    replicas = [await rig.replica(answers(after_s=0.005)) for _ in range(3)]
    statuses: Counter[int] = Counter()
    done = False

    async def ask() -> None:
        client = await rig.client()
        while not done:
            statuses[(await client.ask(request())).status] += 1

    tasks = [asyncio.create_task(ask(), name=f"client {number}") for number in range(12)]
    await eventually(lambda: statuses.total() > 50 and replicas[0].at_once)
    replicas[0].kill()
    before = statuses.total()
    await eventually(lambda: statuses.total() > before + 100)
    done = True
    await asyncio.gather(*tasks)
    assert statuses[502] == 1
    assert set(statuses) == {200, 502}
    assert set(ids_seen(*replicas).values()) == {1}


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage garbage\r\n\r\nhello",
        b"HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/3.7 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 300_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=lambda data: data[:60].decode("latin-1").replace("\r", "").replace("\n", "|").replace("\0", "NUL"),
)
async def test_an_answer_that_is_not_http_is_502_at_once_and_its_connection_is_not_used_again(
    rig: Rig, answer: bytes
) -> None:
    replica = await rig.replica(plays(answer, 20.0))
    client = await rig.client()
    began = rig.gateway.now()
    told = await client.ask(get())
    assert (told.status, told.code) == (502, "ReplicaFailed")
    assert rig.gateway.now() - began < 10
    replica.script = answers()
    assert (await client.ask(get())).body == b"hello"
    assert replica.connections == 2


# ---- connections that are kept


async def test_connections_are_kept_and_used_again(rig: Rig) -> None:
    replica = await rig.replica()
    assert await ask_all(rig, 1, 50) == {200: 50}
    assert replica.connections == 1


async def test_a_connection_that_was_idle_for_too_long_is_closed_by_the_router_first(rigs: Rigs) -> None:
    rig = await rigs(upstream_idle_s=0.1)
    replica = await rig.replica()
    assert await ask_all(rig, 1, 1) == {200: 1}
    await eventually(lambda: replica.open_connections == 0)
    assert await ask_all(rig, 1, 1) == {200: 1}


async def test_the_connections_of_a_removed_replica_are_closed(rig: Rig) -> None:
    replica = await rig.replica()
    assert await ask_all(rig, 1, 1) == {200: 1}
    rig.remove(replica)
    await eventually(lambda: replica.open_connections == 0)


class Impatient(asyncio.Protocol):
    """A replica's connection that closes itself after a short while of idleness, and never with a request in it.

    One that closes with a request unread, or read and thrown away, cannot be told from one that has begun it.
    """

    def __init__(self, seen: list[bytes], chance: random.Random) -> None:
        self._seen = seen
        self._chance = chance
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket = own_socket(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._stop_waiting()
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) if end else 0
        if end and len(body) == length:
            self._buffer = b""
            self._seen.append(body)
            self._transport.write(answer_bytes(body))
            self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        self._socket.close()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._chance.uniform(0.005, 0.05), self._expire)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._transport.close()


async def test_a_replica_that_closes_idle_connections_at_random_loses_and_doubles_nothing(rig: Rig) -> None:
    seen: list[bytes] = []
    connections: list[Impatient] = []

    def connect() -> Impatient:
        connections.append(Impatient(seen, random.Random(len(connections))))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
    async with server:
        rig.tell(UpsertReplica(declared("impatient", server.sockets[0].getsockname()[1], 8)))

        async def ask(number: int) -> None:
            client = await rig.client()
            pause = random.Random(number)
            for turn in range(150):
                body = b"%d.%d" % (number, turn)
                answer = await client.ask(request(body))
                assert (answer.status, answer.body) == (200, body), answer
                await asyncio.sleep(pause.choice([0, 0, 0.004, 0.02, 0.05]) * pause.random())

        await asyncio.gather(*(ask(number) for number in range(20)))
        assert sorted(seen) == sorted(b"%d.%d" % (number, turn) for number in range(20) for turn in range(150))
        # 8 are enough if none is closed; how many are closed depends on the speed of the machine
        assert len(connections) >= 3 * 8, "or nothing was tried"
        rig.tell(RemoveReplica("impatient"))


async def test_a_connection_that_died_before_it_was_used_again_is_replaced_unnoticed(rig: Rig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    assert (await client.ask(request(b"again"))).status == 200
    for _ in range(20):
        client.send(request(b"again"))
        replica.hang_up()  # the router hears of it after it has sent
        assert (await client.answer()).body == b"again"
    assert rig.gateway.stats.counters["stale_connections"] == 20
    assert set(ids_seen(replica).values()) == {1}


async def test_a_large_body_never_meets_a_connection_that_is_about_to_be_closed(rig: Rig) -> None:
    """A streamed body cannot be sent again, so it goes out on a connection of its own."""
    replica = await rig.replica(echo)
    client = await rig.client()
    body = b"x" * 300_000
    for _ in range(3):
        assert (await client.ask(request())).status == 200
        client.send(request(body))
        replica.hang_up()  # the router hears of it after it has begun to send
        answer = await client.answer()
        assert (answer.status, len(answer.body)) == (200, len(body))
    assert set(ids_seen(replica).values()) == {1}


async def poisoned(rig: Rig, replica: Replica, client: Client, wait_s: float) -> None:
    assert (await client.ask(get())).body == b"hello"
    await asyncio.sleep(wait_s)
    replica.script = answers(b"mine")
    for _ in range(3):
        assert (await client.ask(get())).body == b"mine"


async def test_unsolicited_bytes_reach_no_client(rig: Rig) -> None:
    replica = await rig.replica(plays(OK, 0.02, SMUGGLED))
    await poisoned(rig, replica, await rig.client(), 0.06)
    assert replica.connections == 4, "none is used twice from now on"


async def test_bytes_behind_an_answer_never_reach_anybody(rig: Rig) -> None:
    replica = await rig.replica(plays(OK + SMUGGLED))
    await poisoned(rig, replica, await rig.client(), 0)
    assert replica.connections == 4


async def test_bytes_behind_a_chunked_answer_never_reach_anybody(rig: Rig) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    replica = await rig.replica(plays(head + b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED))
    await poisoned(rig, replica, await rig.client(), 0)
    assert replica.connections == 4


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_body_in_a_response_without_body_reaches_no_client(rig: Rig, status: str) -> None:
    replica = await rig.replica(plays(f"HTTP/1.1 {status}\r\nContent-Length: 46\r\n\r\n".encode() + SMUGGLED))
    client = await rig.client()
    assert (await client.ask(get())).status == int(status[:3])
    replica.script = answers(b"mine")
    assert (await client.ask(get())).body == b"mine"


async def test_a_replica_that_takes_no_connection_in_time_is_passed_over(rigs: Rigs) -> None:
    rig = await rigs(connect_timeout_s=0.1)
    alive = await rig.replica(slots=3)
    with deaf() as port:
        rig.tell(UpsertReplica(declared("deaf", port, 3)))
        began = rig.gateway.now()
        assert await ask_all(rig, 4, 5) == {200: 20}
        assert 0.1 <= rig.gateway.now() - began < 1.0
        assert len(alive.seen) == 20


# ---- suspect replicas


async def hang(replica: Replica) -> None:
    """The replica accepts connections and answers nothing."""
    replica.script = replica.health = silent


async def test_a_hung_replica_costs_a_sequential_caller_one_timeout_at_most(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.3)))
    replicas = [await rig.replica() for _ in range(3)]
    assert await ask_all(rig, 1, 6) == {200: 6}
    await hang(next(one for one in replicas if one.seen))
    told = await ask_all(rig, 1, 12)
    assert told == {504: 1, 200: 11}


async def test_a_hung_replica_costs_each_of_two_callers_one_timeout_at_most(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.3)))
    replicas = [await rig.replica() for _ in range(3)]
    assert await ask_all(rig, 2, 6) == {200: 12}
    await hang(next(one for one in replicas if one.seen))
    told = await ask_all(rig, 2, 20)
    assert told[504] <= 2 and told[504] + told[200] == 40


async def test_the_replica_of_a_client_that_left_gets_the_next_request_only_after_its_health_path_answered(
    rig: Rig,
) -> None:
    first = await rig.replica(silent)
    first.health = silent
    client = await rig.client()
    client.send(get())
    await eventually(lambda: first.seen)
    other = await rig.replica()
    client.leave()
    await eventually(lambda: first.health_requests)
    assert await ask_all(rig, 1, 5) == {200: 5}
    assert len(first.seen) == 1 and len(other.seen) == 5
    first.script = first.health = answers()
    first.hang_up()  # the silent health request ends, the next one is answered
    await eventually(lambda: not any(slots.barred for slots in rig.queue().replicas.values()))
    other.refuse()
    rig.remove(other)
    assert await ask_all(rig, 1, 5) == {200: 5}
    assert len(first.seen) == 6


async def test_a_broken_response_costs_its_own_request_only(rig: Rig) -> None:
    dying, other = await rig.replica(plays(close=True)), await rig.replica()
    dying.health = silent
    told = await ask_all(rig, 2, 20)
    assert told[502] <= 1 and told[502] + told[200] == 40
    assert len(other.seen) == told[200] and len(dying.seen) == told[502]


async def test_when_the_only_replica_hangs_requests_wait_and_are_served_once_it_answers(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=20.0)))
    replica = await rig.replica(plays(close=True))
    replica.health = silent
    client = await rig.client()
    assert (await client.ask(get())).status == 502
    client.send(get())
    await eventually(lambda: rig.waiting() == 1 and replica.health_requests)
    replica.script = replica.health = answers()
    replica.hang_up()
    assert (await client.answer()).status == 200


async def test_a_suspect_that_says_503_is_not_used_before_it_says_otherwise(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=20.0)))
    replica = await rig.replica(plays(close=True))
    replica.health = answers(status="503 Service Unavailable")
    client = await rig.client()
    assert (await client.ask(get())).status == 502
    client.send(get())
    await eventually(lambda: rig.waiting() == 1 and replica.health_requests > 2)
    replica.script = replica.health = answers()
    assert (await client.answer()).status == 200
