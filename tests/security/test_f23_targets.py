"""F23: request targets that are no path get a 400 from standby and leader alike, before the token is looked at."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from cluster.kubernetes.client.election import LeaderInfo
from controlplane.control_token import ControlToken
from controlplane.rest import RestSettings, build_app
from scorefront.control.rest_port import RestPort
from scorefront.exposition import Exposition
from scorefront.ports.connection_table import PortLimits
from tests.fakes.cluster import Leadership

TOKEN = "t" * 43
TARGETS = {
    "absolute-form": b"GET http://127.0.0.1:1/api/v1/endpoints",
    "absolute-form, other scheme": b"GET ftp://x/y",
    "absolute-form with credentials": b"GET http://a:b@10.0.0.1/",
    "asterisk": b"OPTIONS *",
    "asterisk with GET": b"GET *",
    "authority-form": b"CONNECT 127.0.0.1:22",
    "CONNECT with a path": b"CONNECT /api/v1/endpoints",
    "no slash": b"GET api/v1/endpoints",
    "bytes beyond ASCII": b"GET /api/\xff\xfe",
    "UTF-8": "GET /api/schlüssel".encode(),
    "a question only": b"GET ?x=1",
}
PATHS = {
    "two slashes": b"GET //evil.example.com/api",
    "a path like a URL": b"GET /http://evil.example.com/",
    "broken percent": b"GET /api/%zz%",
    "percent slash and dots": b"GET /api/..%2f..%2fx/../y",
    "a fragment": b"GET /api/v1/endpoints#x",
    "an at sign": b"GET /@evil.example.com/",
    "brackets": b"GET /[::1/",
}


class Doors:
    """A leader with the real REST application, and a standby that passes on to it."""

    def __init__(self) -> None:
        self.leadership = Leadership()
        self.socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.ports = [sock.getsockname()[1] for sock in self.socks]
        known = LeaderInfo("leader_1", rest=f"http://127.0.0.1:{self.ports[0]}")
        self.doors = [
            RestPort(sock, name, lambda: known, PortLimits())
            for sock, name in zip(self.socks, ("leader_1", "standby_1"), strict=True)
        ]

    async def start(self) -> None:
        await self.leadership.start()
        await self.doors[0].lead(self.app())
        await self.doors[1].stand_by()

    def app(self) -> web.Application:
        settings = RestSettings(loopback=False, authenticators=(ControlToken.fixed(TOKEN),), in_cluster=True)
        return build_app(self.leadership.plane.endpoints, settings, Exposition(routers_elsewhere=True).render)

    async def close(self) -> None:
        for door in self.doors:
            await door.close()
        await self.leadership.stop()


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    made = Doors()
    await made.start()
    yield made
    await made.close()


async def say(port: int, line: bytes, token: str) -> tuple[int, dict[str, str]]:
    """Status, and the error of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + credential.encode() + b"\r\n")
    try:
        async with asyncio.timeout(5):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        error = json.loads(body).get("error", {})
    except ValueError:
        error = {}
    return int(head.split()[1]), error


@pytest.mark.parametrize("token", ["", TOKEN], ids=["no token", "token"])
@pytest.mark.parametrize("line", TARGETS.values(), ids=TARGETS)
async def test_a_target_that_is_no_path_is_refused_alike(
    line: bytes, token: str, doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    for port in doors.ports:
        status, _ = await say(port, line, token)
        assert status == 400
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("line", PATHS.values(), ids=PATHS)
async def test_an_odd_path_is_one_of_the_leader_and_goes_nowhere_else(
    line: bytes, doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {(await say(port, line, ""))[0] for port in doors.ports}
    assert len(answers) == 1 and answers <= {400, 401}, answers
    answers = {(await say(port, line, TOKEN))[0] for port in doors.ports}
    assert len(answers) == 1 and answers <= {200, 400, 404, 405}, answers
    assert "Traceback" not in caplog.text
