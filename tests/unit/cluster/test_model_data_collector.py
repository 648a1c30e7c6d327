"""`ModelDataCollector` of v1 in a replica: what it sends, and that it never waits."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.clock import eventually
from tests.unit.cluster.test_script_host import module_of_v1

_SENT: list[tuple[dict[str, str], dict[str, Any]]] = []


class CollectorPort(BaseHTTPRequestHandler):
    """Takes rows."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _SENT.append(({"path": self.path, **dict(self.headers.items())}, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, in a replica that collects."""
    _SENT.clear()
    with HTTPServer(("127.0.0.1", 0), CollectorPort) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("AML_MODEL_DC_STORAGE_ENABLED", "true")
        monkeypatch.setenv("AZUREML_MDC_HOST", "iris.blue@127.0.0.1")
        monkeypatch.setenv("AZUREML_MDC_PORT", str(server.server_port))
        monkeypatch.setenv("AZUREML_MODEL_DIR", "/var/models/azureml-models/churn/7")
        yield module_of_v1("azureml.monitoring.modeldatacollector")
        server.shutdown()


async def test_rows_go_to_the_collector_with_the_id_of_the_request(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = ModuleType("scorefront_script_host")
    host.request_id = lambda: "r-1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scorefront_script_host", host)
    collector = module.ModelDataCollector("churn", designation="inputs", feature_names=["age", "income"])
    correlations = collector.collect([[1, 2.5], [3]])
    await eventually(lambda: len(_SENT) == 1)
    fields, body = _SENT[0]
    assert fields["path"] == "/modeldata/rows"
    assert base64.b64decode(fields["Authorization"].removeprefix("Basic ")) == b"iris.blue"
    assert body == {
        "model": "churn",
        "modelVersion": "7",
        "designation": "inputs",
        "features": ["age", "income"],
        "rows": [[1, 2.5], [3, None]],
        "correlationId": correlations["$aml_dc_correlation_id"],
        "requestId": "r-1",
    }
    assert collector.add_correlations([[9]], correlations) == [[9, correlations["$aml_dc_correlation_id"], "r-1"]]


class FakeArray:
    """An array of numpy, as far as it matters."""

    def __init__(self, values: object) -> None:
        self.values = values

    def tolist(self) -> object:
        return self.values


@pytest.mark.parametrize(
    ("data", "features", "rows"),
    [
        (5, ["column_0"], [[5]]),
        ([1, 2], ["column_0", "column_1"], [[1, 2]]),
        ([[1], [2]], ["column_0"], [[1], [2]]),
        ({"a": 1, "b": "x"}, ["a", "b"], [[1, "x"]]),
        (FakeArray([[1.5, 2.5]]), ["column_0", "column_1"], [[1.5, 2.5]]),
        ([FakeArray([1, 2])], ["column_0", "column_1"], [[1, 2]]),
        ([], [], [[]]),
    ],
)
async def test_data_of_any_shape_becomes_rows(module: ModuleType, data: object, features: object, rows: object) -> None:
    module.ModelDataCollector("m").collect(data)
    await eventually(lambda: len(_SENT) == 1)
    assert (_SENT[0][1]["features"], _SENT[0][1]["rows"]) == (features, rows)


async def test_a_collector_that_is_away_costs_a_line(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AZUREML_MDC_PORT", "1")
    said = ""

    def heard() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "data is dropped" in said

    for _ in range(3):
        module.ModelDataCollector("m").collect([1])
    await eventually(heard)
    assert said.count("data is dropped") == 1


def test_without_collection_nothing_is_kept(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AML_MODEL_DC_STORAGE_ENABLED")
    assert module.ModelDataCollector("m").collect([1]) is None
    assert not module._senders
