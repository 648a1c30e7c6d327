"""The REST client: requests, and the message for each kind of failure."""

import dataclasses
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scorefront import http_client
from scorefront.cli.client import (
    PINNED_VERSION,
    ControlClient,
    ControlRefused,
    ControlUnreachable,
    checked_control_url,
    score,
)
from scorefront.cli.command_errors import CommandError, InvalidInput
from tests.fakes.http_server import Answer, ScriptedServer, answer_json, scripted_server

IRIS = "/api/v1/endpoints/iris"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def control(server: ScriptedServer) -> ControlClient:
    return ControlClient(server.url, "secret-token")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_token_travels_as_a_bearer(server: ScriptedServer, control: ControlClient) -> None:
    server.on(f"GET {IRIS}", answer_json({"kind": "ScoringEndpoint"}))
    assert control.endpoint("iris") == {"kind": "ScoringEndpoint"}
    assert server.asked[0].headers["authorization"] == "Bearer secret-token"


def test_the_token_is_not_shown_by_a_repr(control: ControlClient) -> None:
    assert "secret-token" not in repr(control)


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (201, {"x-scorefront-outcome": "created"}, "created"),
        (200, {"x-scorefront-outcome": "changed"}, "changed"),
        (200, {"x-scorefront-outcome": "unchanged"}, "unchanged"),
        (201, {}, "created"),
        (200, {}, "changed"),
    ],
)
def test_apply_tells_new_changed_and_unchanged_apart(
    server: ScriptedServer, control: ControlClient, status: int, headers: dict[str, str], outcome: str
) -> None:
    answer = answer_json({}, status)
    server.on(f"PUT {IRIS}", dataclasses.replace(answer, headers={**answer.headers, **headers}))
    assert control.apply("iris", {"kind": "ScoringEndpoint"}) == (outcome, [])
    assert server.asked[0].document == {"kind": "ScoringEndpoint"}


def test_traffic_sends_the_split_and_the_roles(server: ScriptedServer, control: ControlClient) -> None:
    server.on(f"PATCH {IRIS}/traffic", answer_json({}))
    control.set_traffic("iris", {"blue": 12.5}, default="blue", control=None)
    assert server.asked[0].document == {"percentiles": {"blue": 12.5}, "default": "blue", "control": None}


def test_decisions_and_logs_have_their_limits_in_the_query(server: ScriptedServer, control: ControlClient) -> None:
    server.on(f"GET {IRIS}/decisions", answer_json({"value": []}))
    server.on(f"GET {IRIS}/logs", Answer(200, b'{"line": "one"}\n\n{"line": "two"}\n'))
    assert control.decisions("iris", 5, None) == []
    assert [entry["line"] for entry in control.logs("iris", "blue", 10, follow=False)] == ["one", "two"]
    queries = [asked.path.partition("?")[2] for asked in server.asked]
    assert queries == ["last=5", "version=blue&tail=10&follow=false"]


def test_broken_rules_are_invalid_input_and_all_printed(server: ScriptedServer, control: ControlClient) -> None:
    faults = [{"path": f"spec.versions[{n}].name", "value": n, "rule": "must be text"} for n in range(2)]
    error = {"code": "InvalidEndpoint", "message": "2 rules are broken", "faults": faults}
    server.on(f"PUT {IRIS}", answer_json({"error": error}, 400))
    with pytest.raises(ControlRefused) as caught:
        control.apply("iris", {})
    assert caught.value.exit_status == InvalidInput.exit_status
    assert str(caught.value).splitlines() == [f"spec.versions[{n}].name: must be text (got {n})" for n in range(2)]


@pytest.mark.parametrize(("status", "words"), [(404, "no endpoint iris"), (409, "no endpoint iris"), (401, "TOKEN")])
def test_a_refusal_has_the_message_of_the_control_plane(
    server: ScriptedServer, control: ControlClient, status: int, words: str
) -> None:
    server.on(f"GET {IRIS}", answer_json({"error": {"code": "X", "message": "no endpoint iris"}}, status))
    with pytest.raises(ControlRefused, match=words) as caught:
        control.endpoint("iris")
    assert caught.value.exit_status == CommandError.exit_status


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>"),
        Answer(200, b"[1]"),
        Answer(404, b"<html>"),
        Answer(500, b'{"error": "text"}'),
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer(200, b"\xff"),
    ],
)
def test_another_http_server_is_distinguished_from_a_control_plane(
    server: ScriptedServer, control: ControlClient, answer: Answer
) -> None:
    server.on(f"GET {IRIS}", answer)
    with pytest.raises(ControlUnreachable, match="does not answer like a scorefront control plane"):
        control.endpoint("iris")


