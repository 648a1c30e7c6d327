"""F4: beyond this machine the control port speaks TLS, and the command line verifies the server before sending the
token.
"""

import asyncio
import base64
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cluster.kubernetes.client.paths import SECRETS
from loadtests.installation import Installation
from scorefront.cli.app import run
from scorefront.up.installation import UpOptions
from tests.e2e.test_control import TOKEN, Site, ask, eventually_ready
from tests.fakes.certificates import Folder, Made, make
from tests.fakes.clock import eventually
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.kubernetes_http import kubeconfig_of, kubernetes_server


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def shown(port: int, name: str, ca: Path | None = None) -> bytes:
    """The certificate for `name`, DER; verified if there is a `ca`. Raises ssl.SSLError."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as sock,
        context.wrap_socket(sock, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def plain(port: int) -> bytes:
    """The answer to plain HTTP with a token."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"GET /api/v1/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n")
        try:
            return sock.recv(65536)
        except ConnectionError:
            return b""


def until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def cli(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command, with no more of SCOREFRONT_... than is told."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("SCOREFRONT")} | environment
    command = [sys.executable, "-m", "scorefront", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=told, timeout=60)


# ---- in a cluster


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    api = FakeKubernetes()
    async with kubernetes_server(api) as server:
        made = Site(tmp_path, kubeconfig_of(server, tmp_path), api)
        yield made
        for each in made.processes:
            if each.process.returncode is None:
                each.process.kill()
            await each.process.wait()


def authority(site: Site) -> Path:
    """As the documentation says to fetch it."""
    file = site.folder / "ca.crt"
    data = site.api.must_find(SECRETS, "scorefront-peers")["data"]
    file.write_bytes(base64.b64decode(data["ca.crt"]))
    return file


async def test_leader_and_standby_speak_tls_by_the_installations_own_authority(site: Site) -> None:
    first = await site.start("one")
    await site.leads(first)
    second = await site.start("two")
    await eventually_ready(await second.rest())
    ca = authority(site)
    for process in (first, second):
        url = await process.rest()
        assert url.startswith("https://")

        def is_trusted(port: int = port_of(url)) -> bool:
            try:
                return bool(shown(port, "localhost", ca))
            except ssl.SSLError:
                return False

        await eventually(is_trusted)
        for name in ("scorefront-control", "scorefront-control.home", "scorefront-control.home.svc", "127.0.0.1"):
            assert shown(port_of(url), name, ca)
        assert not plain(port_of(url)).startswith(b"HTTP/")
        environment = {"SCOREFRONT_URL": url, "SCOREFRONT_CA": str(ca), "SCOREFRONT_TOKEN": TOKEN}
        told = await asyncio.to_thread(cli, "get", "-o", "json", **environment)
        assert (told.returncode, json.loads(told.stdout)) == (0, {"value": []}), told.stderr
    assert shown(port_of(await first.rest()), "x") != shown(port_of(await second.rest()), "x"), "a key of its own each"


async def test_a_certificate_for_people_leaves_links_between_instances_to_the_own_one(site: Site) -> None:
    files = Folder(site.folder / "people", make("control.example.com"))
    words = (f"--control-tls-cert={files.cert}", f"--control-tls-key={files.key}")
    first = await site.start("one", words=words)
    await site.leads(first)
    port = port_of(await first.rest())
    assert shown(port, "control.example.com") == shown(port, "elsewhere.example.com") == der(files)
    assert shown(port, "control.scorefront", authority(site)) != der(files)
    second = await site.start("two", words=words)
    standby = await second.rest()
    await eventually_ready(standby)
    assert await ask(f"{standby}/api/v1/endpoints") == (200, {"value": []})
    files.rename(fresh := make("control.example.com"))
    await eventually(lambda: shown(port, "control.example.com") == fresh.der)


def der(files: Folder) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.cert.read_text())


