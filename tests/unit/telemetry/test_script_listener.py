"""The port for data of scripts: whose data it is, what is refused, and where it is kept."""

import base64
import csv
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from serving.endpoint import PayloadCollection, VersionKey
from telemetry.payload_messages import is_sampled
from telemetry.script_listener import ScriptListener
from telemetry.script_tables import ScriptRows, table_place, table_rows
from tests.unit.telemetry.collecting import BLUE, NOON, Collecting

GREEN = VersionKey("iris", "green")
EVENT = {
    "Content-Type": "application/json",
    "ce-type": "azureml.inference.model_inputs",
    "ce-time": str(int(NOON)),
    "ce-collect-data-type": "pandas.core.frame.DataFrame",
    "ce-agent": "azureml-ai-monitoring/1.0.0",
    "ce-model-version": "3",
    "ce-x-request-id": "6f1ba2a4-0000-4000-8000-000000000001",
}


def basic(user: str) -> dict[str, str]:
    """Fields of basic authentication without a password; none for ""."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()} if user else {}


@dataclass
class FakePeers:
    """Facts on senders."""

    trusted: bool = True
    found: VersionKey | None = None

    def is_trusted(self, client: tuple[str, int], own: tuple[str, int]) -> bool:
        return self.trusted and own[0] == "127.0.0.1"

    def version(self, client: tuple[str, int]) -> VersionKey | None:
        return self.found


@dataclass
class Port:
    """The port, and the collector behind it."""

    parts: Collecting
    url: str = ""
    peers: FakePeers = field(default_factory=FakePeers)
    versions: dict[VersionKey, PayloadCollection] = field(
        default_factory=lambda: {BLUE: PayloadCollection(), GREEN: PayloadCollection()}
    )

    async def post(self, path: str, body: bytes, headers: dict[str, str], user: str = "iris.blue") -> int:
        """Status of the answer. `user`: in the URL, as AZUREML_MDC_HOST puts it there; "": none."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=body, headers={**headers, **basic(user)}) as answer,
        ):
            return answer.status


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    parts = Collecting(tmp_path)
    port = Port(parts)
    listener = ScriptListener(
        parts.collector.scripts, lambda: port.versions, parts.collector.drop_script, port.peers, parts.time.unix_now
    )
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await listener.serve(sock)
    port.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    yield port
    await runner.cleanup()


async def test_an_event_of_the_library_becomes_a_record_of_its_collection(port: Port) -> None:
    assert await port.post("/modeldata/log", b'[{"a":1.5},{"a":2}]', EVENT) == 200
    port.parts.collect()
    [name] = port.parts.store.names("modelDataCollector")
    assert name == "modelDataCollector/iris/blue/model_inputs/2027/01/15/12/pod-1.jsonl"
    [record] = port.parts.records("model_inputs")
    assert record["data"] == [{"a": 1.5}, {"a": 2}]
    assert record["correlationid"] == record["xrequestid"] == EVENT["ce-x-request-id"]
    assert (record["type"], record["modelversion"]) == ("azureml.inference.model_inputs", "3")
    assert (record["collectdatatype"], record["agent"]) == (EVENT["ce-collect-data-type"], EVENT["ce-agent"])
    assert record["contentrange"] == "bytes 0-18/19" and record["time"] == "2027-01-15T12:00:00.000000Z"
    assert b"Basic" not in port.parts.content(name)


@pytest.mark.parametrize(
    ("user", "fields", "process", "expected"),
    [
        ("iris.green", {}, None, GREEN),
        ("", {"ce-endpoint": "iris", "ce-version": "green"}, None, GREEN),
        ("", {"ce-endpoint": "iris", "ce-deployment": "green"}, BLUE, GREEN),
        ("", {}, GREEN, GREEN),
        ("", {}, None, None),
        ("iris.red", {}, None, None),
    ],
)
async def test_the_version_of_a_script_is_known_by_its_url_its_fields_or_its_process(
    port: Port, user: str, fields: dict[str, str], process: VersionKey | None, expected: VersionKey | None
) -> None:
    port.peers.found = process
    status = await port.post("/modeldata/log", b"[1]", {**EVENT, **fields}, user)
    port.parts.collect()
    names = port.parts.store.names("modelDataCollector")
    assert (status == 200) == (expected is not None)
    assert [name.split("/")[1:3] for name in names] == ([list(expected)] if expected is not None else [])


