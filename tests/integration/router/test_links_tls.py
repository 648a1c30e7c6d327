"""Links between machines: TCP, and certificates of the peers' own authority at both ends."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from router.core.slot_messages import Ping
from router.core.view import Member, View
from router.peers import peer_listener
from router.peers.frames import MAJOR, Hello, encode
from router.peers.peer_connection import MAX_UNSENT_BYTES
from router.peers.peer_identity import Trust, TrustError
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.integration.router.peers import (
    KILOBYTES,
    Node,
    all_linked,
    close,
    free_port,
    meet,
    nothing_unexpected,
    sockets,
    unix,
    view,
)
from tests.unit.router.test_listening import needs_ipv6

ON_EVERY_LOOP = True

Make = Callable[[str, Trust | None], Node]


@pytest.fixture(autouse=True)
def no_error_of_our_own(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    nothing_unexpected([*caplog.get_records("setup"), *caplog.get_records("call")])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
async def node() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(name: str, trust: Trust | None) -> Node:
            made = Node(name, "127.0.0.1:0", trust)
            stack.push_async_callback(made.links.close)
            return made

        yield make


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "scorefront.router")
    return caplog


def warned(log: pytest.LogCaptureFixture, *texts: str) -> bool:
    """True if one line of the log, at least a warning, has all of these words."""
    lines = [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
    return any(all(text in line for text in texts) for line in lines)


async def test_workers_with_certificates_for_their_names_are_linked(node: Make, authority: Authority) -> None:
    a, b = node("a", authority.issue("a")), node("b", authority.issue("b"))
    meet(a, b)
    await all_linked(a, b)
    a.links.send("b", Ping(1))
    b.links.send("a", Ping(2))
    await eventually(lambda: b.numbers("a") == [1] and a.numbers("b") == [2])
    await eventually(lambda: not b.links._listener._unauthenticated)


async def test_workers_with_certificates_for_their_addresses_are_linked(node: Make, authority: Authority) -> None:
    a, b, c = (node(name, authority.issue("127.0.0.1")) for name in "abc")
    meet(a, b, c)
    await all_linked(a, b, c)


@needs_ipv6
async def test_workers_with_ipv6_addresses_are_linked(authority: Authority) -> None:
    nodes = [Node(name, "[::1]:0", authority.issue("::1")) for name in "ab"]
    meet(*nodes)
    await all_linked(*nodes)
    assert all(each.member.address.startswith("[::1]:") for each in nodes)
    await close(*nodes)


async def test_a_worker_may_listen_for_its_machine_and_for_others(
    node: Make, authority: Authority, tmp_path: Path
) -> None:
    private = tmp_path / "peers"
    private.mkdir(mode=0o700)
    far, near = node("a", authority.issue("a")), Node("b", unix(private, "b"))
    both = node("c", authority.issue("c"))
    beside = both.links.listen(unix(private, "c"))
    far.links.enter(view(1, far, both))
    near.links.enter(View(1, (near.member, Member("c", beside))))
    both.links.enter(view(1, far, near, both))
    await eventually(lambda: both.links.up() == {"a", "b"} and far.links.up() == near.links.up() == {"c"})
    await close(near)


async def test_nagle_does_not_hold_messages_back_and_a_cut_link_is_found_out(node: Make, authority: Authority) -> None:
    a, b = node("a", authority.issue("a")), node("b", authority.issue("b"))
    meet(a, b)
    await all_linked(a, b)
    for each in (*a.links.connections, *b.links.connections):
        assert each._transport is not None
        with socket.socket(fileno=os.dup(each._transport.get_extra_info("socket").fileno())) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000


# ---- refused peers


async def test_a_connecting_peer_with_a_certificate_for_another_name_is_refused(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    a, b = node("a", authority.issue("x.test", "10.9.9.9")), node("b", authority.issue("b"))
    meet(a, b)
    await eventually(lambda: b.links.counters["links_refused"])
    assert warned(log, "link with a: ended", "certificate is for x.test, 10.9.9.9, not for a at 127.0.0.1:")
    assert a.events == b.events == []


async def test_an_accepting_peer_with_a_certificate_for_another_name_is_refused(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    a, b = node("a", authority.issue("a")), node("b", authority.issue("x.test"))
    meet(a, b)
    await eventually(lambda: a.links.counters["links_refused"])
    assert warned(log, "link with b: ended", "certificate is for x.test, not for b at 127.0.0.1:")
    assert a.events == b.events == []


async def test_a_member_cannot_come_under_the_name_of_another(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    c = node("c", authority.issue("c"))
    c.links.enter(View(1, (Member("a", "10.0.0.1:1"), Member("b", "10.0.0.2:1"), c.member)))
    host, _, port = c.address.rpartition(":")
    context = authority.issue("b").context(server=False)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host)
    writer.write(encode(Hello(MAJOR, 0, "a", "c", 5 << 32)))
    assert await end(reader) == b""
    assert warned(log, "link with a: ended", "certificate is for b, not for a at 10.0.0.1:1")
    writer.transport.abort()


@pytest.mark.parametrize("who", ["connects", "answers"])
async def test_a_certificate_of_another_authority_is_refused(
    node: Make, authority: Authority, tmp_path: Path, who: str, log: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path / "another").issue("a" if who == "connects" else "b")
    mixed = Trust(authority.ca, stranger.cert, stranger.key)  # trusts a peer that does not trust it
    a = node("a", mixed if who == "connects" else authority.issue("a"))
    b = node("b", authority.issue("b") if who == "connects" else mixed)
    meet(a, b)
    where = "peer from 127.0.0.1: refused" if who == "connects" else f"link to b at {b.address}: failed"
    await eventually(lambda: warned(log, where, "certificate verify failed"))
    assert a.events == b.events == []


async def test_an_expired_certificate_is_refused(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    a, b = node("a", authority.issue("a", expired=True)), node("b", authority.issue("b"))
    meet(a, b)
    await eventually(lambda: warned(log, ": refused", "certificate has expired"))
    assert a.events == b.events == []


async def test_a_peer_without_a_certificate_is_refused(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    b = node("b", authority.issue("b"))
    b.links.enter(View(1, (Member("127.0.0.1", "127.0.0.1:1"), b.member)))
    host, _, port = b.address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=host)
    writer.write(encode(Hello(MAJOR, 0, "127.0.0.1", "b", 5 << 32)))
    assert await end(reader) == b""
    assert warned(log, "peer from 127.0.0.1: refused", "did not return a certificate")
    assert not b.links.connections
    writer.transport.abort()


async def test_a_tcp_connection_without_a_certificate_belongs_to_no_member(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    """A second lock: no such connection gets through the handshake."""
    b = node("b", authority.issue("b"))
    b.links.enter(View(1, (Member("a", "127.0.0.1:1"), b.member)))
    server = await asyncio.get_running_loop().create_server(b.links._accepted, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(encode(Hello(MAJOR, 0, "a", "b", 5 << 32)))
    assert await end(reader) == b""
    assert warned(log, "link with a: ended", "certificate is for no name")
    writer.transport.abort()
    server.close()


async def test_a_peer_without_tls_is_refused(node: Make, authority: Authority, log: pytest.LogCaptureFixture) -> None:
    b = node("b", authority.issue("b"))
    host, _, port = b.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(encode(Hello(MAJOR, 0, "a", "b", 5 << 32)))
    await end(reader)
    await eventually(lambda: warned(log, "peer from 127.0.0.1: refused"))
    assert not b.links.connections
    writer.transport.abort()


async def test_a_port_scan_is_logged_with_a_reason(
    node: Make, authority: Authority, log: pytest.LogCaptureFixture
) -> None:
    b = node("b", authority.issue("b"))
    host, _, port = b.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.transport.abort()
    await eventually(lambda: warned(log, "peer from 127.0.0.1: refused: Connection"))


async def test_a_peer_with_a_renewed_certificate_is_linked_without_a_restart(node: Make, authority: Authority) -> None:
    trust = authority.issue("a", expired=True)
    a, b = node("a", trust), node("b", authority.issue("b"))
    meet(a, b)
    await asyncio.sleep(0.05)
    assert not b.links.up()
    assert authority.issue("a") == trust
    await all_linked(a, b)


# ---- requirements


async def test_without_certificates_there_is_no_listener_for_other_machines(node: Make) -> None:
    with pytest.raises(TrustError, match="need certificates"):
        node("a", None)


async def test_without_certificates_no_other_machine_is_called(
    node: Make, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    private = tmp_path / "peers"
    private.mkdir(mode=0o700)
    a = Node("a", unix(private, "a"))
    a.links.enter(View(1, (a.member, Member("b", f"127.0.0.1:{free_port()}"))))
    await eventually(lambda: warned(log, "link to b at 127.0.0.1:", "need certificates"))
    await close(a)


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_files_that_are_missing_or_wrong_are_named(authority: Authority, broken: str) -> None:
    trust = authority.issue("a")
    file: Path = getattr(trust, broken)
    file.write_text("no PEM")
    with pytest.raises(TrustError, match=str(file)):
        trust.context(server=True)
    file.unlink()
    with pytest.raises(TrustError, match="no such file"):
        trust.context(server=True)


async def test_a_worker_without_an_own_certificate_does_not_listen(authority: Authority, node: Make) -> None:
    with pytest.raises(TrustError):
        node("a", replace(authority.issue("a"), key=authority.issue("b").key))


@pytest.mark.parametrize("address", ["nowhere", ".leading.dot:7000", "x" * 64 + ".test:7000", "unix:relative"])
async def test_a_member_with_an_invalid_address_disturbs_no_other(
    node: Make, authority: Authority, address: str, log: pytest.LogCaptureFixture
) -> None:
    a, b = node("a", authority.issue("a")), node("b", authority.issue("b"))
    b.links.enter(view(1, a, b))
    a.links.enter(View(1, (*view(1, a, b).members, Member("z", address))))
    await all_linked(a, b)
    await eventually(lambda: "link to z" in log.text)


# ---- load, breaks, the end


async def test_a_peer_that_does_not_read_loses_its_session_over_tls_too(node: Make, authority: Authority) -> None:
    a, b = node("a", authority.issue("a")), node("b", authority.issue("b"))
    meet(a, b)
    await all_linked(a, b)
    (reading,) = b.links.connections
    assert reading._transport is not None
    reading._transport.pause_reading()
    sent = 0
    while ("down", "b") not in a.events:
        assert sent < 1000, "it would have gone on for ever"
        a.links.send("b", KILOBYTES)
        sent += 1
        await asyncio.sleep(0)
    assert sent * 63_000 > MAX_UNSENT_BYTES


async def test_a_handshake_that_stands_still_ends_in_time(
    node: Make, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_listener, "HANDSHAKE_S", 0.05)
    b = node("b", authority.issue("b"))
    host, _, port = b.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(5):
        await end(reader)
    await eventually(lambda: not b.links._listener._unauthenticated)
    writer.transport.abort()


async def test_close_leaves_nothing_behind_with_links_handshakes_and_calls_in_the_air(authority: Authority) -> None:
    sockets_before, tasks_before = sockets(), asyncio.all_tasks()
    a, b = (Node(name, "127.0.0.1:0", authority.issue(name)) for name in "ab")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        members = (*view(1, a, b).members, Member("c", f"127.0.0.1:{deaf.getsockname()[1]}"))
        for each in (a, b):
            each.links.enter(View(1, members))
        host, _, port = a.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))  # a handshake that never ends
        await eventually(lambda: a.links.up() == {"b"} and b.links.up() == {"a"})
        for _ in range(50):
            a.links.send("b", KILOBYTES)
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await close(a, b)
        await end(reader)
        writer.transport.abort()
    await eventually(lambda: sockets() == sockets_before)
    assert asyncio.all_tasks() == tasks_before


async def end(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the other side ends the connection in any way."""
    try:
        return await reader.read()
    except OSError:
        return b""
