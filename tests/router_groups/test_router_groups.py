"""Several groups: one history of views, the proxy between them, and the distribution of clients."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from router.core.view import Departed, Member, View
from router.membership.agreement import MembershipPart
from tests.fakes.clock import eventually
from tests.router_groups.authority import Authority, History
from tests.router_groups.balancer import Balancer, is_healthy
from tests.router_groups.network import Network, NoNetwork, refusal
from tests.router_groups.proxy import Mischief, Proxy
from tests.router_groups.words import Count, Here, HowMany, Say, SetView, from_group, line, to_group

A, B = Member("a", "127.0.0.1:1"), Member("b", "127.0.0.1:2")


def test_words_survive_their_journey() -> None:
    for word in (
        Here("g"),
        Say(MembershipPart((A,), (Departed("x", {"r": 2}), Departed("y", None)))),
        Count(1, 2, 3, 4, 5),
    ):
        assert from_group(line(word)) == word
    for told in (SetView(View(3, (A, B), (Departed("x", None),))), HowMany()):
        assert to_group(line(told)) == told


def test_every_group_sees_the_members_of_all_and_epochs_grow() -> None:
    history = History()
    history.announce("one", MembershipPart((A,)))
    first = history.view("one")
    history.announce("two", MembershipPart((B,)))
    second = history.view("one")
    assert (first.names(), second.names()) == (("a",), ("a", "b"))
    assert second.epoch > first.epoch
    assert history.view("two") == second


def test_the_leases_of_a_buried_group_are_unknown() -> None:
    history = History()
    history.announce("one", MembershipPart((A,), (Departed("earlier", {"r": 1}),)))
    history.announce("two", MembershipPart((B,)))
    history.bury("one")
    view = history.view("two")
    assert view.names() == ("b",)
    assert view.departed == (Departed("earlier", {"r": 1}), Departed("a", None))


def test_others_get_the_address_of_the_proxy() -> None:
    history = History(lambda of, told, member: replace(member, address=f"proxy-of-{of}:1"))
    history.announce("one", MembershipPart((A,)))
    history.announce("two", MembershipPart((B,)))
    assert [member.address for member in history.view("one").members] == [A.address, "proxy-of-two:1"]


async def test_a_group_that_announces_its_part_gets_the_view(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "a")
    await authority.start()
    reader, writer = await asyncio.open_unix_connection(authority.path)
    writer.write(line(Here("one")) + line(Say(MembershipPart((A,)))))
    async with asyncio.timeout(5):
        assert to_group(await reader.readline()) == SetView(View(1, (A,)))
        asked = asyncio.create_task(authority.count("one"))
        assert to_group(await reader.readline()) == HowMany()
        writer.write(line(Count(1, 2, 3, 0, 0)))
        assert await asked == Count(1, 2, 3, 0, 0)
    writer.close()
    await authority.close()


@contextlib.asynccontextmanager
async def echo(health: bytes = b"") -> AsyncIterator[tuple[str, int]]:
    """A server that echoes its input, or always sends the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(health or data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()
    await asyncio.sleep(0.01)


async def test_the_proxy_passes_on_everything_in_order_however_late() -> None:
    async with echo() as (host, port):
        proxy = Proxy("127.0.0.1", random.Random(1))
        proxy.mischief = Mischief(delay_s=0.005)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port(host, port))
        said = bytes(range(256)) * 40
        writer.write(said)
        async with asyncio.timeout(10):
            assert await reader.readexactly(len(said)) == said
        assert proxy.port(host, port) == proxy.port(host, port)
        writer.close()
        await proxy.close()


async def test_a_connection_through_the_proxy_does_not_live_longer_than_it_may() -> None:
    async with echo() as (host, port):
        proxy = Proxy("127.0.0.1", random.Random(1))
        proxy.mischief = Mischief(life_s=0.02)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port(host, port))
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert proxy.broken == 1
        writer.close()
        await proxy.close()


async def test_the_balancer_gives_clients_to_those_that_are_healthy() -> None:
    async with echo(b"HTTP/1.1 200 OK\r\n\r\n") as good, echo(b"HTTP/1.1 503 No\r\n\r\n") as bad:
        assert await is_healthy(good) and not await is_healthy(bad)
        balancer = Balancer(good, bad)
        await balancer.start()
        await eventually(lambda: not balancer.healthy[bad])
        async with asyncio.timeout(10):
            answers = set()
            for _ in range(4):
                reader, writer = await asyncio.open_connection(*balancer.address)
                writer.write(b"hello")
                answers.add((await reader.readline())[:12])
                writer.close()
        assert answers == {b"HTTP/1.1 200"}
        await balancer.close()


async def test_a_client_sees_the_end_of_the_connection_behind_the_balancer() -> None:
    async with echo(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        pass
    balancer = Balancer(address)
    await balancer.start()
    reader, writer = await asyncio.open_connection(*balancer.address)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    await balancer.close()


def test_unavailable_namespaces_have_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "root" in refusal()
    with pytest.raises(NoNetwork, match="root"):
        Network(2)
