"""`scorefront up` with TLS, as a user starts it: certificates by name, exchanged in use, refused, and the redirect."""

import contextlib
import datetime
import http.client
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from loadtests.installation import Installation, manifest, witness_version
from scorefront.cli.app import run
from tests.e2e.conftest import Answer, Site
from tests.fakes.certificates import DAY, Folder, Made, SecretMount, make

SCORE = "/api/v1/service/echo/score"
SEEN_S = 5.0
"""Changed files are taken over within 2 s; a busy machine gets some more."""


def trusting() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SecureSite:
    """An installation with two certificates, `first` the default, and a redirect."""

    def __init__(self, directory: Path) -> None:
        self.first = SecretMount(directory / "first", make("first.test"))
        self.second = Folder(directory / "second", make("*.second.test"))
        files = [
            word
            for folder in (self.first, self.second)
            for word in ("--tls-cert", str(folder.cert), "--tls-key", str(folder.key))
        ]
        self.installation = Installation(directory, *files, "--tls-redirect", "127.0.0.1:0")
        self.installation.start(manifest("echo", [witness_version("blue", work_ms=1, slots=8, numReplicas=1)]))
        self.key, _ = Site(self.installation).keys("echo")
        url = urllib.parse.urlsplit(self.installation.scoring)
        assert url.scheme == "https"
        self.address = str(url.hostname), int(url.port or 0)

    @property
    def said(self) -> str:
        return self.installation.output.read_text()

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(*self.address, timeout=20, context=trusting())

    def score(self, connection: http.client.HTTPConnection, body: bytes = b"{}", path: str = SCORE) -> Answer:
        connection.request("POST", path, body, {"Authorization": f"Bearer {self.key}"})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read())

    def score_once(self, path: str = SCORE) -> Answer:
        """On a connection of its own."""
        with contextlib.closing(self.connection()) as connection:
            return self.score(connection, path=path)

    def shown(self, name: str | None = None) -> bytes:
        """The certificate for a new client with this name, or none."""
        with (
            socket.create_connection(self.address, timeout=20) as sock,
            trusting().wrap_socket(sock, server_hostname=name) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    def shows(self, certificate: bytes) -> bool:
        """True once clients with and without a name get this certificate."""
        return self.shown() == self.shown("first.test") == certificate

    def until(self, met: Callable[[], object]) -> None:
        deadline = time.monotonic() + SEEN_S
        while not met():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureSite]:
    site = SecureSite(tmp_path_factory.mktemp("secure"))
    with site.installation:
        yield site
        assert site.installation.stop() == 0


def test_scoring_goes_over_tls_and_replicas_get_the_scheme(site: SecureSite) -> None:
    connection = site.connection()
    for body in (b"{}", b"x" * 3_000_000):
        answer = site.score(connection, body)
        assert answer.status == 200
    connection.close()


def test_a_trial_of_the_control_plane_goes_over_tls(site: SecureSite) -> None:
    answer = Site(site.installation).rest("POST", "/api/v1/endpoints/echo/try", {"body": "{}"})
    assert (answer.status, answer.json["status"]) == (200, 200)


def test_each_name_is_shown_its_certificate(site: SecureSite) -> None:
    first, second = (ssl.PEM_cert_to_DER_cert(folder.cert.read_text()) for folder in (site.first, site.second))
    assert site.shown("first.test") == site.shown("elsewhere.test") == site.shown() == first
    assert site.shown("www.second.test") == second


