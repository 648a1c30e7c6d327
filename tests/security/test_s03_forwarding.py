"""S3: a standby sends a credential only to control processes of its installation, for any contents of the Lease."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from cluster.kubernetes.client.election import LeaderInfo
from cluster.trust import CONTROL, ROUTER, Trust, TrustError
from scorefront.control.rest_port import RestPort, RestPortTls
from scorefront.ports.connection_table import PortLimits
from tests.fakes.authority import Authority

CREDENTIAL = {"Authorization": "Bearer the-control-token"}


class Host:
    """A host named by the Lease; records its requests."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.connections = 0
        self.rest = ""

    async def start(self, context: ssl.SSLContext | None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context).start()
        scheme = "http" if context is None else "https"
        self.rest = f"{scheme}://127.0.0.1:{self.runner.addresses[0][1]}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.headers.get("Authorization", ""))
        return web.Response(text="led")


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    yield made
    await made.runner.cleanup()


class Standby:
    """A control process that does not lead; its REST port speaks TLS with its own certificate."""

    def __init__(self, folder: Path, leader: Callable[[], LeaderInfo | None]) -> None:
        self.authority = Authority(folder)
        trust = self.authority.issue("localhost", CONTROL, "127.0.0.1")
        self.own = Trust(trust.ca, trust.cert, trust.key)
        sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{sock.getsockname()[1]}"
        tls = RestPortTls(lambda: server(self.own), self.own.verifying)
        self.door = RestPort(sock, "standby_1", leader, PortLimits(), tls)
        self.client = ssl.create_default_context(cafile=trust.ca)


@pytest.fixture
async def standby(tmp_path: Path, host: Host) -> AsyncIterator[Standby]:
    made = Standby(tmp_path / "ours", lambda: LeaderInfo("leader_1", rest=host.rest))
    await made.door.stand_by()
    yield made
    await made.door.close()


def server(trust: Trust) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trust.cert, trust.key)
    return context


async def ask(standby: Standby) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{standby.url}/api/v1/endpoints/iris/keys", headers=CREDENTIAL, ssl=standby.client) as answer,
    ):
        return answer.status, await answer.text()


async def test_the_leader_gets_the_request_with_its_credential(standby: Standby, host: Host) -> None:
    await host.start(server(standby.authority.issue(CONTROL)))
    assert await ask(standby) == (200, "led")
    assert host.seen == [CREDENTIAL["Authorization"]]


@pytest.mark.parametrize("who", ["plain http", "another authority", "a router", "its address only", "self-signed"])
async def test_a_writer_of_the_lease_gets_no_credential(
    who: str, standby: Standby, host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Authority(tmp_path / "other")
    shown = {
        "plain http": None,
        "another authority": other.issue(CONTROL, "127.0.0.1"),
        "a router": standby.authority.issue(ROUTER, "127.0.0.1"),
        "its address only": standby.authority.issue("127.0.0.1", "leader.example.com"),
        "self-signed": other.issue("control.scorefront.evil", "127.0.0.1"),
    }[who]
    await host.start(server(shown) if shown is not None else None)
    status, text = await ask(standby)
    assert (status, "NoLeader" in text) == (503, True)
    assert host.seen == []
    assert f"leader at {host.rest}: forwarding failed" in caplog.text
    assert "Traceback" not in caplog.text and "the-control-token" not in caplog.text + text


async def test_before_there_is_an_authority_nothing_is_sent(host: Host, tmp_path: Path) -> None:
    def nothing() -> ssl.SSLContext:
        raise TrustError("there is no authority yet")

    standby = Standby(tmp_path / "ours", lambda: LeaderInfo("leader_1", rest=host.rest))
    sock = socket.create_server(("127.0.0.1", 0))
    standby.url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    door = RestPort(
        sock,
        "s",
        lambda: LeaderInfo("leader_1", rest=host.rest),
        PortLimits(),
        RestPortTls(lambda: server(standby.own), nothing),
    )
    await host.start(server(standby.authority.issue(CONTROL)))
    await door.stand_by()
    try:
        assert (await ask(standby))[0] == 503
        assert host.seen == []
    finally:
        await door.close()
        await standby.door.close()


async def test_connections_to_the_leader_are_kept(standby: Standby, host: Host) -> None:
    """The context is the pool's key: were it made for each request, so would be the connection."""
    context = server(standby.authority.issue(CONTROL))
    shaken: list[str | None] = []
    context.sni_callback = lambda connection, name, _: shaken.append(name)
    await host.start(context)
    verifying = standby.own.verifying()
    standby.door._forwarder._tls = lambda: verifying
    for _ in range(3):
        assert await ask(standby) == (200, "led")
    await asyncio.sleep(0)
    assert shaken == [CONTROL]
