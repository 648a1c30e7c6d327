"""Bytes that one exchange leaves on a replica's connection, and the connection that the next one gets."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from cluster.link import RemoveReplica, UpsertReplica
from tests.fakes.clock import eventually
from tests.integration.router.clients import BrokenOff, get, request
from tests.integration.router.logged_requests import LoggedRequests
from tests.integration.router.replicas import OK, Request, Wire, answer_bytes, answers, echo, plays
from tests.integration.router.rig import Rig, declared, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

CHUNKED = ("Transfer-Encoding: chunked",)
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ---- requests to replicas


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("pieces", [(), (b"hello",), (b"a" * 100, b"b" * 50_000)], ids=["empty", "one", "two"])
async def test_a_chunked_body_that_is_held_whole_goes_out_with_its_length(
    rig: Rig, method: str, pieces: tuple[bytes, ...]
) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    answer = await client.ask(request(None, method=method, fields=CHUNKED) + chunks(*pieces))
    assert answer.body == b"".join(pieces)
    assert replica.seen[0].value(b"content-length") == b"%d" % len(answer.body)
    assert replica.seen[0].values(b"transfer-encoding") == []


async def test_a_replica_that_answers_http_1_0_is_never_sent_chunks(rigs: Rigs) -> None:
    rig = await rigs(collect_bytes=100_000)
    replica = await rig.replica(plays(OLD, close=True))
    client = await rig.client()
    assert (await client.ask(request())).status == 200
    assert (await client.ask(request(None, fields=CHUNKED) + chunks(b"x" * 90_000))).status == 200
    assert replica.seen[1].value(b"content-length") == b"90000"
    client.send(request(None, fields=CHUNKED) + b"30000\r\n" + b"x" * 0x30000 + b"\r\n0\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.code) == (413, "PayloadTooLarge")
    assert b"HTTP/1.0" in answer.body and b"100,000 bytes" in answer.body
    assert len(replica.seen) == 2
    replica.script = plays(OK)
    for client in (await rig.client(), await rig.client()):
        assert (await client.ask(request())).status == 200
    client.send(request(None, fields=CHUNKED) + b"30000\r\n" + b"x" * 0x30000 + b"\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200, "it answers HTTP/1.1 by now"


async def test_a_connection_that_carried_a_streamed_body_is_not_used_again(rigs: Rigs) -> None:
    rig = await rigs(collect_bytes=65_536)
    replica = await rig.replica(echo)
    client = await rig.client()
    for fields, body in (
        (CHUNKED, b"30000\r\n" + b"x" * 0x30000 + b"\r\n0\r\n\r\n"),
        (("Content-Length: 200000",), b"x" * 200_000),
    ):
        client.send(request(None, fields=fields) + body[:100_000])
        await eventually(lambda: rig.busy() == 1)
        assert (await client.ask(body[100_000:])).status == 200
        before = replica.connections
        assert (await client.ask(get())).status == 200
        assert replica.connections == before + 1


@pytest.mark.parametrize(("data", "kept"), [(request(), False), (get(), True)], ids=["with a body", "without a body"])
async def test_a_refusal_of_a_body_ends_its_connection_since_it_may_be_unread(
    rig: Rig, data: bytes, kept: bool
) -> None:
    replica = await rig.replica(answers(status="404 Not Found"))
    client = await rig.client()
    for _ in range(2):
        assert (await client.ask(data)).status == 404
    assert replica.connections == (1 if kept else 2)


async def test_an_answer_that_comes_before_a_large_body_was_taken_ends_the_connection(rig: Rig) -> None:
    """The replica's next request would be the rest of the body."""
    replica = await rig.replica(plays(OK, 0.05), reads_body=False)
    one, other = await rig.client(), await rig.client()
    assert (await one.ask(request(b"x" * 6_000_000))).status == 200
    assert (await other.ask(get())).status == 200
    assert replica.connections == 2


# ---- answers of replicas


@pytest.mark.parametrize("size", [50_000, 500_000, 20_000_000])
async def test_the_status_of_a_replica_that_answers_early_and_leaves_passes(rig: Rig, size: int) -> None:
    async def early(wire: Wire, seen: Request) -> None:
        await wire.send(answer_bytes(b"too large", "413 Content Too Large", ("Connection: close",)))
        wire.close()

    replica = await rig.replica(early, reads_body=False)
    for number in range(10):
        client = await rig.client()
        client.send(request(b"x" * size))
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"too large"), number
    assert len(replica.seen) == 10


# ---- the access log


async def test_every_end_of_a_request_but_success_has_a_code_in_the_access_log(rigs: Rigs) -> None:
    rig = await rigs()
    rig.declare(endpoint(version(scoring_timeout_s=0.3)))
    log = LoggedRequests(rig)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    replica = await rig.replica(answers(status="500 Internal Server Error"))
    assert (await (await rig.client()).ask(get())).status == 502
    replica.script = plays(head, close=True)
    with pytest.raises(BrokenOff):
        await (await rig.client()).ask(get())
    replica.script = plays(head, 30.0)
    with pytest.raises(BrokenOff):
        await (await rig.client()).ask(get())
    leaving = await rig.client()
    leaving.send(get())
    await eventually(lambda: rig.busy() == 1)
    leaving.leave()
    await eventually(lambda: rig.busy() == 0)
    replica.script = answers(status="503 Service Unavailable")
    assert (await (await rig.client()).ask(get())).status == 503
    logged = [(record["status"], record["code"]) for record in log.read()]
    ends = [(502, "ModelError"), (502, "ReplicaFailed"), (504, "ScoringTimeout"), (499, "ClientGone"), (503, "")]
    assert logged == ends


@pytest.mark.parametrize("end", ["refused", "left"])
async def test_a_request_that_never_got_a_slot_has_waited_all_its_time(rig: Rig, end: str) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.2)))
    log = LoggedRequests(rig)
    client = await rig.client()
    client.send(request())
    await eventually(lambda: rig.waiting() == 1)
    if end == "refused":
        assert (await client.answer()).status == 503
    else:
        await asyncio.sleep(0.01)
        client.leave()
        await eventually(lambda: rig.waiting() == 0)
    (record,) = log.read()
    assert record["waited"] == record["seconds"] > 0
    buckets = rig.gateway.stats.version(rig.queue().key).queue_wait
    assert buckets.counts[0] == 0 and sum(buckets.counts) == 1


# ---- delayed acknowledgements


@pytest.fixture
def nagling() -> Iterator[int]:
    """A replica that writes the head and the body of an answer apart, under Nagle's algorithm."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                if b"\r\n\r\n" in data:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                    connection.sendall(b"hello")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


async def test_a_replica_that_writes_head_and_body_apart_waits_for_no_acknowledgement(rig: Rig, nagling: int) -> None:
    rig.tell(UpsertReplica(declared("nagling", nagling)))
    client = await rig.client()
    took = []
    for _ in range(40):
        began = rig.gateway.now()
        assert (await client.ask(get())).body == b"hello"
        took.append(rig.gateway.now() - began)
    rig.tell(RemoveReplica("nagling"))
    assert sorted(took[20:])[5] < 0.035, "a delayed acknowledgement takes 40 ms"
