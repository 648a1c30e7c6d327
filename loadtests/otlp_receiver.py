"""A receiver of OTLP over HTTP in a thread of its own: keeps the spans and the request records that it gets."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OtlpReceiver:
    """Listens on loopback during a `with` block; counts everything, keeps what `keeps` allows."""

    def __init__(self, port: int = 0, keeps: bool = True) -> None:
        """`port`: 0: chosen by the system. `keeps`: False: only bytes are counted."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path, dict(self.headers), body)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.status = 200
        self.spans: list[Span] = []
        self.records: list[LogRecord] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.raw = bytearray()
        """All bodies, decompressed."""
        self.size_bytes = 0
        self._keeps = keeps
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="OTLP receiver")

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "OtlpReceiver":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Keep the content of one request."""
        self.size_bytes += len(body)
        if not self._keeps or self.status != 200:
            return
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.headers.append(headers)
        self.raw += body
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for spans in traces.resource_spans:
                self.resources.append(plain(spans.resource.attributes))
                self.spans += [span for scope in spans.scope_spans for span in scope.spans]
        elif path == "/v1/logs":
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.records += [record for scope in logs.scope_logs for record in scope.log_records]

    def span(self, request_id: str) -> Span | None:
        """The span of a request."""
        return next(
            (s for s in list(self.spans) if plain(s.attributes)["scorefront.x_ms_request_id"] == request_id), None
        )

    def record(self, request_id: str) -> dict[str, Any] | None:
        """The columns of the record of a request."""
        found = (plain(record.attributes) for record in list(self.records))
        return next((columns for columns in found if columns["x_ms_request_id"] == request_id), None)


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes by name."""
    return dict(_pairs(attributes))


def _pairs(attributes: list[KeyValue]) -> Iterator[tuple[str, Any]]:
    for each in attributes:
        yield each.key, getattr(each.value, each.value.WhichOneof("value") or "string_value")
