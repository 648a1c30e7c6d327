"""F6: on loopback the control port answers only root and the user of `up`."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.local import socket_owner as socketowner
from controlplane.openapi import OPERATIONS
from loadtests.installation import Installation, manifest
from scorefront.process import process_main as process
from scorefront.up.access import control_access
from tests.security.other_user import NOBODY, as_user, exchange, needs_root, request, status

PATHS = [
    *((operation.method, operation.path.replace("{name}", "victim")) for operation in OPERATIONS),
    *(("GET", path) for path in ("/", "/nothing", "//", "/api/v1/endpoints/../endpoints", "/api/v1/endpoints/%2e%2e")),
    *((method, "/healthz") for method in ("HEAD", "POST", "OPTIONS", "DELETE", "TRACE")),
]


def where(installation: Installation) -> tuple[str, int]:
    parts = urlsplit(installation.control)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("owner")) as made:
        made.start()
        yield made
        assert made.stop() == 0


@needs_root
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_another_user_is_refused_on_every_path(installation: Installation, method: str, path: str) -> None:
    address = where(installation)
    answer = as_user(NOBODY, lambda: exchange(address, request(method, path, b"{}")))
    assert status(answer) == 403, answer
    if method != "HEAD":
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "NotYours"
        assert "uid 65534" in error["message"]


@needs_root
def test_the_audit_log_names_the_refused_user(installation: Installation) -> None:
    address, log = where(installation), installation.directory / "state" / "audit.log"
    as_user(NOBODY, lambda: exchange(address, request("GET", "/api/v1/endpoints", b"")))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any((line["caller"], line.get("code")) == ("uid 65534", "NotYours") for line in lines)


@needs_root
def test_another_user_is_refused_for_any_head(installation: Installation) -> None:
    address = where(installation)
    told: tuple[dict[str, str], ...] = (
        {"X_Forwarded_For": "127.0.0.1"},
        {"Host": "localhost"},
        {"Origin": "http://localhost"},
        {"Authorization": "Bearer x"},
        {"Upgrade": "websocket", "Connection": "upgrade"},
    )
    for fields in told:
        answer = as_user(NOBODY, partial(exchange, address, request("GET", "/healthz", b"", **fields)))
        assert b"NotYours" in answer or status(answer) == 400, answer
        assert b"\r\n\r\nok" not in answer


@needs_root
def test_a_connection_closed_by_another_user_has_no_owner(installation: Installation) -> None:
    """Its socket is reported with uid 0 from then on."""
    address = where(installation)

    document = json.dumps(manifest("owned", [{"name": "blue", "replica": {"command": ["true"]}}])).encode()

    def close_at_once() -> bytes:
        with socket.socket() as sock:
            sock.connect(address)
            sock.sendall(request("PUT", "/api/v1/endpoints/owned", document, Content_Type="application/json"))
        return b"closed"

    for _ in range(50):
        assert as_user(NOBODY, close_at_once) == b"closed"
    answer = exchange(address, request("GET", "/api/v1/endpoints"))
    assert status(answer) == 200 and b'"value": []' in answer


def test_the_owner_is_answered_over_every_kind_of_connection(installation: Installation) -> None:
    host, port = where(installation)
    assert status(exchange((host, port), request("GET", "/healthz"))) == 200
    assert status(exchange(("::ffff:127.0.0.1", port), request("GET", "/healthz"))) == 200
    with socket.create_connection((host, port)) as sock:  # the sending half is closed, the socket still held
        sock.sendall(request("GET", "/healthz"))
        sock.shutdown(socket.SHUT_WR)
        assert status(sock.recv(65536)) in (200, 0)


@needs_root
def test_another_user_is_refused_on_ipv6_loopback(tmp_path: Path) -> None:
    with Installation(tmp_path) as made:
        made.start(control="[::1]:0")
        address = where(made)
        assert b"NotYours" in as_user(NOBODY, lambda: exchange(address, request("GET", "/healthz")))
        assert status(exchange(address, request("GET", "/healthz"))) == 200


def test_a_control_token_can_be_required_on_loopback(tmp_path: Path) -> None:
    with Installation(tmp_path, "--control-token") as made:
        made.start()
        address = where(made)
        token = (tmp_path / "state" / "control-token").read_text().strip()
        assert status(exchange(address, request("GET", "/api/v1/endpoints"))) == 401
        shown = request("GET", "/api/v1/endpoints", Authorization=f"Bearer {token}")
        assert status(exchange(address, shown)) == 200
        assert status(exchange(address, request("GET", "/healthz"))) == 200
        if os.geteuid() == 0:
            assert b"NotYours" in as_user(NOBODY, lambda: exchange(address, shown))
        assert f'"$(cat {tmp_path / "state" / "control-token"})"' in made.output.read_text()


def run(tmp_path: Path, control: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scorefront", "up", "--state-dir", str(tmp_path / "state")]
    command += ["--listen", "127.0.0.1:0", "--control", control]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until_said(up: subprocess.Popen[str], words: str) -> None:
    assert up.stdout is not None
    for line in up.stdout:
        if words in line:
            return
    pytest.fail(f"it ended without saying {words!r}")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder open to every user, unlike tmp_path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_control_on_a_unix_socket(tmp_path: Path, open_folder: Path) -> None:
    path = open_folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    up = run(tmp_path, f"unix:{path}")
    try:
        until_said(up, f"curl --unix-socket {path}")
        assert path.stat().st_mode & 0o777 == 0o600
        assert status(exchange(str(path), request("GET", "/healthz"))) == 200
        cli = [sys.executable, "-m", "scorefront", "get", "-o", "json"]
        told = {**os.environ, "SCOREFRONT_URL": f"unix:{path}"}
        assert json.loads(subprocess.run(cli, capture_output=True, env=told, check=True).stdout) == {"value": []}
        second = run(tmp_path / "second", f"unix:{path}")
        said, _ = second.communicate(timeout=30)
        assert second.returncode == 1 and "a process listens" in said
        if os.geteuid() == 0:
            path.chmod(0o666)  # the mode of the socket is not all that keeps others away
            assert b"NotYours" in as_user(NOBODY, lambda: exchange(str(path), request("GET", "/healthz")))
    finally:
        up.terminate()
        up.communicate(timeout=20)
    assert up.returncode == 0
    assert not path.exists()


def test_a_unix_socket_is_answered_by_its_peer_credentials(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert socketowner.unix_peer_uid(ours) == os.geteuid()


@pytest.mark.parametrize("text", ["unix:", "unix:/nowhere/at/all/x.sock", "unix:" + "x" * 200])
def test_a_bad_path_is_named(text: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scorefront", "up", "--control", text]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 2 and told.stderr.startswith("error: --control: ")


def test_a_path_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(process.CannotStart, match="is no socket"), process.listening_unix("--control", path):
        pass
    assert path.read_text() == "mine"


# ---- questions to the kernel


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


@pytest.mark.parametrize("query", [socketowner.ask_sock_diag, socketowner.ask_tables])
def test_both_sources_tell_the_same(pair: Pair, query: Callable[..., Any]) -> None:
    client, _ = pair
    local, remote = client.getsockname(), client.getpeername()
    found = query(local, remote)
    assert found is not None and found.inode and found.uid == os.geteuid()
    assert (found.local, found.remote) == (local, remote)
    listener = query(remote, ("0.0.0.0", 0))
    assert listener is not None and listener.state == socketowner.LISTEN and listener.inode


def test_a_socket_without_a_process_has_no_owner(pair: Pair) -> None:
    client, _ = pair
    local, remote = client.getsockname(), client.getpeername()
    assert socketowner.connection_uid(local, remote) == os.geteuid()
    client.close()
    assert socketowner.connection_uid(local, remote) is None


def test_a_listener_is_not_taken_for_a_connection(pair: Pair) -> None:
    _, accepted = pair
    assert socketowner.connection_uid(accepted.getsockname(), ("127.0.0.1", 1)) is None
    assert socketowner.listener_uid(("127.0.0.1", 1)) is None


@pytest.mark.parametrize("missing", [("ask_sock_diag",), ("ask_sock_diag", "ask_tables")])
def test_without_one_source_the_other_is_asked_and_without_both_up_is_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    def refuse(local: socketowner.Address, remote: socketowner.Address) -> None:
        raise OSError(93, "Protocol not supported")

    for name in missing:
        monkeypatch.setattr(socketowner, name, refuse)
    client, _ = pair
    loopback = ("127.0.0.1", 0)
    if len(missing) == 1:
        assert socketowner.connection_uid(client.getsockname(), client.getpeername()) == os.geteuid()
        assert control_access(loopback, token_wanted=False).uids == socketowner.trusted_uids()
        return
    with pytest.raises(process.CannotStart, match=r"--control unix:PATH, or --control-token"):
        control_access(loopback, token_wanted=False)
    access = control_access(loopback, token_wanted=True)
    assert access.token_demanded and access.uids is None


def test_the_overflow_uid_is_no_owner() -> None:
    assert socketowner.own_uids(1000, "0 0 4294967295", 65534) == {1000, 0}
    assert socketowner.own_uids(65534, "0 0 4294967295", 65534) == {65534, 0}
    assert socketowner.own_uids(65534, "65534 1000 1", 65534) == {0}
    assert socketowner.own_uids(0, "0 1000 1", 65534) == {0}