def test_a_closed_port_is_reported_with_its_address_and_a_hint(closed_port: int) -> None:
    with pytest.raises(
        ControlUnreachable, match=f"127.0.0.1:{closed_port}: nothing listens there; is `scorefront up` running"
    ):
        ControlClient(f"http://127.0.0.1:{closed_port}").endpoints()


@pytest.mark.parametrize("url", ["http://a..b", "http://" + "a" * 70])
def test_a_host_without_an_address_is_unreachable(url: str) -> None:
    with pytest.raises(ControlUnreachable, match="cannot reach"):
        ControlClient(url).endpoints()


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_a_peer_that_breaks_off_or_speaks_no_http_is_unreachable(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(reply)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with pytest.raises(ControlUnreachable):
            ControlClient(f"http://127.0.0.1:{listener.getsockname()[1]}").endpoints()
        thread.join()


def test_proxies_of_the_environment_are_not_used(
    server: ScriptedServer, control: ControlClient, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    server.on("GET /api/v1/endpoints", answer_json({"value": []}))
    assert control.endpoints() == []


def test_a_score_carries_credential_and_pin(server: ScriptedServer) -> None:
    server.on("POST /api/v1/service/iris/score", Answer(503, b"busy", {"X-Ms-Error-Code": "Overloaded"}))
    reply = score(f"{server.url}/api/v1/service/iris/score", b"{}", "key", "green")
    assert (reply.status, reply.body, reply.headers["x-ms-error-code"]) == (503, b"busy", "Overloaded")
    headers = server.asked[0].headers
    assert (headers["authorization"], headers[PINNED_VERSION]) == ("Bearer key", "green")
    assert headers["content-type"] == "application/json"


def test_a_score_without_data_is_a_get(server: ScriptedServer) -> None:
    server.on("GET /score", Answer(200, b"ok"))
    assert score(f"{server.url}/score?a=1", None, None, None).body == b"ok"
    assert server.asked[0].path == "/score?a=1"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8081/", "https://control.example", "http://[::1]:1", "http://h/base"]
)
def test_urls_that_may_name_a_control_plane(url: str) -> None:
    assert checked_control_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8081",
        "ftp://host",
        "http://",
        "http://h:x",
        "http://h:70000",
        "http://u:p@h",
        "http://h?q",
        "http://a b",
    ],
)
def test_urls_that_may_not(url: str) -> None:
    with pytest.raises(InvalidInput, match="--control-url"):
        checked_control_url(url)


def test_a_base_path_is_kept(server: ScriptedServer) -> None:
    server.on("GET /base/api/v1/endpoints", answer_json({"value": [{"a": 1}]}))
    assert ControlClient(f"{server.url}/base").endpoints() == [{"a": 1}]


@pytest.fixture
def unix_listener(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(10)
        yield f"unix:{path}", listener


def test_a_unix_socket_of_another_user_gets_no_token(
    unix_listener: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, listener = unix_listener
    monkeypatch.setattr(http_client, "unix_peer_uid", lambda sock: 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ControlUnreachable, match="uid 12345 listens there, not you"):
        ControlClient(url, "secret-token").endpoints()
    peer, _ = listener.accept()
    with peer:
        assert peer.recv(65536) == b""


def test_followed_logs_are_passed_on_line_by_line(unix_listener: tuple[str, socket.socket]) -> None:
    url, listener = unix_listener
    entries = (entry["line"] for entry in ControlClient(url).logs("iris", None, 10, follow=True))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = ['{"line": "one"}\n{"line": "tw\u2028', 'o"}\n', '{"line": "three"}\n']

    def serve(peer: socket.socket, text: str, before: bytes = b"") -> None:
        data = text.encode()
        peer.sendall(before + b"%x\r\n%s\r\n" % (len(data), data))

    with ThreadPoolExecutor() as pool:
        first = pool.submit(next, entries)
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            serve(peer, chunks[0], head)
            assert first.result(10) == "one"
            serve(peer, chunks[1])
            assert next(entries) == "tw\u2028o"
            serve(peer, chunks[2])
            assert next(entries) == "three"
            peer.sendall(b"0\r\n\r\n")
            assert list(entries) == []
