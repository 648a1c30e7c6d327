"""Clients over TLS: the same answers as plain clients, and the parts of TLS: handshakes, certificates, its close."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.proxy import tls_downstream
from router.proxy.connection_handoff import HandoffReceiver, HandoffSender
from router.proxy.downstream import Downstream
from router.settings import RouterSettings
from serving.endpoint import Auth
from tests.fakes.certificates import make
from tests.fakes.clock import eventually, reaches
from tests.integration.router.clients import BrokenOff, Client, get, request
from tests.integration.router.flood import MB, Flood, held_in_memory, pattern
from tests.integration.router.replicas import OK, Request, Wire, answer_bytes, answers, echo, plays, silent, when
from tests.integration.router.rig import Rig, endpoint, version
from tests.integration.router.secure import RawClient, SecureClient, SecureRig, now
from tests.integration.router.test_streams import CHUNKED_HEAD

Rigs = Callable[..., Awaitable[SecureRig]]


# Workers run on uvloop with a TLS of its own; the standard loop's must behave the same.
ON_EVERY_LOOP = True


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    async with AsyncExitStack() as stack:

        async def start(send_buffer: int | None = None, **changed: Any) -> SecureRig:
            rig = SecureRig(tmp_path / "certificates", RouterSettings(**changed), send_buffer)
            await rig.start()
            stack.push_async_callback(rig.stop)
            return rig

        yield start


@pytest.fixture
async def rig(rigs: Rigs) -> SecureRig:
    return await rigs()


def counted(rig: SecureRig) -> int:
    return rig.gateway.stats.counters["tls_handshakes_failed"]


# ---- requests and answers


async def test_a_client_over_tls_is_served_and_the_replica_gets_https(rig: SecureRig) -> None:
    replica = await rig.replica(echo)
    client = await rig.client()
    for body in (b"first", b"second"):
        answer = await client.ask(request(body))
        assert (answer.status, answer.body) == (200, body)
    assert [seen.value(b"x-forwarded-proto") for seen in replica.seen] == [b"https", b"https"]
    assert replica.seen[0].value(b"x-forwarded-for") == b"127.0.0.1"
    assert rig.gateway.stats.connections == 1
    assert counted(rig) == 0


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_not_lost(rig: SecureRig) -> None:
    await rig.replica(echo)
    with await rig.connect() as sock:
        client = RawClient(sock)
        await client.shake()
        client.tls.write(request(b"early"))
        await client.flush()
        assert (await client.read(1000)).endswith(b"\r\n\r\nearly")


async def test_large_bodies_are_intact_both_ways(rig: SecureRig) -> None:
    await rig.replica(echo)
    client = await rig.client()
    body = pattern(10 * MB)
    answer = await client.ask(request(body))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()
    answer = await client.ask(request(body[:100_000]))
    assert answer.body == body[:100_000]


async def test_a_slow_replica_slows_the_client_down(rig: SecureRig) -> None:
    go_on = asyncio.Event()

    async def read_late(wire: Wire, request: Request) -> None:
        await go_on.wait()
        await wire.read_body(request)
        await wire.send(OK)

    replica = await rig.replica(read_late, reads_body=False)
    client = await rig.client()
    size, sent = 60 * MB, 0  # more than the buffers of the systems on the way take
    client.send(request(None, fields=(f"Content-Length: {size}",)))
    try:
        async with asyncio.timeout(1.0):
            while sent < size:
                client.send(b"x" * 65_536)
                sent += 65_536
                await client.writer.drain()
    except TimeoutError:
        pass
    assert replica.seen and sent < size
    assert held_in_memory(rig) < MB
    go_on.set()
    client.send(b"x" * (size - sent))
    assert (await client.answer()).status == 200
    assert replica.seen[0].body_size == size


async def test_a_slow_reader_pauses_the_replica_and_loses_nothing(rig: SecureRig) -> None:
    flood = Flood(60)
    await rig.replica(flood.answer)
    client = await rig.client(receive_buffer=65_536)
    client.send(get())
    await client.head()
    await flood.is_paused()
    assert held_in_memory(rig) < MB
    await flood.arrives(client.reader)


async def test_a_client_that_takes_nothing_is_cut_off_and_its_slot_is_free(rigs: Rigs) -> None:
    rig = await rigs(write_timeout_s=0.2)
    await rig.replica(answers(b"x" * (30 * MB)))
    client = await rig.client(receive_buffer=4096)
    client.send(get())
    await client.head()
    await eventually(rig.gateway.clients.empty.is_set)
    assert rig.busy() == 0


async def test_events_pass_as_they_come(rig: SecureRig) -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def events(wire: Wire, request: Request) -> None:
        await wire.send(CHUNKED_HEAD)
        for number, step in enumerate(steps):
            await step.wait()
            await wire.send(b"9\r\ndata: %d\n\n\r\n" % number)
        await wire.send(b"0\r\n\r\n")

    await rig.replica(events)
    client = await rig.client()
    client.send(get())
    await client.head()
    stream = client.chunks()
    for number, step in enumerate(steps):
        step.set()
        assert await anext(stream) == b"data: %d\n\n" % number
    assert [piece async for piece in stream] == []


async def test_a_websocket_passes_over_tls(rig: SecureRig) -> None:
    async def shout(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await wire.reader.read(1000):
            await wire.send(data.upper())

    await rig.replica(shout)
    rig.declare(endpoint(version(web_socket=True)))
    client = await rig.client()
    assert (await client.ask(get(fields=("Connection: Upgrade", "Upgrade: websocket")))).status == 101
    client.send(b"hello")
    assert await client.reader.readexactly(5) == b"HELLO"
    client.writer.close()
    await eventually(lambda: rig.busy() == 0)


# ---- ends of connections


async def test_an_early_answer_reaches_a_client_that_is_still_sending(rig: SecureRig) -> None:
    if not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("the standard loop breaks off a connection on which data follows its close_notify")
    await rig.replica(
        plays(answer_bytes(b"big", "413 Content Too Large", ("Connection: close",)), close=True), reads_body=False
    )
    client = await rig.client()
    client.send(request(None, fields=("Content-Length: 9000000",)) + b"x" * 100_000)
    for _ in range(20):
        client.send(b"x" * 10_000)
        await asyncio.sleep(0.002)
    answer = await client.answer()
    assert (answer.status, answer.body, answer.value("connection")) == (413, b"big", "close")


async def test_a_last_answer_is_followed_by_a_close_notify(rig: SecureRig) -> None:
    await rig.replica(plays(CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n"))
    with await rig.connect() as sock:
        client = RawClient(sock)
        await client.shake()
        client.tls.write(request(minor=0))  # the end of the connection is the end of this answer
        await client.flush()
        assert (await client.rest()).endswith(b"\r\n\r\nhello")


async def test_a_slow_reader_gets_the_whole_of_its_last_answer(rigs: Rigs) -> None:
    rig = await rigs(send_buffer=4096)
    body = pattern(50_000)
    await rig.replica(answers(body))
    with await rig.connect(receive_buffer=4096) as sock:
        client = RawClient(sock)
        await client.shake()
        client.tls.write(get(fields=("Connection: close",)))
        await client.flush()
        await eventually(lambda: rig.gateway.stats.version(rig.queue().key).requests)
        await rig.swept(10)
        assert not rig.gateway.clients.empty.is_set()
        assert (await client.rest()).endswith(body)


@pytest.mark.parametrize("minor", [0, 1])
async def test_an_answer_cut_short_does_not_look_whole(rig: SecureRig, minor: int) -> None:
    await rig.replica(plays(CHUNKED_HEAD + b"5\r\nhello\r\n", 0.05, close=True))
    with await rig.connect() as sock:
        client = RawClient(sock)
        await client.shake()
        client.tls.write(request(minor=minor))
        await client.flush()
        if minor:
            assert (await client.rest()).endswith(b"5\r\nhello\r\n"), "a close_notify, and no last chunk"
        else:
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                await client.rest()


async def test_an_idle_client_gets_close_notify_and_is_cut_off_even_without_an_answer(rigs: Rigs) -> None:
    rig = await rigs(idle_timeout_s=0.1)
    await rig.replica(echo)
    with await rig.connect() as sock:
        client = RawClient(sock)
        await client.shake()
        client.tls.write(request(b"hello"))
        await client.flush()
        assert (await client.read(1000)).endswith(b"hello")
        assert await client.read(1000) == b"", "a close_notify"
        await eventually(rig.gateway.clients.empty.is_set)


@pytest.mark.parametrize("how", ["close_notify", "reset"])
async def test_a_client_that_leaves_frees_its_slot_at_once(rig: SecureRig, how: str) -> None:
    await rig.replica(silent)
    client = await rig.client()
    client.send(get())
    await eventually(lambda: rig.busy() == 1)
    if how == "reset":
        client.leave()
    else:
        client.writer.close()
    await eventually(lambda: rig.busy() == 0)
    await eventually(rig.gateway.clients.empty.is_set)


async def test_a_worker_that_leaves_ends_connections_with_their_next_answer_or_when_they_are_idle(
    rigs: Rigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_downstream, "DRAIN_GRACE_S", 0.3)
    rig = await rigs()
    await rig.replica(echo)
    active, idle = await rig.client(), await rig.client()
    for client in (active, idle):
        assert (await client.ask(request())).status == 200
    with await rig.connect() as sock:
        late = RawClient(sock)
        await eventually(lambda: rig.gateway.stats.connections == 3)
        rig.gateway.drain()
        answer = await active.ask(request())
        assert (answer.status, answer.value("connection")) == (200, "close")
        await late.shake()  # a handshake that had begun gets its answer, too
        late.tls.write(request(b"late"))
        await late.flush()
        assert (await late.read(1000)).endswith(b"late")
        assert await late.read(1000) == b""
    assert not idle.reader.at_eof()
    while not idle.reader.at_eof():  # as a worker does, again and again
        rig.gateway.drain()
        await asyncio.sleep(0.002)
    assert await idle.end() == b""
    await eventually(rig.gateway.clients.empty.is_set)


# ---- handshakes


async def test_a_handshake_that_does_not_end_is_broken_off_in_time(rigs: Rigs) -> None:
    rig = await rigs(tls_handshake_timeout_s=0.2)
    with await rig.connect(), await rig.connect() as slow_one:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await loop.sock_sendall(slow_one, b"\x16\x03\x01")
        await eventually(lambda: rig.gateway.stats.connections == 2)
        await asyncio.sleep(0.1)
        await loop.sock_sendall(slow_one, b"\x02\x00")
        await eventually(rig.gateway.clients.empty.is_set)
        assert loop.time() - began < 1
    assert counted(rig) == 2
    await rig.replica()
    assert (await (await rig.client()).ask(get())).status == 200


@pytest.mark.parametrize(
    "said",
    [get(), b"\x00" * 4000, b"\x16\x03\x01\xff\xff" + b"\xff" * 5000, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"],
    ids=["plain HTTP", "zeros", "an endless record", "half a hello"],
)
async def test_bytes_without_tls_are_refused_and_leave_nothing_behind(rigs: Rigs, said: bytes) -> None:
    rig = await rigs(tls_handshake_timeout_s=0.3)
    replica = await rig.replica()
    for _ in range(20):
        with await rig.connect() as sock:
            await asyncio.get_running_loop().sock_sendall(sock, said)
            await eventually(lambda: rig.gateway.stats.connections == 0 or counted(rig))
    await eventually(rig.gateway.clients.empty.is_set)
    assert counted(rig) == 20
    assert replica.seen == []
    assert (await (await rig.client()).ask(get())).status == 200


async def test_clients_that_vanish_in_the_handshake_leave_nothing_behind(rig: SecureRig) -> None:
    for rounds in range(3):
        for _ in range(10):
            sock = await rig.connect()
            client = RawClient(sock)
            with pytest.raises(ssl.SSLWantReadError):
                client.tls.do_handshake()
            if rounds:
                await client.flush()
            if rounds == 2:
                await client._receive()
            sock.close()
    await eventually(rig.gateway.clients.empty.is_set)
    assert counted(rig) == 30
    handshakes = rig.listeners._handshakes
    assert handshakes is not None
    await eventually(lambda: not handshakes._tasks)


async def test_connections_that_only_begin_a_handshake_count_as_clients(rigs: Rigs) -> None:
    rig = await rigs()
    rig.gateway.clients.max_connections = 3
    await rig.replica()
    idlers = [await rig.connect() for _ in range(3)]
    await eventually(lambda: rig.gateway.stats.connections == 3)
    client = await rig.client()  # the one that has been idle longest makes room
    assert (await client.ask(get())).status == 200
    assert rig.gateway.stats.connections == 3
    assert rig.gateway.stats.counters["connections_evicted"] == 1
    assert (await (await rig.client()).ask(get())).status == 200
    assert (await (await rig.client()).ask(get())).status == 200
    with pytest.raises(ConnectionError):
        await rig.client()
    assert (await client.ask(get())).status == 200
    for sock in idlers:
        sock.close()


# ---- certificates


async def test_a_new_certificate_serves_new_clients_and_old_ones_go_on(rig: SecureRig) -> None:
    await rig.replica(echo)
    old = await rig.client()
    before = old.shown
    fresh = make("front.test")
    rig.files.rename(fresh)
    assert rig.certificates.reload(now())
    for name in ("front.test", "elsewhere.test", None):
        client = await rig.client(name=name) if name else await unnamed(rig)
        assert client.shown == fresh.der != before
        assert (await client.ask(request(b"new"))).body == b"new"
    assert (await old.ask(request(b"old"))).body == b"old"


async def unnamed(rig: SecureRig) -> SecureClient:
    """A client that sends no server name (an address is none)."""
    return await rig.client(name="127.0.0.1")


async def test_no_request_fails_while_certificates_change_under_load(rig: SecureRig) -> None:
    await rig.replica(echo, slots=8)
    statuses: list[int] = []
    shown: set[bytes] = set()
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            client = await rig.client()
            shown.add(client.shown)
            for _ in range(3):
                statuses.append((await client.ask(request(b"x" * 1000))).status)
            client.writer.close()

    clients = [asyncio.create_task(load(), name=f"client {number}") for number in range(4)]
    for number in range(12):
        await eventually(reaches(lambda: len(statuses), len(statuses) + 6))
        (rig.files.rename if number % 2 else rig.files.write)(make("front.test"))
        assert rig.certificates.reload(now())
    ended.set()
    await asyncio.gather(*clients)
    assert len(statuses) > 50 and set(statuses) == {200}
    assert len(shown) > 5


async def test_a_refused_change_is_not_noticed_by_clients(rig: SecureRig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.replica()
    before = (await rig.client()).shown
    rig.files.key.write_bytes(make().key)
    assert not rig.certificates.reload(now())
    assert "is not the key of" in caplog.text
    client = await rig.client()
    assert client.shown == before
    assert (await client.ask(get())).status == 200


# ---- without TLS, beside it


async def redirected(rig: SecureRig, said: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status and fields of the answer, and the bytes after it."""
    client = await rig.plain_client(rig.redirect_port)
    client.send(said)
    status, _, fields = await client.head()
    return status, dict(fields), await client.end()


