"""Telemetry of a running installation: client, router and replica in one trace, records counted, no credential."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtests.installation import Installation, manifest
from loadtests.otlp_receiver import OtlpReceiver, plain
from scorefront.up.payload_collector import rings_folder
from tests.e2e.conftest import Site

pytestmark = pytest.mark.process
WAIT_S = 30.0
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT_TO_RECEIVER = "the-credential-of-the-receiver"


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    """Port of a replica that answers with the fields it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="replica")
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver, echo_port: int) -> Iterator[Site]:
    """`traced` exports telemetry, `plain` does not."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SENT_TO_RECEIVER}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BSP_EXPORT_TIMEOUT": "300",
    }
    with Installation(tmp_path_factory.mktemp("telemetry"), "--access-log=all", environment=environment) as made:
        version = {"name": "blue", "replica": {"static": [f"127.0.0.1:{echo_port}"]}}
        made.start(manifest("traced", [version], appInsightsEnabled=True), manifest("plain", [version]))
        yield Site(made)
        made.stop()


def eventually(found: Callable[[], Any]) -> Any:
    """What `found` returns, once it is not None and not False."""
    deadline = time.monotonic() + WAIT_S
    while (value := found()) is None or value is False:
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)  # interval of the polls
    return value


def metric(site: Site, result: str) -> float:
    text = site.rest("GET", "/metrics").body.decode()
    start = f'scorefront_telemetry_records_total{{endpoint="traced",result="{result}"}} '
    return next((float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start)), 0.0)


def test_client_router_and_replica_are_one_trace(observed: Site, receiver: OtlpReceiver) -> None:
    key, _ = observed.keys("traced")
    parent = f"00-{TRACE}-{SPAN}-01"
    answer = observed.score("traced", key, [1], traceparent=parent, x_ms_client_request_id="mine")
    identity = answer.headers["x-ms-request-id"]
    span = eventually(lambda: receiver.span(identity))
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert answer.json["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    record = eventually(lambda: receiver.record(identity))
    assert (record["endpoint"], record["version"], record["response_code"]) == ("traced", "blue", 200)
    assert (record["auth_type"], record["x_ms_client_request_id"], record["request_bytes"]) == ("key", "mine", 3)
    assert record["queue_ms"] >= 0 and 0 < record["replica_ms"] <= record["total_ms"]
    assert record["user_agent"].startswith("Python-urllib")
    assert observed.rest("GET", "/api/v1/endpoints/traced").json["status"]["notes"] == []


def test_an_endpoint_without_telemetry_exports_nothing(observed: Site, receiver: OtlpReceiver) -> None:
    key, _ = observed.keys("plain")
    answer = observed.score("plain", key, [1], traceparent="00-odd")
    assert answer.json["traceparent"] == "00-odd"
    other, _ = observed.keys("traced")
    later = observed.score("traced", other, [1]).headers["x-ms-request-id"]
    eventually(lambda: receiver.record(later))
    assert receiver.record(answer.headers["x-ms-request-id"]) is None


def test_a_refused_request_is_exported_and_each_is_counted_once(observed: Site, receiver: OtlpReceiver) -> None:
    answer = observed.score("traced", "wrong", [1])
    assert answer.status == 401
    record = eventually(lambda: receiver.record(answer.headers["x-ms-request-id"]))
    assert record["error_code"] == "Unauthorized" and "version" not in record
    eventually(lambda: metric(observed, "exported") == len(receiver.records))
    assert len({columns["x_ms_request_id"] for columns in map(_columns, receiver.records)}) == len(receiver.records)


def _columns(record: Any) -> dict[str, Any]:
    return plain(record.attributes)


def test_no_credential_is_in_telemetry_nor_in_a_ring_or_log(observed: Site, receiver: OtlpReceiver) -> None:
    key, other = observed.keys("traced")
    answer = observed.score("traced", key, [1], path=f"score?code={other}")
    eventually(lambda: receiver.record(answer.headers["x-ms-request-id"]))
    assert {headers["authorization"] for headers in receiver.headers} == {SENT_TO_RECEIVER}
    state = observed.installation.directory / "state"
    files = [path for folder in (state / "logs", rings_folder(state)) for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ring" for path in files)
    contents = [bytes(receiver.raw), *(path.read_bytes() for path in files)]
    output = Path(observed.installation.output).read_bytes()
    contents.append(b"\n".join(line for line in output.splitlines() if b'"id"' in line))  # `up` prints the key itself
    for content in contents:
        assert key.encode() not in content and other.encode() not in content
        assert SENT_TO_RECEIVER.encode() not in content
    assert SENT_TO_RECEIVER.encode() not in output


def test_a_receiver_that_is_away_loses_counted_records_and_scoring_goes_on(
    observed: Site, receiver: OtlpReceiver
) -> None:
    key, _ = observed.keys("traced")
    before = metric(observed, "dropped")
    receiver.status = 400
    try:
        for _ in range(5):
            assert observed.score("traced", key, [1]).status == 200
        eventually(lambda: metric(observed, "dropped") == before + 5)
    finally:
        receiver.status = 200
    answer = observed.score("traced", key, [1])
    eventually(lambda: receiver.record(answer.headers["x-ms-request-id"]))
