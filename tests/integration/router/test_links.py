"""Links between workers of one machine, over real sockets."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from router.core.slot_messages import Ping
from router.core.view import Member, View
from router.peers import peer_connection
from router.peers.address import AddressError
from router.peers.frames import MAJOR, Batch, Hello, encode
from tests.fakes.clock import eventually, settle
from tests.integration.router.peers import (
    KILOBYTES,
    Node,
    RawPeer,
    all_linked,
    close,
    meet,
    nothing_unexpected,
    sockets,
    unix,
    view,
)

ON_EVERY_LOOP = True

Make = Callable[[str], Node]


@pytest.fixture(autouse=True)
def no_error_of_our_own(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    nothing_unexpected([*caplog.get_records("setup"), *caplog.get_records("call")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    private = tmp_path / "peers"
    private.mkdir(mode=0o700)
    return private


@pytest.fixture
async def node(folder: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(name: str) -> Node:
            made = Node(name, unix(folder, name))
            stack.push_async_callback(made.links.close)
            return made

        yield make


async def test_two_workers_have_one_link_and_messages_go_both_ways_in_order(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    for number in range(100):
        a.links.send("b", Ping(number))
        b.links.send("a", Ping(-number))
    await eventually(lambda: len(a.heard) == len(b.heard) == 100)
    assert b.heard == [("a", Ping(number)) for number in range(100)]
    assert a.heard == [("b", Ping(-number)) for number in range(100)]
    assert len(a.links.connections) == len(b.links.connections) == 1


async def test_three_workers_are_linked_each_with_every_other(node: Make) -> None:
    nodes = [node(name) for name in "cab"]
    meet(*nodes)
    await all_linked(*nodes)
    for sender in nodes:
        for peer in sender.links.up():
            sender.links.send(peer, Ping(1))
    await eventually(lambda: all(len(each.heard) == 2 for each in nodes))
    assert [len(each.links.connections) for each in nodes] == [2, 2, 2]


async def test_the_worker_with_the_smaller_name_connects(node: Make) -> None:
    a, b = node("a"), node("b")
    seen = view(1, a, b)
    b.links.enter(seen)
    await asyncio.sleep(0.05)
    assert not a.links.connections
    a.links.enter(seen)
    await all_linked(a, b)
    assert [each.incoming for each in (*a.links.connections, *b.links.connections)] == [False, True]


async def test_messages_of_one_tick_travel_as_one_frame_and_no_later_than_the_tick(node: Make) -> None:
    b = node("b")
    peer = await RawPeer.connect("a", b)
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    await peer.greet("b")
    await eventually(lambda: b.links.up())
    for number in range(5):
        b.links.send("a", Ping(number))
    frame = await peer.frame()
    assert isinstance(frame, Batch) and frame.messages == tuple(map(Ping, range(5)))
    await peer.close()


async def test_a_hurried_message_is_sent_at_once_and_the_rest_of_the_tick_follows_in_one_frame(
    node: Make,
) -> None:
    b = node("b")
    peer = await RawPeer.connect("a", b)
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    await peer.greet("b")
    await eventually(lambda: b.links.up())
    b.links.send("a", Ping(0))
    b.links.flush_now()
    for number in range(1, 5):
        b.links.send("a", Ping(number))
        b.links.flush_now()
    frames = [await peer.frame(), await peer.frame()]
    assert [frame.messages for frame in frames if isinstance(frame, Batch)] == [
        (Ping(0),),
        tuple(map(Ping, range(1, 5))),
    ]
    await peer.close()


async def test_the_core_is_yielded_once_a_tick_after_hurried_messages(node: Make) -> None:
    b = node("b")
    peer = await RawPeer.connect("a", b)
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    await peer.greet("b")
    await eventually(lambda: b.links.up())
    b.links.send("a", Ping(0))
    await peer.frame()
    assert b.yields == 0, "no message was hurried"
    b.links.flush_now()
    assert b.yields == 0, "there was no message"
    for number in range(1, 5):
        b.links.send("a", Ping(number))
        b.links.flush_now()
    assert b.yields == 1
    await peer.close()


async def test_messages_without_urgency_go_at_the_end_of_the_tick(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    for _ in range(100):
        b.links.send("a", KILOBYTES)
        b.links.flush_now()
    await eventually(lambda: len(a.heard) == 100)


async def test_messages_at_the_start_of_a_session_arrive_first(node: Make) -> None:
    a, b = node("a"), node("b")
    a.greeting = b.greeting = Ping(1)
    meet(a, b)
    await eventually(lambda: a.numbers("b") == b.numbers("a") == [1])


async def test_a_message_to_a_peer_without_a_link_is_dropped_and_counted(node: Make) -> None:
    a, b = node("a"), node("b")
    a.links.send("b", Ping(1))
    assert a.links.counters["link_messages_unsent"] == 1
    meet(a, b)
    await all_linked(a, b)
    await settle()
    assert b.heard == []


# ---- breaks


async def test_a_broken_link_is_made_anew_and_reported_at_both_ends(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    for breaker in (a, b):
        (link,) = breaker.links.connections
        link.break_off("for a test")
        await all_linked(a, b)
        await eventually(lambda: len(a.events) == len(b.events))
    await eventually(lambda: a.events == [("up", "b"), ("down", "b")] * 2 + [("up", "b")])
    assert b.events == [(kind, "a") for kind, _ in a.events]
    b.links.send("a", Ping(1))
    await eventually(lambda: a.numbers("b") == [1])


async def test_a_link_comes_up_when_the_peer_begins_to_listen(node: Make, folder: Path) -> None:
    a = node("a")
    a.links.enter(View(1, (a.member, Member("b", unix(folder, "b")))))
    await asyncio.sleep(0.05)
    b = node("b")
    meet(a, b, epoch=2)
    await all_linked(a, b)


async def test_a_peer_that_learns_of_a_member_late_is_linked_then(node: Make) -> None:
    a, b = node("a"), node("b")
    seen = view(1, a, b)
    a.links.enter(seen)
    await eventually(lambda: b.links.counters["links_refused"])
    assert b.events == []
    b.links.enter(seen)
    await all_linked(a, b)


async def test_a_member_that_leaves_loses_its_links_at_once_and_is_not_called_again(node: Make) -> None:
    a, b, c = node("a"), node("b"), node("c")
    meet(a, b, c)
    await all_linked(a, b, c)
    seen = view(2, a, c)
    for each in (a, c):
        each.links.enter(seen)
        assert each.events[-1] == ("down", "b")
        assert len(each.links.up()) == 1
    await eventually(lambda: not b.links.up())
    await all_linked(a, c)
    await eventually(lambda: callers() == ["keep a link to c"] * 2)  # of a, and of b, without a notice
    assert b.events[-2:] in ([("down", "a"), ("down", "c")], [("down", "c"), ("down", "a")])


def callers() -> list[str]:
    """Tasks that make links."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return sorted(name for name in names if "keep a link" in name)