@pytest.mark.parametrize(
    ("said", "there"),
    [
        (b"GET /a/score?a=b%20c HTTP/1.1\r\nHost: front.test\r\n\r\n", "front.test:PORT/a/score?a=b%20c"),
        (b"POST /x HTTP/1.1\r\nHost: front.test:8080\r\nContent-Length: 5\r\n\r\nhello", "front.test:PORT/x"),
        (b"PUT // HTTP/1.1\r\nHost: 10.0.0.1:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "10.0.0.1:PORT//"),
        (b"OPTIONS / HTTP/1.0\r\nHost: [::1]:80\r\n\r\n", "[::1]:PORT/"),
        (b"GET http://else.test/y HTTP/1.1\r\nHost: front.test\r\n\r\n", "else.test:PORT/y"),
    ],
)
async def test_a_plain_client_is_sent_to_the_same_target_over_tls(rig: SecureRig, said: bytes, there: str) -> None:
    status, fields, rest = await redirected(rig, said)
    assert status == 308
    assert fields["location"] == "https://" + there.replace("PORT", str(rig.port))
    assert (fields["connection"], fields["content-length"], rest) == ("close", "0", b"")
    assert len(fields["x-ms-request-id"]) == 36


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@front.test\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a;b\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: front.test\r\n\r\n", 400),
        (b"GET /\r\nX: y HTTP/1.1\r\nHost: front.test\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ],
    ids=range(12),
)
async def test_a_plain_client_that_says_nothing_sensible_is_refused(rig: SecureRig, said: bytes, expected: int) -> None:
    status, fields, _ = await redirected(rig, said)
    assert status == expected
    assert "location" not in fields


async def test_a_redirect_is_given_once_and_no_credential_goes_anywhere(rig: SecureRig) -> None:
    replica = await rig.replica()
    key = "Authorization: Bearer secret"
    status, fields, rest = await redirected(rig, get(fields=(key,)) + get(fields=(key,)))
    assert (status, rest) == (308, b"")
    assert "secret" not in str(fields)
    assert replica.seen == []


async def test_plain_clients_are_bounded_in_time(rigs: Rigs) -> None:
    rig = await rigs(head_timeout_s=0.2, first_byte_timeout_s=0.2)
    silent_one, slow_one = [await rig.plain_client(rig.redirect_port) for _ in range(2)]
    slow_one.send(b"GET / HTTP/1.1\r\nHost: fr")
    assert await silent_one.end() == b""
    assert (await slow_one.head())[0] == 408
    slow_one.leave()
    await eventually(rig.gateway.clients.empty.is_set)


async def test_an_idle_redirect_connection_is_never_handed_to_another_worker(rig: SecureRig) -> None:
    """A plain scoring connection beside it is handed over, so the way is open."""
    plain, seeking = await plain_beside_redirect(rig)
    async with other_worker(rig) as other:
        rig.gateway.clients.hand_off_idle()
        await eventually(lambda: other.gateway.stats.connections == 1)
        assert rig.gateway.stats.connections == 1
        assert rig.gateway.handoff.active
        plain.send(get())
        assert (await plain.answer()).status == 200  # only the other worker has a replica
        seeking.send(get())
        assert (await seeking.head())[0] == 308
        assert other.gateway.stats.connections == 1


async def test_an_idle_redirect_connection_of_a_worker_that_leaves_is_closed(rig: SecureRig) -> None:
    plain, seeking = await plain_beside_redirect(rig)
    async with other_worker(rig) as other:
        rig.gateway.clients.leave_worker()
        await eventually(lambda: other.gateway.stats.connections == 1)
        assert await seeking.end() == b""
        plain.send(get())
        assert (await plain.answer()).status == 200
        assert other.gateway.stats.connections == 1


async def test_an_idle_redirect_connection_of_a_draining_worker_is_closed(rig: SecureRig) -> None:
    client = await rig.plain_client(rig.redirect_port)
    await eventually(lambda: rig.gateway.stats.connections == 1)
    rig.gateway.drain()
    assert await client.end() == b""


async def plain_beside_redirect(rig: SecureRig) -> tuple[Client, Client]:
    """An idle scoring connection without TLS, and an idle one of the listener that redirects."""
    server = await asyncio.get_running_loop().create_server(lambda: Downstream(rig.gateway), "127.0.0.1", 0)
    plain = await rig.plain_client(server.sockets[0].getsockname()[1])
    seeking = await rig.plain_client(rig.redirect_port)
    await eventually(lambda: rig.gateway.stats.connections == 2)
    server.close()
    return plain, seeking


@asynccontextmanager
async def other_worker(rig: SecureRig) -> AsyncIterator[Rig]:
    """A worker with a replica; the rig hands it up to ten connections."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    giver, other = HandoffSender(ours), Rig()
    await other.start()
    await other.replica()
    taker = HandoffReceiver(theirs, other.worker._adopt)
    rig.gateway.handoff.start([giver], 10)
    try:
        yield other
    finally:
        for client in rig._clients:
            client.leave()
        giver.close()
        await taker.close()
        await other.stop()


async def test_a_request_in_flight_is_not_disturbed_by_redirects(rig: SecureRig) -> None:
    go_on = asyncio.Event()
    await rig.replica(when(go_on))
    client = await rig.client()
    client.send(get())
    await eventually(lambda: rig.busy() == 1)
    assert (await redirected(rig, get()))[0] == 308
    go_on.set()
    assert (await client.answer()).status == 200


async def test_a_reset_is_seen_as_broken_off(rig: SecureRig) -> None:
    """The instrument: without it the tests of answers cut short could not fail."""
    await rig.replica(plays(OK))
    client = await rig.client()
    client.send(get())
    client.writer.transport.abort()
    with pytest.raises((BrokenOff, asyncio.IncompleteReadError)):
        await client.answer()


# ---- clients that send or read slowly


async def test_a_refusal_reaches_a_tls_client_that_sends_its_whole_body_first(rig: SecureRig) -> None:
    rig.declare(endpoint(auth=Auth.KEY))
    for _ in range(3):
        client = await rig.client()
        client.send(request(None, fields=(f"Content-Length: {20 * MB}",)))
        for _ in range(20):
            client.send(b"x" * MB)
            await client.writer.drain()
        answer = await client.answer()
        assert (answer.status, answer.value("connection")) == (401, "close")
        client.leave()


@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
async def test_the_answer_of_a_slow_tls_reader_is_held_without_its_slot(rigs: Rigs, closes: bool) -> None:
    rig = await rigs(send_buffer=4096)
    body = pattern(7 * MB)  # more than the kernel's largest send buffer, less than `collect_bytes`
    replica = await rig.replica(answers(body))
    slow = await rig.client(receive_buffer=4096)
    slow.send(get(fields=("Connection: close",) if closes else ()))
    await eventually(lambda: bool(replica.seen) and rig.busy() == 0 and rig.gateway.bodies.used_bytes > 0)
    assert (await slow.answer()).body == body
    await eventually(lambda: rig.gateway.bodies.used_bytes == 0)
