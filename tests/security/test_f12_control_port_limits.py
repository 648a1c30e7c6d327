"""F12: connections to control and admin ports are counted and timed, with or without a complete request."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from router.settings import SettingError
from scorefront.control.rest_port import RestPort
from scorefront.ports import timed_port as ports
from scorefront.ports.connection_table import END_S, Admission, ConnectionTable, PortLimits, PortPhase
from scorefront.ports.timed_port import TimedPort, app_runner, port_limits
from scorefront.router.admin_port import admin_port
from tests.fakes.certificates import make
from tests.fakes.clock import eventually

QUICK = PortLimits(max_connections=8, head_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=0.3)
PATIENT = PortLimits(max_connections=8, head_timeout_s=60, body_timeout_s=60, idle_timeout_s=60)
HALF_HEADS = (
    b"G",
    b"",
    b"GET /wait HTTP/1.1\r\nHost: a\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\n",
    b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
    b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
)

# ---- the table


def test_a_head_a_body_and_idleness_have_deadlines_and_work_has_none() -> None:
    table = ConnectionTable(PortLimits())
    table.admit(1, "a", 0.0)
    assert table.overdue(9.9) == []
    assert table.overdue(10.0) == [(1, PortPhase.HEAD)]
    assert table.overdue(10.0 + END_S) == [(1, PortPhase.ENDING)], "an end that does not come is forced"
    table.gone(1)
    table.admit(2, "a", 20.0)
    table.began(2, True, 25.0)
    table.received(2, 65_536 * 4, 26.0)
    assert table.overdue(25.0 + 30.0 + 3.9) == []
    table.body_ended(2, 58.0)
    assert table.overdue(1e9) == []
    table.answered(2, False, 1e9)
    assert table.overdue(1e9 + 74.0) == []
    table.received(2, 1, 1e9 + 74.0)
    assert table.overdue(1e9 + 75.0) == []
    assert table.overdue(1e9 + 84.0) == [(2, PortPhase.HEAD)]


def test_a_body_byte_by_byte_does_not_put_the_deadline_off() -> None:
    table = ConnectionTable(PortLimits())
    table.admit(1, "a", 0.0)
    table.began(1, True, 0.0)
    for second in range(30):
        table.received(1, 1, float(second))
    assert table.overdue(30.1) == [(1, PortPhase.BODY)]


def test_a_half_head_behind_a_request_counts_from_its_first_byte() -> None:
    table = ConnectionTable(PortLimits())
    table.admit(1, "a", 0.0)
    table.began(1, False, 1.0)
    table.received(1, 20, 2.0)
    table.answered(1, True, 8.0)
    assert table.overdue(12.0) == [(1, PortPhase.HEAD)]


def test_the_longest_waiting_stranger_makes_room_and_work_is_never_cut() -> None:
    table = ConnectionTable(PortLimits(max_connections=4))
    for number, holder in enumerate("abcd"):
        table.admit(number, holder, float(number))
    table.began(0, False, 4.0)
    table.began(1, False, 4.0)
    table.answered(1, True, 5.0)
    assert table.admit(4, "e", 6.0) == Admission(True, cut=2)
    assert table.admit(5, "f", 7.0) == Admission(True, cut=3)
    assert len(table) == 4
    table.began(4, False, 8.0)
    table.began(5, False, 8.0)
    assert table.admit(6, "g", 9.0) == Admission(True, cut=1), "the one that is known goes last"
    table.began(6, False, 9.0)
    assert table.admit(7, "h", 9.0) == Admission(False)
    assert table.spare() is None


def test_one_address_holds_at_most_half() -> None:
    table = ConnectionTable(PortLimits(max_connections=8))
    for number in range(20):
        assert table.admit(number, "rogue", float(number)).accepted
        assert len(table) == min(number + 1, 4)
    assert table.admit(99, "other", 20.0) == Admission(True)
    for number in range(16, 20):
        table.began(number, False, 21.0)
    assert table.admit(100, "rogue", 22.0) == Admission(False)


# ---- the ports


class Served:
    """A port with an application of two handlers: one reads a body, one waits for ever."""

    def __init__(self, limits: PortLimits, context: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = self.sock.getsockname()
        app = web.Application()
        app.router.add_get("/healthz", self.health)
        app.router.add_post("/read", self.read)
        app.router.add_get("/wait", self.wait)
        self.runner = app_runner(app, 0.1, handler_cancellation=True)
        self.port = TimedPort(self.sock, limits, None if context is None else lambda: context)

    async def __aenter__(self) -> "Served":
        await self.runner.setup()
        self.port.answer_with(self.runner)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.close()
        await self.runner.cleanup()
        self.sock.close()

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def read(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def wait(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"line\n")
        await asyncio.Event().wait()
        return response


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LOOK_S", 0.02)


async def sent(address: tuple[str, int], data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    return reader, writer


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(8):
            return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("data", "status"), list(zip(HALF_HEADS, (b"408", b"408", b"408", b"200", b"408", b"408"), strict=True))
)
async def test_an_incomplete_request_is_closed_in_time(data: bytes, status: bytes) -> None:
    async with Served(QUICK) as served:
        reader, writer = await sent(served.address, data)
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 " + status)
        await eventually(lambda: len(served.port.table) == 0)
        writer.close()


async def test_a_followed_answer_has_no_clock() -> None:
    async with Served(QUICK) as served:
        reader, writer = await sent(served.address, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"line\n" in await reader.readuntil(b"line\n")
        others = [await sent(served.address, b"") for _ in range(3)]
        for other, _ in others:
            await until_closed(other)
        assert [served.port.table.phase(1)] == [PortPhase.WORK]
        for _, closing in [*others, (reader, writer)]:
            closing.close()


async def test_300_half_heads_leave_room_for_the_next_client() -> None:
    async with Served(PATIENT) as served:
        rogue = [await sent(served.address, HALF_HEADS[number % 3]) for number in range(300)]
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                async with session.get(f"http://127.0.0.1:{served.address[1]}/healthz") as answer:
                    assert answer.status == 200
        assert len(served.port.table) <= 8
        for _, writer in rogue:
            writer.close()


async def test_with_all_connections_busy_the_next_one_gets_503() -> None:
    async with Served(PATIENT) as served:
        busy = [await sent(served.address, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(8)]
        for reader, _ in busy:
            await reader.readuntil(b"line\n")
        reader, writer = await sent(served.address, b"")
        assert b" 503 " in await until_closed(reader)
        for _, closing in [*busy, (reader, writer)]:
            closing.close()


async def test_tls_handshakes_count_and_are_timed(tmp_path: Path) -> None:
    made = make("localhost")
    (tmp_path / "c").write_bytes(made.cert)
    (tmp_path / "k").write_bytes(made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    async with Served(PATIENT, context) as served:
        silent = [await sent(served.address, b"") for _ in range(40)]
        reader, writer = await asyncio.open_connection(*served.address, ssl=client)
        assert len(served.port.table) <= 8
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await until_closed(reader)
        for _, closing in [*silent, (reader, writer)]:
            closing.close()
    async with Served(QUICK, context) as served:
        reader, writer = await sent(served.address, b"\x16\x03\x01")
        await until_closed(reader)
        await eventually(lambda: len(served.port.table) == 0)
        writer.close()


@pytest.mark.parametrize("port", ["standby", "admin"])
async def test_the_ports_of_a_cluster_are_limited(port: str) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()

    async def metrics() -> bytes:
        return b""

    async def outlived() -> None:
        reader, writer = await sent(address, HALF_HEADS[2])
        assert b" 408 " in await until_closed(reader)
        writer.close()

    if port == "admin":
        async with admin_port(sock, QUICK, lambda: "", metrics):
            await outlived()
        sock.close()
    else:
        door = RestPort(sock, "standby", lambda: None, QUICK)
        await door.stand_by()
        await outlived()
        await door.lead(web.Application())
        await outlived()
        await door.close()


async def test_without_descriptors_the_longest_waiting_connection_is_cut() -> None:
    async with Served(PATIENT) as served:
        waiting = await sent(served.address, b"G")
        await eventually(lambda: len(served.port.table) == 1)
        real = served.port._sock

        class Short:
            """Its first accept finds no descriptor."""

            def __init__(self) -> None:
                self.failed = False

            def accept(self) -> tuple[socket.socket, object]:
                if not self.failed:
                    self.failed = True
                    raise OSError(24, "too many open files")
                return real.accept()

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        served.port._sock = Short()  # type: ignore[assignment]
        late, writer = await sent(served.address, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert await until_closed(waiting[0]) == b""
        assert b" 200 " in await until_closed(late)
        for closing in (waiting[1], writer):
            closing.close()


async def test_certificates_that_cannot_be_read_cost_one_connection_each() -> None:
    async with Served(PATIENT) as served:

        def broken() -> ssl.SSLContext:
            raise ValueError("no certificate")

        served.port._tls = broken
        for _ in range(20):
            reader, writer = await sent(served.address, b"")
            assert await until_closed(reader) == b""
            writer.close()
        assert len(served.port.table) == 0


# ---- the settings


def test_limits_come_from_the_environment_and_stay_below_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    told = port_limits({"SCOREFRONT_CONTROL_MAX_CONNECTIONS": "5", "SCOREFRONT_CONTROL_HEAD_TIMEOUT_S": "2.5"})
    assert told == PortLimits(max_connections=5, head_timeout_s=2.5)
    few: Callable[[int], tuple[int, int]] = lambda _: (100, 100)  # noqa: E731
    monkeypatch.setattr(resource, "getrlimit", few)
    assert port_limits({}).max_connections == 25


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "nan"])
def test_a_wrong_limit_names_the_variable(text: str) -> None:
    with pytest.raises(SettingError, match="SCOREFRONT_CONTROL_MAX_CONNECTIONS"):
        port_limits({"SCOREFRONT_CONTROL_MAX_CONNECTIONS": text})
