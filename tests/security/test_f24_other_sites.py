"""F24: pages of other sites neither cause nor read anything, and every answer says so."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from controlplane.rest import RestSettings, build_app
from controlplane.rest_guard import SECURITY_HEADERS
from scorefront.control.rest_port import RestPort
from scorefront.exposition import Exposition
from scorefront.ports.connection_table import PortLimits
from scorefront.ports.timed_port import TimedPort, app_runner
from scorefront.router.admin_port import admin_port
from tests.fakes.plane import Bench

HERE = "127.0.0.1"
ASKED = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"\x16\x03\x01\x02\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "state")
    await made.start()
    yield made
    await made.plane.stop()


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[TestClient[Any, Any]]:
    client = TestClient(TestServer(build_app(bench.plane.endpoints, RestSettings(), Exposition().render)))
    await client.start_server()
    yield client
    await client.close()


@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/dashboard/dashboard.js", "/metrics", "/readyz", "/api/v1/endpoints"]
)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "CROSS-SITE", "else"])
async def test_a_page_of_another_site_or_port_is_refused_reading(
    api: TestClient[Any, Any], path: str, site: str
) -> None:
    answer = await api.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
    assert answer.status == 403 and (await answer.json())["error"]["code"] == "Forbidden"


@pytest.mark.parametrize("site", ["same-origin", "none", None])
async def test_the_dashboard_the_address_bar_and_programs_are_answered(
    api: TestClient[Any, Any], site: str | None
) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    for path in ("/", "/api/v1/endpoints", "/healthz"):
        assert (await api.get(path, headers=headers)).status == 200


async def test_a_link_of_another_site_opens_the_dashboard_but_no_frame_and_no_data(api: TestClient[Any, Any]) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await api.get("/", headers=link)).status == 200
    assert (await api.get("/", headers={**link, "Sec-Fetch-Dest": "iframe"})).status == 403
    assert (await api.get("/api/v1/endpoints", headers=link)).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", ""])
async def test_another_origin_is_refused_reading(api: TestClient[Any, Any], origin: str) -> None:
    assert (await api.get("/api/v1/endpoints", headers={"Origin": origin})).status == 403


async def test_each_of_several_origins_and_sites_is_checked(api: TestClient[Any, Any]) -> None:
    own = f"http://{api.host}:{api.port}"
    for name, good, bad in (("Origin", own, "http://evil.example"), ("Sec-Fetch-Site", "none", "cross-site")):
        assert (await api.get("/api/v1/endpoints", headers=[(name, good)])).status == 200
        for values in ((good, bad), (bad, good)):
            answer = await api.get("/api/v1/endpoints", headers=[(name, value) for value in values])
            assert answer.status == 403, (name, values)


@pytest.mark.parametrize("rest", ["/", "/x", "?", "#x", "/@evil.example"])
async def test_an_origin_is_a_scheme_and_an_authority_only(api: TestClient[Any, Any], rest: str) -> None:
    origin = f"http://{api.host}:{api.port}{rest}"
    assert (await api.get("/api/v1/endpoints", headers={"Origin": origin})).status == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example@127.0.0.1", "127.0.0.1#evil.example", "127.0.0.1/x", "127.0.0.1?x", "[::1%25lo]", "127.0.0.1:x"],
)
async def test_a_host_is_a_name_or_address_and_a_port_only(api: TestClient[Any, Any], host: str) -> None:
    assert (await api.get("/api/v1/endpoints", headers={"Host": host})).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.2:8081", "[::1]", "[::1]:8081"])
async def test_a_loopback_host_is_answered(api: TestClient[Any, Any], host: str) -> None:
    assert (await api.get("/api/v1/endpoints", headers={"Host": host})).status == 200


@pytest.mark.parametrize("data", ASKED)
@pytest.mark.parametrize("where", ["laptop", "standby", "admin"])
async def test_every_answer_has_the_headers_and_names_no_library(bench: Bench, where: str, data: bytes) -> None:
    sock = socket.create_server((HERE, 0))
    told = {}

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(data)
        async with asyncio.timeout(8):
            head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        for line in head.decode().split("\r\n")[1:]:
            name, _, value = line.partition(": ")
            told[name] = value

    if where == "laptop":
        runner = app_runner(build_app(bench.plane.endpoints, RestSettings(), Exposition().render), 0.1)
        await runner.setup()
        port = TimedPort(sock, PortLimits())
        port.answer_with(runner)
        await ask()
        await port.close()
        await runner.cleanup()
        sock.close()
    elif where == "standby":
        door = RestPort(sock, "standby", lambda: None, PortLimits())
        await door.stand_by()
        await ask()
        await door.close()
    else:
        async with admin_port(sock, PortLimits(), lambda: "", _no_metrics):
            await ask()
        sock.close()
    assert told.keys() >= SECURITY_HEADERS.keys()
    assert told["Cross-Origin-Resource-Policy"] == "same-origin" and told["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in told["Content-Security-Policy"]
    assert told["Server"] == "scorefront"


async def _no_metrics() -> bytes:
    return b""


async def test_a_failure_outside_the_application_reveals_nothing() -> None:
    sock = socket.create_server((HERE, 0))
    app = web.Application()

    async def none(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("a secret")

    app.router.add_get("/", none)
    runner = app_runner(app, 0.1)
    await runner.setup()
    port = TimedPort(sock, PortLimits())
    port.answer_with(runner)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(ASKED[0])
    told = await reader.read()
    writer.close()
    await port.close()
    await runner.cleanup()
    sock.close()
    assert told.startswith(b"HTTP/1.1 500 ") and b"secret" not in told and b"Server: scorefront" in told
