"""`scorefront router`: refusals to start, and answers on the admin port."""

from pathlib import Path

import aiohttp
import pytest

from cluster.trust import ROUTER
from router.supervisor.listening import listening_socket
from scorefront.cli.app import run
from scorefront.ports.connection_table import PortLimits
from scorefront.router.admin_port import admin_port
from tests.fakes.authority import Authority


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--peer-address", ""], "--peer-address"),
        (["--peer-address", "127.0.0.1", "--listen", "nowhere"], "--listen"),
        (["--peer-address", "127.0.0.1", "--listen", "0.0.0.0:1", "--admin", "0.0.0.0:1"], "must differ"),
        (["--peer-address", "127.0.0.1", "--workers", "0"], "--workers"),
        (["--peer-address", "127.0.0.1", "--peer-ports", "9-8"], "LOW-HIGH"),
        (["--peer-address", "127.0.0.1", "--peer-ports", "x"], "--peer-ports"),
        (["--peer-address", "127.0.0.1", "--tls-redirect", "0.0.0.0:80"], "--tls-cert"),
    ],
)
def test_a_fault_on_the_command_line_is_named(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["router", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_without_certificates_for_links_the_missing_file_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["router", "--peer-address", "127.0.0.1", "--peers-dir", str(tmp_path)]) == 1
    assert str(tmp_path / "ca.crt") in capfd.readouterr().err


def test_an_address_that_is_not_this_machines_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = Authority(tmp_path).issue(ROUTER)
    made.cert.rename(tmp_path / "tls.crt")
    made.key.rename(tmp_path / "tls.key")
    ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    assert run(["router", "--peer-address", "192.0.2.1", "--peers-dir", str(tmp_path), *ports]) == 1
    assert "--peer-address" in capfd.readouterr().err


async def test_health_readiness_and_metrics_are_answered() -> None:
    why = "no worker serves yet"

    async def metrics() -> bytes:
        return b"scorefront_routers 2\n"

    sock = listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with admin_port(sock, PortLimits(), lambda: why, metrics), aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, str]:
            async with session.get(url + path) as answer:
                return answer.status, await answer.text()

        assert await ask("/healthz") == (200, "ok\n")
        assert await ask("/readyz") == (503, "no worker serves yet\n")
        why = ""
        assert await ask("/readyz") == (200, "ready\n")
        assert await ask("/metrics") == (200, "scorefront_routers 2\n")
    sock.close()
