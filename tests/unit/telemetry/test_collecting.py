"""From the observer of a worker to the files of the store: each request once, whatever ends or fails in between."""

import base64
import gzip
import hashlib
from pathlib import Path

import pytest

from serving.endpoint import PayloadCollection
from telemetry.collector_settings import CollectorSettings
from telemetry.payload_messages import HELD_BYTES, is_sampled
from telemetry.ring import LEAST_BYTES, PayloadCounts
from tests.unit.telemetry.collecting import Collecting, FakeHead


@pytest.fixture
def parts(tmp_path: Path) -> Collecting:
    return Collecting(tmp_path)


def test_a_request_and_its_response_are_one_record_each_in_the_hour_of_the_request(parts: Collecting) -> None:
    request_id = parts.request(b'{"data": [1.50]}', b'{"y": 2}')
    parts.collect()
    assert parts.store.names("modelDataCollector") == [
        f"modelDataCollector/iris/blue/{each}/2027/01/15/12/pod-1.jsonl" for each in ("request", "response")
    ]
    [asked], [answered] = parts.records("request"), parts.records("response")
    assert asked["correlationid"] == answered["correlationid"] == request_id
    assert asked["id"] != answered["id"]
    assert (asked["data"], answered["data"]) == ({"data": [1.5]}, {"y": 2})
    assert (asked["method"], asked["path"]) == ("POST", "/api/v1/service/iris/score")
    assert asked["type"] == "azureml.inference.request" and asked["specversion"] == "1.0"
    assert asked["time"] == "2027-01-15T12:00:00.000000Z" and answered["time"] == "2027-01-15T12:00:00.250000Z"
    assert asked["contentrange"] == "bytes 0-15/16"
    assert parts.counts() == PayloadCounts(stored=1)


@pytest.mark.parametrize(
    ("content_type", "body", "field", "value"),
    [
        ("application/json", b'{"a":1.10,"a":2}', "data", {"a": 2}),
        ("application/json", b'{\n "a": [1,\r\n 2]\n}\n', "data", {"a": [1, 2]}),
        ("application/json", b"{broken", "data", "{broken"),
        ("application/json", b'"\xff"', "data_base64", base64.b64encode(b'"\xff"').decode()),
        ("text/csv; charset=utf-8", "ä,b\n1,2".encode(), "data", "ä,b\n1,2"),
        ("image/png", b"plain", "data_base64", base64.b64encode(b"plain").decode()),
        ("", b"[1]", "data", [1]),
        ("application/cloudevents+json", b"[1]", "data", [1]),
    ],
)
def test_a_body_is_json_text_or_base64_by_its_type(
    parts: Collecting, content_type: str, body: bytes, field: str, value: object
) -> None:
    parts.request(body, head=FakeHead(content_type))
    parts.collect()
    [record] = parts.records()
    assert record[field] == value
    assert len({"data", "data_base64", "dataref"} & record.keys()) == 1


def test_no_credential_is_in_any_file(parts: Collecting) -> None:
    parts.request()
    parts.request(b"x" * (HELD_BYTES + 1))
    parts.collect()
    files = [path for path in parts.root.rglob("*") if path.is_file()]
    assert files and not any(b"the-secret-key" in path.read_bytes() for path in files)


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_long_body_within_the_limit_is_in_its_record(parts: Collecting, pieces: int) -> None:
    body = b'"' + b"x" * 400_000 + b'"'
    parts.request(body, pieces=pieces)
    parts.collect()
    assert parts.records()[0]["data"] == "x" * 400_000
    assert parts.counts() == PayloadCounts(stored=1)
    assert list(parts.store.spool.iterdir()) == []


def test_a_body_beyond_the_limit_is_a_file_that_its_record_names(tmp_path: Path) -> None:
    parts = Collecting(tmp_path, PayloadCollection(max_body_bytes=1000))
    bodies = [b"a" * 1000, b"b" * 1001, b"c" * 500_000]
    for body in bodies:
        parts.request(body, head=FakeHead("text/plain"))
    parts.collect()
    small, middle, large = parts.records()
    assert small["data"] == "a" * 1000 and "dataref" not in small
    for record, body in ((middle, bodies[1]), (large, bodies[2])):
        assert parts.content(record["dataref"]) == body
        assert "data" not in record and record["contentrange"] == f"bytes 0-{len(body) - 1}/{len(body)}"


def test_the_sample_is_the_same_for_all_who_know_the_request(tmp_path: Path) -> None:
    parts = Collecting(tmp_path, PayloadCollection(sampling=0.25))
    ids = [parts.request() for _ in range(2000)]
    parts.collect()
    kept = [record["correlationid"] for record in parts.records("request")]
    assert kept == [each for each in ids if is_sampled(each.encode(), 0.25)]
    assert kept == [record["correlationid"] for record in parts.records("response")]
    assert 400 < len(kept) < 600
    assert parts.counts() == PayloadCounts(len(kept), 2000 - len(kept), 0)


def test_bodies_are_kept_byte_by_byte(parts: Collecting) -> None:
    sent = [f'{{"n": {number}, "s": "{"é" * (number % 50)}"}}'.encode() for number in range(3000)]
    ids = [parts.request(body, body) for body in sent]
    parts.collect()
    for collection in ("request", "response"):
        [name] = [each for each in parts.store.names("modelDataCollector") if f"/{collection}/" in each]
        lines = parts.content(name).splitlines()
        found = [hashlib.sha256(line.split(b'"data":', 1)[1].split(b',"correlationid"')[0]).digest() for line in lines]
        assert found == [hashlib.sha256(body).digest() for body in sent]
    assert [record["correlationid"] for record in parts.records()] == ids