async def test_the_only_version_that_collects_needs_no_name(port: Port) -> None:
    del port.versions[GREEN]
    assert await port.post("/modeldata/log", b"[1]", EVENT, user="") == 200


async def test_other_users_are_refused(port: Port) -> None:
    port.peers.trusted = False
    assert await port.post("/modeldata/log", b"[1]", EVENT) == 403


@pytest.mark.parametrize("kind", ["azureml.inference.../../x", "azureml.inference.", "", "azureml.inference.a/b"])
async def test_a_collection_that_is_no_name_is_refused(port: Port, kind: str) -> None:
    assert await port.post("/modeldata/log", b"[1]", {**EVENT, "ce-type": kind}) == 400


async def test_data_of_a_request_outside_the_sample_is_left_out(port: Port) -> None:
    port.versions[BLUE] = PayloadCollection(sampling=0.5)
    ids = [f"6f1ba2a4-0000-4000-8000-{number:012x}" for number in range(40)]
    for each in ids:
        assert await port.post("/modeldata/log", b"[1]", {**EVENT, "ce-x-request-id": each}) == 200
    port.parts.collect()
    found = [record["correlationid"] for record in port.parts.records("model_inputs")]
    assert found == [each for each in ids if is_sampled(each.encode(), 0.5)] and 0 < len(found) < 40


async def test_data_beyond_the_memory_for_it_is_refused_and_counted(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.script_queue.SCRIPT_BYTES", 1000)
    assert await port.post("/modeldata/log", b"[1]", EVENT) == 200
    assert await port.post("/modeldata/log", b"[1]", EVENT) == 503
    port.parts.collect()
    assert port.parts.counts()[::2] == (1, 1)


ROWS = {
    "model": "churn",
    "modelVersion": "7",
    "designation": "inputs",
    "features": ["age", "name"],
    "rows": [[1.5, 'a,"b"'], [None, "x\ny"]],
    "correlationId": "c-1",
    "requestId": "r-1",
}


async def test_rows_of_v1_are_a_table_in_the_layout_of_v1(port: Port) -> None:
    for _ in range(2):
        assert await port.post("/modeldata/rows", json.dumps(ROWS).encode(), {}) == 200
        port.parts.collect()
    [name] = port.parts.store.names("modeldata")
    assert name == "modeldata/scorefront/scorefront/scorefront/iris/churn/7/inputs/2027/01/15/data.csv"
    rows = list(csv.DictReader(port.parts.content(name).decode().splitlines(keepends=True)))
    assert len(rows) == 4 and [rows[0]["name"], rows[1]["name"]] == ['a,"b"', "x\ny"]
    assert rows[0]["$aml_request_id"] == "r-1" and rows[0]["$aml_dc_boundary"] == "1440"
    assert rows[0]["$aml_model_version"] == "7" and rows[0]["$aml_service_name"] == "iris"


async def test_rows_with_other_columns_are_another_table(port: Port) -> None:
    wider = {**ROWS, "features": ["age", "name", "more"], "rows": [[1, 2, 3]]}
    for rows in (ROWS, wider, ROWS, wider):
        assert await port.post("/modeldata/rows", json.dumps(rows).encode(), {}) == 200
        port.parts.collect()
    names = port.parts.store.names("modeldata")
    assert [name.rpartition("/")[2] for name in names] == ["data-2.csv", "data.csv"]
    assert [len(port.parts.content(name).splitlines()) for name in names] == [3, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "../x"}, "model"),
        ({"rows": [[1]]}, "2 values"),
        ({"rows": 5}, "rows"),
        ({"more": 1}, "object of"),
    ],
)
async def test_malformed_rows_are_refused(port: Port, change: dict[str, Any], words: str) -> None:
    body = json.dumps({**ROWS, **change})
    async with (
        aiohttp.ClientSession() as session,
        session.post(port.url + "/modeldata/rows", data=body, headers=basic("iris.blue")) as answer,
    ):
        assert answer.status == 400 and words in await answer.text()


def test_the_columns_of_v1_follow_those_of_the_script() -> None:
    rows = ScriptRows("m", "1", "inputs", ["a"], [[1]], "c", "r", NOON)
    assert table_place(BLUE, rows).header.startswith(b"a,$aml_dc_correlation_id,")
    assert table_rows(BLUE, rows).startswith(b"1,c,2027-01-15T12:00:00.000Z,1440,")
