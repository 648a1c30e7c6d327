"""A standby and its leader: two real HTTP servers, and clients that see only the first."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client import ClientSession
from yarl import URL

from cluster.kubernetes.client.election import LeaderInfo
from controlplane import leader_proxy as forward
from controlplane.audit import FORWARDED_BY
from controlplane.leader_proxy import LeaderProxy
from scorefront.control.rest_port import RestPort
from scorefront.ports.connection_table import PortLimits
from tests.fakes.clock import eventually

BIG = bytes(range(256)) * 4096 * 4
"""4 MiB."""


class LeadingServer:
    """Records its requests; `/echo` answers with the body, `/stream` until the end of `lines`."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.readers_gone = 0
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/stream", self.stream)
        app.router.add_route("*", "/{rest:.*}", self.echo)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def echo(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = await request.read()
        headers = {"X-Model": "blue", "Connection": "X-Secret", "X-Secret": "1", "Content-Type": "text/special"}
        return web.Response(status=int(request.query.get("status", "200")), body=body, headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            while (line := await self.lines.get()) is not None:
                await response.write(line)
        except asyncio.CancelledError:
            self.readers_gone += 1
            raise
        return response


@pytest.fixture
async def leading() -> AsyncIterator[LeadingServer]:
    made = LeadingServer()
    await made.start()
    yield made
    await made.runner.cleanup()


class Standby:
    """An instance without leadership; `leader` is its knowledge."""

    def __init__(self) -> None:
        self.leader: LeaderInfo | None = None
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.door = RestPort(self.sock, "standby_1", lambda: self.leader, PortLimits())


@pytest.fixture
async def standby(leading: LeadingServer) -> AsyncIterator[Standby]:
    made = Standby()
    made.leader = LeaderInfo("leader_1", rest=leading.url)
    await made.door.stand_by()
    looking = asyncio.create_task(made.door.run(), name="look after who leads")
    yield made
    looking.cancel()
    await made.door.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_a_request_reaches_the_leader_as_it_was_sent(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    headers = {"Authorization": "Bearer secret", "Origin": standby.url, "X-Odd": "a, b", "User-Agent": "me"}
    path = "/api/v1/endpoints/a%2Fb%20c?last=3&x=%26"
    url = URL(standby.url + path, encoded=True)
    async with client.put(url, data=b'{"a": 1}', headers=headers) as answer:
        assert await answer.read() == b'{"a": 1}'
    (seen,) = leading.requests
    assert (seen.method, seen.raw_path) == ("PUT", path)
    assert {name: seen.headers[name] for name in headers} == headers
    assert seen.host == standby.url.removeprefix("http://"), "or a page of the same site would count as another's"
    assert seen.headers[FORWARDED_BY] == "standby_1"


@pytest.mark.parametrize("status", [200, 201, 204, 404, 409, 500])
async def test_an_answer_comes_back_as_it_was_given(standby: Standby, client: ClientSession, status: int) -> None:
    async with client.post(f"{standby.url}/x?status={status}", data=b"" if status == 204 else b"told") as answer:
        assert answer.status == status
        assert answer.headers["X-Model"] == "blue"
        assert answer.headers["Content-Type"] == "text/special"
        assert await answer.read() == (b"" if status == 204 else b"told")


async def test_fields_of_one_connection_are_not_forwarded(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    headers = {"Connection": "X-Hop", "X-Hop": "1", "TE": "trailers", "Keep-Alive": "5", "X-Kept": "1"}
    async with client.get(f"{standby.url}/x", headers=headers) as answer:
        assert "X-Secret" not in answer.headers
    (seen,) = leading.requests
    assert not {"x-hop", "te", "keep-alive"} & {name.lower() for name in seen.headers}
    assert seen.headers["X-Kept"] == "1"


@pytest.mark.parametrize("chunked", [True, False])
async def test_large_bodies_pass_in_both_directions(standby: Standby, client: ClientSession, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(BIG), 100_000):
            yield BIG[at : at + 100_000]

    async with client.post(f"{standby.url}/echo", data=parts() if chunked else io.BytesIO(BIG)) as answer:
        assert await answer.read() == BIG


async def test_a_followed_log_comes_line_by_line_and_ends_with_its_reader(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    answer = await client.get(f"{standby.url}/stream")
    for number in range(3):
        leading.lines.put_nowait(json.dumps({"line": number}).encode() + b"\n")
        async with asyncio.timeout(5):
            assert json.loads(await answer.content.readline()) == {"line": number}
    answer.close()
    await eventually(lambda: leading.readers_gone == 1)


async def test_a_followed_log_ends_when_another_leads(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    answer = await client.get(f"{standby.url}/stream")
    leading.lines.put_nowait(b"first\n")
    assert await answer.content.readline() == b"first\n"
    standby.leader = LeaderInfo("leader_2", rest="http://127.0.0.1:1")
    with pytest.raises(aiohttp.ClientError):
        await answer.content.read()
    answer.close()
    await eventually(lambda: leading.readers_gone == 1)


async def test_half_an_answer_does_not_look_like_a_whole_one(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    answer = await client.get(f"{standby.url}/stream")
    leading.lines.put_nowait(b"first\n")
    assert await answer.content.readline() == b"first\n"
    await leading.runner.cleanup()
    with pytest.raises(aiohttp.ClientError):
        await answer.content.read()
    answer.close()


async def test_without_a_leader_it_says_so_and_when_to_come_again(standby: Standby, client: ClientSession) -> None:
    for leader in (None, LeaderInfo("standby_1", rest=standby.url), LeaderInfo("leader_2", rest="")):
        standby.leader = leader
        async with client.get(f"{standby.url}/api/v1/endpoints") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert (await answer.json())["error"]["code"] == "NoLeader"
        async with client.get(f"{standby.url}/readyz") as answer:
            assert answer.status == 503


async def test_a_leader_that_is_not_there_is_no_reason_to_hang(standby: Standby, client: ClientSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    standby.leader = LeaderInfo("leader_2", rest=f"http://127.0.0.1:{port}")
    async with client.get(f"{standby.url}/x") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert f"127.0.0.1:{port}" in (await answer.json())["error"]["message"]


async def test_two_that_take_each_other_for_the_leader_do_not_play_with_a_request(
    standby: Standby, client: ClientSession
) -> None:
    other = Standby()
    other.leader, standby.leader = LeaderInfo("standby_1", rest=standby.url), LeaderInfo("standby_2", rest=other.url)
    other.door = RestPort(other.sock, "standby_2", lambda: other.leader, PortLimits())
    await other.door.stand_by()
    async with asyncio.timeout(5), client.get(f"{standby.url}/x") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "NoLeader")
    await other.door.close()


async def test_requests_about_the_process_are_answered_by_the_standby_itself(
    standby: Standby, leading: LeadingServer, client: ClientSession
) -> None:
    for path, shown in (("/healthz", "ok"), ("/readyz", '"ready": true'), ("/metrics", "process_cpu_seconds_total")):
        async with client.get(standby.url + path) as answer:
            assert answer.status == 200
            text = await answer.text()
            assert shown in text
            told = [line for line in text.splitlines() if not line.startswith("#")]
            assert not any(line.startswith("scorefront_") for line in told), "what the leader tells would count twice"
    assert leading.requests == []


async def test_a_process_that_cannot_lead_names_what_it_waits_for(standby: Standby, client: ClientSession) -> None:
    standby.leader = None
    for waiting_for, shown in (([], ["a leader"]), (refused := ["list horizontalpodautoscalers: 403"], refused)):
        standby.door.waiting_for = lambda waiting_for=waiting_for: waiting_for  # type: ignore[misc]
        async with client.get(f"{standby.url}/readyz") as answer:
            assert (answer.status, await answer.json()) == (503, {"ready": False, "waitingFor": shown})


async def test_the_process_is_live_without_a_leader(standby: Standby, client: ClientSession) -> None:
    standby.leader = None
    async with client.get(f"{standby.url}/healthz") as answer:
        assert answer.status == 200


async def test_the_port_is_never_closed_while_the_process_begins_to_lead(
    standby: Standby, client: ClientSession
) -> None:
    own = web.Application()

    async def answer_itself(request: web.Request) -> web.StreamResponse:
        return web.Response(text="mine")

    own.router.add_get("/x", answer_itself)
    refused: list[BaseException] = []
    told: set[str] = set()

    async def ask() -> None:
        while "mine" not in told:
            try:
                async with aiohttp.ClientSession() as fresh, fresh.get(f"{standby.url}/x") as answer:
                    told.add(await answer.text())
            except aiohttp.ClientConnectorError as error:
                refused.append(error)

    asking = [asyncio.create_task(ask(), name=f"ask {number}") for number in range(4)]
    await eventually(lambda: told)
    await standby.door.lead(own)
    await asyncio.gather(*asking)
    assert refused == []


async def test_a_connection_from_before_the_leadership_is_answered_once_and_closed(standby: Standby) -> None:
    url = URL(standby.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    asked = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
    writer.write(asked)
    assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
    await standby.door.lead(web.Application())
    writer.write(asked)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer.lower() and answer.endswith(b"ok")
    writer.close()
    await writer.wait_closed()


async def test_a_forwarder_that_is_closed_leaves_no_connection(leading: LeadingServer) -> None:
    made = LeaderProxy("standby_1", lambda: LeaderInfo("leader_1", rest=leading.url))
    app = made.app({})
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{runner.addresses[0][1]}/x") as answer,
    ):
        assert answer.status == 200
    await runner.cleanup()
    await made.close()
    assert made._session is None


def test_a_new_leader_is_looked_for_more_often_than_clients_come_again() -> None:
    assert forward.LOOK_S <= forward.RETRY_AFTER_S