def test_a_full_ring_drops_and_counts_and_scoring_goes_on(parts: Collecting) -> None:
    for _ in range(300):
        parts.request(b"x" * 10_000)
    parts.collect()
    counts = parts.counts()
    assert counts.stored == len(parts.records()) < 300
    assert counts.stored + counts.dropped == 300
    parts.request()
    parts.collect()
    assert parts.counts() == PayloadCounts(counts.stored + 1, 0, counts.dropped)


def test_a_ring_is_used_again_and_again(parts: Collecting) -> None:
    for number in range(400):
        parts.request(b"x" * (7919 * number % 9001))
        if number % 50 == 49:
            parts.collect()
    assert parts.counts() == PayloadCounts(stored=400)
    assert [len(record["data"]) for record in parts.records()] == [7919 * number % 9001 for number in range(400)]


@pytest.mark.parametrize("ended_after", ["reading", "the first file", "all files", "the journal"])
def test_a_killed_collector_loses_nothing_and_writes_nothing_twice(parts: Collecting, ended_after: str) -> None:
    first = [parts.request() for _ in range(5)]
    parts.collect()
    second = [parts.request() for _ in range(5)]
    killed = parts.new_collector()
    killed.step()
    if ended_after != "reading":
        with pytest.MonkeyPatch.context() as patch:
            if ended_after == "the first file":
                parts.store.writes_left = 1
                patch.setattr("telemetry.batch_writer.BatchWriter.recover", _end)
            elif ended_after == "all files":
                patch.setattr("telemetry.collector.Collector._commit", _end)
            else:
                patch.setattr("telemetry.ring.RingReader.commit", _end)
            with pytest.raises(KilledError):
                killed.flush()
    parts.store.writes_left = None
    parts.collector = parts.new_collector()
    third = [parts.request() for _ in range(5)]
    parts.collect()
    for collection in ("request", "response"):
        assert [each["correlationid"] for each in parts.records(collection)] == [*first, *second, *third]
    assert parts.counts() == PayloadCounts(stored=15)


class KilledError(BaseException):
    """Stands for the end of a process."""


def _end(*_: object) -> None:
    raise KilledError


def test_what_a_killed_worker_has_handed_over_is_stored_and_its_ring_removed(parts: Collecting) -> None:
    ids = [parts.request() for _ in range(3)]
    parts.observers.close()
    parts.collect()
    parts.collector.step()
    assert [each["correlationid"] for each in parts.records()] == ids
    assert list(parts.rings.glob("*.ring")) == []
    assert parts.counts() == PayloadCounts(stored=3)


def test_a_store_that_is_away_is_tried_again(parts: Collecting) -> None:
    parts.store.away = True
    ids = [parts.request() for _ in range(3)]
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        parts.store.away = len(waits) < 4

    parts.collector.clock.wait = wait
    parts.collect()
    assert [each["correlationid"] for each in parts.records()] == ids
    assert waits == [0.2, 0.4, 0.8, 1.6]


def test_a_store_that_stays_away_costs_what_is_counted_as_dropped(parts: Collecting) -> None:
    parts.store.away = True
    lost = [parts.request() for _ in range(3)]
    parts.collect()
    assert parts.counts() == PayloadCounts(dropped=3)
    assert 55 <= parts.time.now_s <= 60
    parts.store.away = False
    kept = [parts.request() for _ in range(2)]
    parts.collect()
    assert [each["correlationid"] for each in parts.records()] == kept and lost
    assert parts.counts() == PayloadCounts(stored=2, dropped=3)


def test_a_disk_that_fills_in_the_middle_of_a_batch_leaves_no_half_of_it(parts: Collecting) -> None:
    first = parts.request()
    parts.collect()
    parts.store.writes_left = 1
    parts.request()
    parts.collect()
    for collection in ("request", "response"):
        assert [each["correlationid"] for each in parts.records(collection)] == [first]
    assert parts.counts() == PayloadCounts(stored=1, dropped=1)


def test_a_batch_is_written_by_size_or_after_its_time(tmp_path: Path) -> None:
    parts = Collecting(tmp_path, settings=CollectorSettings(batch_bytes=10_000, batch_s=5.0))
    parts.request()
    parts.collector.step()
    assert parts.records() == []
    parts.time.now_s = 5.0
    parts.collector.step()
    assert len(parts.records()) == 1
    parts.request(b"x" * 10_000)
    parts.collector.step()
    assert len(parts.records()) == 2


def test_records_can_be_compressed(tmp_path: Path) -> None:
    parts = Collecting(tmp_path, settings=CollectorSettings(compress=True))
    for _ in range(2):
        parts.request()
        parts.collect()
    [name] = [each for each in parts.store.names("modelDataCollector") if "/request/" in each]
    assert name.endswith("/pod-1.jsonl.gz")
    assert len(gzip.decompress(parts.content(name)).splitlines()) == 2


def test_swagger_is_no_payload(parts: Collecting) -> None:
    parts.request(head=FakeHead(path=b"/api/v1/service/iris/swagger.json", has_body=False))
    parts.collect()
    assert parts.records() == [] and parts.counts() == PayloadCounts()


def test_an_observer_holds_no_more_than_its_bound(parts: Collecting) -> None:
    capture = parts.observer.begin(b"i" * 36, FakeHead())
    for _ in range(5):
        capture.request_body(b"x" * HELD_BYTES)
        assert parts.observers.held_bytes <= HELD_BYTES
    assert parts.ring_bytes == LEAST_BYTES
    capture.request_ended(499, None, 1.0)
    assert parts.observers.held_bytes == 0