async def test_a_view_without_this_worker_ends_all_its_links(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    a.links.enter(view(2, b))
    assert not a.links.up()
    await eventually(lambda: not b.links.up())


async def test_a_new_session_of_a_peer_takes_the_place_of_the_one_before(node: Make) -> None:
    b = node("b")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    first, second = await RawPeer.connect("a", b), await RawPeer.connect("a", b)
    for peer in (first, second):
        await peer.greet("b")
        await eventually(lambda: b.links.up())
    assert await first.ended()
    b.links.send("a", Ping(1))
    assert isinstance(await second.frame(), Batch)
    assert b.events == [("up", "a"), ("down", "a"), ("up", "a")]
    for peer in (first, second):
        await peer.close()


async def test_connections_that_were_given_up_before_they_were_answered_never_count_as_links(node: Make) -> None:
    """As they pile up in the backlog of a worker that was stopped for a minute."""
    b = node("b")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(b.address.removeprefix("unix:"))
            sock.sendall(encode(Hello(MAJOR, 0, "a", "b", 5 << 32)))
    peer = await RawPeer.connect("a", b)
    await peer.greet("b")  # the last in the backlog
    await eventually(lambda: b.links.up() and not b.links._listener._unauthenticated)
    assert b.events == [("up", "a")]
    await peer.close()


async def test_a_peer_that_refuses_is_called_again_ever_more_rarely(node: Make) -> None:
    a, b = node("a"), node("b")
    began = asyncio.get_running_loop().time()
    a.links.enter(view(1, a, b))
    await eventually(lambda: b.links.counters["links_refused"] >= 5)
    # After 20, 40, 80, 160 ms, each at least half of it.
    assert asyncio.get_running_loop().time() - began >= 0.15
    assert b.links.counters["links_refused"] <= 6


# ---- peers that are none, or behave badly

REFUSED = {
    "who is not a member": ("x", "b"),
    "who has the larger name, and should not connect": ("c", "b"),
    "who wants somebody else": ("a", "c"),
    "who calls itself as this worker": ("b", "b"),
}


@pytest.mark.parametrize(("name", "to"), REFUSED.values(), ids=REFUSED)
async def test_a_stranger_is_sent_away(node: Make, name: str, to: str) -> None:
    b, c = node("b"), node("c")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member, c.member)))
    peer = await RawPeer.connect(name, b)
    peer.send(Hello(MAJOR, 0, name, to, 5 << 32))
    with pytest.raises((EOFError, ConnectionError)):  # not even an answer
        await peer.frame()
    assert ("up", name) not in b.events
    await peer.close()