def test_secrets_are_exchanged_in_use_without_a_failed_request(site: SecureSite) -> None:
    failures: list[object] = []
    count = 0
    ended = threading.Event()

    def load(kept: bool) -> None:
        nonlocal count
        connection = site.connection()
        while not ended.is_set():
            try:
                answer = site.score(connection)
                count += 1
                if answer.status != 200:
                    failures.append(answer)
                if not kept:
                    connection.close()  # the next request makes a new one
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
        connection.close()

    clients = [threading.Thread(target=load, args=(kept,)) for kept in (True, False, False)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            fresh = make("first.test")
            site.first.write(fresh)
            site.until(partial(site.shows, fresh.der))
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert failures == []
    assert count > 50


def test_a_bad_certificate_change_is_reported_and_a_later_good_one_is_adopted(site: SecureSite) -> None:
    before = site.shown("www.second.test")
    site.second.key.write_bytes(make().key)
    site.until(lambda: f"{site.second.key}: is not the key of {site.second.cert}" in site.said)
    site.second.write(make("*.second.test", begins=moment(-2), ends=moment(-1)))
    site.until(lambda: f"{site.second.cert}: expired on" in site.said)
    assert site.shown("www.second.test") == before
    fresh = make("*.second.test", ends=moment(5))
    site.second.rename(fresh)
    site.until(lambda: site.shown("www.second.test") == fresh.der)
    metric = re.search(
        r"^scorefront_tls_certificate_expiry_timestamp_seconds (\S+)$",
        Site(site.installation).rest("GET", "/metrics").body.decode(),
        re.MULTILINE,
    )
    assert metric is not None
    assert abs(float(metric[1]) - moment(5).timestamp()) < 60


def moment(days: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + days * DAY


def hello(name: bytes) -> bytes:
    """The ClientHello of a client for this name, as bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    stand_in = "x" * len(name)
    client = trusting().wrap_bio(incoming, outgoing, server_hostname=stand_in)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read().replace(stand_in.encode(), name)


def test_bytes_without_tls_get_no_answer_and_do_no_harm(site: SecureSite) -> None:
    for said in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, hello(b"\xff\xfename"), hello(b"a\x00bcdefg")):
        with socket.create_connection(site.address, timeout=20) as sock:
            sock.sendall(said)
            assert not sock.recv(1000).startswith(b"HTTP")
    assert site.score_once().status == 200
    assert "Traceback" not in site.said and "ignored" not in site.said


def test_a_client_without_tls_is_sent_to_the_same_target_and_finds_it(site: SecureSite) -> None:
    printed = re.search(r"redirect +http://(\S+):(\d+)", site.said)
    assert printed is not None
    connection = http.client.HTTPConnection(printed[1], int(printed[2]), timeout=20)
    answer = site.score(connection, path=f"{SCORE}?a=b")
    connection.close()
    assert answer.status == 308
    assert answer.headers["Location"] == f"{site.installation.scoring}{SCORE}?a=b"
    there = urllib.parse.urlsplit(answer.headers["Location"])
    assert site.score_once(f"{there.path}?{there.query}").status == 200


def test_a_client_in_flight_gets_its_answer_when_the_installation_is_stopped(directory: Path) -> None:
    files = Folder(directory / "files", make())
    installation = Installation(directory, "--tls-cert", str(files.cert), "--tls-key", str(files.key))
    with installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=800, numReplicas=1)], authEnabled=False))
        url = urllib.parse.urlsplit(installation.scoring)
        connection = http.client.HTTPSConnection(str(url.hostname), url.port, timeout=20, context=trusting())
        idle = http.client.HTTPSConnection(str(url.hostname), url.port, timeout=20, context=trusting())
        idle.connect()
        connection.request("POST", SCORE, b"{}")
        time.sleep(0.3)
        began = time.monotonic()
        stopping = threading.Thread(target=installation.stop)
        stopping.start()
        assert connection.getresponse().status == 200
        stopping.join()
        assert installation.process is not None and installation.process.returncode == 0
        assert time.monotonic() - began < 10
        connection.close()
        idle.close()


# ---- refusals at the start


def expired() -> Made:
    return make(begins=moment(-2), ends=moment(-1))


def too_early() -> Made:
    return make(begins=moment(1), ends=moment(2))


def encrypted() -> Made:
    return make(pass_phrase=b"secret")


def mismatched() -> Made:
    return Made(make().cert, make().key)


def no_text() -> Made:
    return Made(b"not a certificate\n", make().key)


def no_key() -> Made:
    return Made(make().cert, b"")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (expired, "tls.crt: expired on"),
        (too_early, "tls.crt: is not valid before"),
        (encrypted, "tls.key: is encrypted"),
        (mismatched, "tls.key: is not the key of"),
        (no_text, "tls.crt: is not a certificate chain in PEM form"),
        (no_key, "tls.key: is not a private key in PEM form"),
    ],
)
def test_bad_material_ends_the_start_with_file_and_reason(
    tmp_path: Path, made: Callable[[], Made], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Folder(tmp_path / "files", made())
    state = tmp_path / "state"
    call = ["up", "--tls-cert", str(files.cert), "--tls-key", str(files.key), "--state-dir", str(state)]
    assert run(call) == 2
    out, err = capsys.readouterr()
    assert str(files.folder / told) in err
    assert "Traceback" not in err and out == ""
    assert not state.exists(), "nothing has been begun"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tls-redirect", "127.0.0.1:0"], "needs --tls-cert"),
        (["--tls-redirect", "80"], "must be HOST:PORT"),
        (["--listen", "127.0.0.1:9", "--tls-redirect", "127.0.0.1:9"], "must differ"),
    ],
)
def test_a_redirect_that_makes_no_sense_is_refused(
    tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Folder(tmp_path / "files", make())
    pair = [] if "needs" in told else ["--tls-cert", str(files.cert), "--tls-key", str(files.key)]
    assert run(["up", *pair, *words]) == 2
    _, err = capsys.readouterr()
    assert "--tls-redirect" in err and told in err


def test_a_redirect_address_in_use_is_reported(tmp_path: Path) -> None:
    files = Folder(tmp_path / "files", make())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = ["up", "--tls-cert", str(files.cert), "--tls-key", str(files.key), "--tls-redirect", address]
        command += ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")]
        done = subprocess.run(
            [sys.executable, "-m", "scorefront", *command], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert f"--tls-redirect: cannot listen on {address}" in done.stderr