# ---- on one machine


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "tls", make("localhost"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[UpOptions]:
    """The command that would have been run; it ends with status 7."""
    given: list[UpOptions] = []

    def take(options: UpOptions) -> int:
        given.append(options)
        return 7

    monkeypatch.setattr("scorefront.up.installation.run", take)
    return given


@pytest.mark.parametrize("host", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8081", "control.example.com:8081"])
def test_up_is_refused_without_tls_beyond_loopback(
    host: str, ran: list[UpOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--control", host]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: --control: ") and "needs TLS" in told
    for option in ("--control-tls-cert", "--control-tls-key", "--tls-cert", "--control-insecure"):
        assert option in told
    assert ran == []


def test_the_options_that_it_names_do(ran: list[UpOptions], files: Folder) -> None:
    pair = (files.cert, files.key)
    own = ["--control-tls-cert", str(files.cert), "--control-tls-key", str(files.key)]
    scoring = ["--tls-cert", str(files.cert), "--tls-key", str(files.key)]
    cases = {
        ("0.0.0.0:0", *own): (pair,),
        ("0.0.0.0:0", *scoring): (pair,),
        ("0.0.0.0:0", "--control-insecure"): (),
        ("127.0.0.1:0",): (),
        ("127.0.0.1:0", *scoring): (),
        ("127.0.0.1:0", *own): (pair,),
        ("unix:/tmp/x.sock", *scoring): (),
    }
    for words, wanted in cases.items():
        assert run(["up", "--control", *words]) == 7
        assert ran[-1].control_tls == wanted, words


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--control-tls-cert", "CERT"], "--control-tls-cert and --control-tls-key come in pairs"),
        (["--control-tls-cert", "/nowhere", "--control-tls-key", "KEY"], "--control-tls-cert: there is no file"),
        (["--control-tls-cert", "KEY", "--control-tls-key", "KEY"], "cannot be used"),
        (["--control-insecure", "--control-tls-cert", "CERT", "--control-tls-key", "KEY"], "contradicts"),
        (["--control", "unix:/tmp/x", "--control-tls-cert", "CERT", "--control-tls-key", "KEY"], "has no TLS"),
    ],
)
def test_impossible_options_are_named(
    words: list[str], told: str, ran: list[UpOptions], files: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    put = {"CERT": str(files.cert), "KEY": str(files.key)}
    assert run(["up", *(put.get(word, word) for word in words)]) == 2
    assert told in capsys.readouterr().err
    assert ran == []


@pytest.fixture
def up(tmp_path: Path, files: Folder) -> Iterator[Installation]:
    words = ("--control-tls-cert", str(files.cert), "--control-tls-key", str(files.key))
    made = Installation(tmp_path, *words, "--workers", "1")
    made.start(control="0.0.0.0:0")
    yield made
    assert made.stop() == 0


def test_up_beyond_loopback_speaks_tls_demands_the_token_and_takes_new_certificates(
    up: Installation, files: Folder, tmp_path: Path
) -> None:
    port = port_of(up.control)
    assert up.control.startswith("https://")
    assert not plain(port).startswith(b"HTTP/")
    url, token = f"https://localhost:{port}", (tmp_path / "state" / "control-token").read_text().strip()
    trusted = {"SCOREFRONT_URL": url, "SCOREFRONT_CA": str(files.cert)}
    assert cli("get", **trusted).returncode == 1, "the token is missing"
    assert json.loads(cli("get", "-o", "json", **trusted, SCOREFRONT_TOKEN=token).stdout) == {"value": []}
    by_option = cli("get", "-o", "json", "--control-url", url, "--control-ca", str(files.cert), SCOREFRONT_TOKEN=token)
    assert json.loads(by_option.stdout) == {"value": []}

    unknown = cli("get", SCOREFRONT_URL=url, SCOREFRONT_TOKEN=token)
    assert unknown.returncode == 1 and "is not trusted" in unknown.stderr
    assert "name its authority's file in --control-ca (or SCOREFRONT_CA)" in unknown.stderr
    assert "does it speak HTTPS?" in cli("get", SCOREFRONT_URL=f"http://localhost:{port}").stderr
    address = cli("get", SCOREFRONT_URL=f"https://127.0.0.1:{port}", SCOREFRONT_CA=str(files.cert))
    assert address.returncode == 1 and "is not trusted" in address.stderr, "the certificate is for localhost"

    fresh: Made = make("localhost")
    files.rename(fresh)
    until(lambda: shown(port, "localhost") == fresh.der, 20)
    assert json.loads(cli("get", "-o", "json", **trusted, SCOREFRONT_TOKEN=token).stdout) == {"value": []}


@pytest.mark.parametrize("content", ["nonsense", None])
def test_an_authority_that_cannot_be_used_is_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    told = cli("get", SCOREFRONT_URL="https://127.0.0.1:1", SCOREFRONT_CA=str(file))
    rule = "must be a file with certificates in PEM form: it has none" if content else "there is no file"
    assert told.returncode == 2
    assert re.search(rf"--control-ca \(or SCOREFRONT_CA\): .*{rule}", told.stderr), told.stderr