async def test_a_peer_of_another_version_is_refused_and_the_log_says_why(
    node: Make, caplog: pytest.LogCaptureFixture
) -> None:
    b = node("b")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    peer = await RawPeer.connect("a", b)
    peer.send(Hello(MAJOR + 1, 0, "a", "b", 5 << 32))
    assert await peer.ended()
    assert f"protocol version {MAJOR + 1}.0" in caplog.text
    await peer.close()


BAD = {
    "no frame": b"\x00\x00\x00\x01\xc1",
    "a frame without end": b"\xff\xff\xff\xff",
    "a frame too early": bytes(encode(Batch(0, 9, ()))),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_a_peer_that_sends_a_forbidden_frame_loses_its_session(
    node: Make, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    b = node("b")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    peer = await RawPeer.connect("a", b)
    await peer.greet("b")
    await eventually(lambda: b.links.up())
    peer.writer.write(data)
    assert await peer.ended()
    assert b.events == [("up", "a"), ("down", "a")]
    assert [record.levelno for record in caplog.records if "link with a: ended" in record.message] == [logging.WARNING]
    await peer.close()


async def test_a_silent_connection_is_closed_in_time(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_connection, "HANDSHAKE_S", 0.05)
    b = node("b")
    peer = await RawPeer.connect("a", b)
    async with asyncio.timeout(5):
        assert await peer.ended()
    await peer.close()


async def test_strangers_beyond_a_number_make_room_oldest_first(node: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.peers.peer_listener.MAX_UNAUTHENTICATED", 3)
    a, b = node("a"), node("b")
    crowd = [await RawPeer.connect("x", b) for _ in range(4)]
    assert await crowd[0].ended()
    assert len(b.links._listener._unauthenticated) == 3
    for peer in crowd:
        await peer.close()
    meet(a, b)
    await all_linked(a, b)


async def test_a_peer_that_does_not_read_loses_its_session_and_not_our_memory(node: Make) -> None:
    b = node("b")
    b.links.enter(View(1, (Member("a", "unix:/nowhere"), b.member)))
    peer = await RawPeer.connect("a", b)
    await peer.greet("b")
    await eventually(lambda: b.links.up())
    cast(asyncio.Transport, peer.writer.transport).pause_reading()
    (link,) = b.links.connections
    most = sent = 0
    while b.links.up():
        assert sent < 1000, "it would have gone on for ever"
        b.links.send("a", KILOBYTES)
        sent += 1
        await asyncio.sleep(0)
        assert link._transport is not None
        most = max(most, link._transport.get_write_buffer_size())
    assert peer_connection.MAX_UNSENT_BYTES < most < peer_connection.MAX_UNSENT_BYTES + 200_000
    assert b.events == [("up", "a"), ("down", "a")]
    await eventually(lambda: not b.links.connections)
    await peer.close()


async def test_a_reading_peer_gets_any_amount(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    for _ in range(300):
        a.links.send("b", KILOBYTES)
    a.links.send("b", Ping(1))  # 19 MB in one tick
    await eventually(lambda: b.numbers("a") == [1], 20)
    assert len(b.heard) == 301
    assert a.events == [("up", "b")]


async def test_an_error_in_the_handling_of_a_message_breaks_the_session_and_a_new_one_follows(node: Make) -> None:
    a, b = node("a"), node("b")
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def fail(peer: str, message: object) -> None:
        raise ZeroDivisionError

    b.links.on_message = fail
    meet(a, b)
    await all_linked(a, b)
    a.links.send("b", Ping(1))
    await eventually(lambda: a.events == [("up", "b"), ("down", "b"), ("up", "b")])
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


async def test_a_link_that_ends_while_a_frame_is_read_delivers_nothing_more_of_it(node: Make) -> None:
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)
    heard = []

    def leave(peer: str, message: object) -> None:
        heard.append(message)
        b.links.enter(View(2, ()))

    b.links.on_message = leave
    for number in range(3):
        a.links.send("b", Ping(number))
    await eventually(lambda: ("down", "b") in a.events)
    assert heard == [Ping(0)]


# ---- the end


async def test_close_leaves_no_task_socket_or_file(folder: Path) -> None:
    sockets_before, tasks_before = sockets(), asyncio.all_tasks()
    nodes = [Node(name, unix(folder, name)) for name in "abc"]
    lonely = Node("d", unix(folder, "d"))
    meet(*nodes)
    lonely.links.enter(View(1, (lonely.member, Member("e", unix(folder, "e")))))
    stranger = await RawPeer.connect("x", nodes[0])
    await all_linked(*nodes)
    await stranger.close()
    assert len(os.listdir(folder)) == 4
    await close(*nodes, lonely)
    assert not any(each.links.connections for each in nodes)
    assert os.listdir(folder) == []
    await eventually(lambda: sockets() == sockets_before)
    assert asyncio.all_tasks() == tasks_before


async def test_close_under_load_ends_at_once_and_reports_nothing_more(folder: Path) -> None:
    a, b = Node("a", unix(folder, "a")), Node("b", unix(folder, "b"))
    meet(a, b)
    await all_linked(a, b)
    for _ in range(100):
        a.links.send("b", KILOBYTES)
        b.links.send("a", KILOBYTES)
    await eventually(lambda: a.heard)
    heard = len(a.heard)
    async with asyncio.timeout(2):
        await a.links.close()
    assert not a.links.connections
    assert len(a.heard) == heard
    assert a.events == [("up", "b")]
    await eventually(lambda: b.events == [("up", "a"), ("down", "a")])
    a.links.send("b", Ping(1))
    a.links.enter(view(2, a, b))
    await close(a, b)


async def test_close_before_the_first_view_and_twice_is_harmless(folder: Path) -> None:
    a = Node("a", unix(folder, "a"))
    await close(a, a)


# ---- listeners


async def test_a_socket_file_of_a_worker_that_was_killed_is_replaced(node: Make, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(folder / "b"))
    a, b = node("a"), node("b")
    meet(a, b)
    await all_linked(a, b)


async def test_a_directory_that_others_may_enter_is_refused(folder: Path) -> None:
    os.chmod(folder, 0o755)
    with pytest.raises(AddressError, match="private to this user"):
        Node("a", unix(folder, "a"))
    assert os.listdir(folder) == []
