"""Reading back, and removal by age and size."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from serving.endpoint import VersionKey
from telemetry.collector_settings import CollectorSettings
from telemetry.data_reading import DataQuery, read_lines
from telemetry.retention import aged, remove_old, surplus, time_of
from tests.unit.telemetry.collecting import NOON, Collecting

HOUR = 3600.0


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Collecting:
    parts = Collecting(tmp_path, settings=CollectorSettings(compress=request.param))
    for hour in range(3):
        parts.time.now_s = hour * HOUR
        parts.request(b"[%d]" % hour)
        parts.collect()
    return parts


def data(parts: Collecting, query: DataQuery) -> list[object]:
    return [msgspec.json.decode(line)["data"] for line in read_lines(parts.store, query)]


def test_records_are_read_by_hour(parts: Collecting) -> None:
    assert data(parts, DataQuery("iris", collection="request")) == [[0], [1], [2]]
    assert data(parts, DataQuery("iris")) == [[0], "ok", [1], "ok", [2], "ok"]
    assert data(parts, DataQuery("iris", "blue", "response")) == ["ok"] * 3
    assert data(parts, DataQuery("iris", "green")) == data(parts, DataQuery("other")) == []


@pytest.mark.parametrize(("since", "expected"), [(0.0, 3), (1 * HOUR, 2), (1 * HOUR + 1, 1), (2 * HOUR + 1, 0)])
def test_records_are_read_from_a_time_on(parts: Collecting, since: float, expected: int) -> None:
    assert len(data(parts, DataQuery("iris", collection="request", since=NOON + since))) == expected


def test_a_line_under_construction_is_not_read(tmp_path: Path) -> None:
    parts = Collecting(tmp_path)
    parts.request()
    parts.collect()
    for name in parts.store.names("modelDataCollector"):
        parts.store.append(name, b'{"data": "hal')
    assert len(data(parts, DataQuery("iris"))) == 2


def test_the_time_of_a_file_is_the_end_of_its_hour_or_day() -> None:
    assert time_of("modelDataCollector/a/b/request/2027/01/15/12/p.jsonl") == datetime(2027, 1, 15, 13, tzinfo=UTC)
    assert time_of("modeldata/s/r/w/a/m/1/inputs/2027/01/15/data.csv") == datetime(2027, 1, 16, tzinfo=UTC)
    assert time_of("modelDataCollector/a/b/request/2027/13/15/12/p.jsonl") is None
    assert time_of("models/iris/1.json") is None


def test_files_of_an_age_are_old() -> None:
    names = [f"modelDataCollector/a/b/request/2027/01/{day:02}/11/p.jsonl" for day in range(10, 16)]
    assert list(aged(names, 2, NOON)) == names[:4]


def test_the_oldest_files_are_beyond_a_size() -> None:
    sizes = {f"modelDataCollector/a/b/{kind}/2027/01/15/{hour:02}/p.jsonl": 100 for hour in (9, 8, 10) for kind in "xy"}
    removed = list(surplus(sizes, 350))
    assert [name.split("/")[-2] for name in removed] == ["08", "08", "09"]
    assert list(surplus(sizes, 600)) == []


def test_retention_removes_files_and_empty_folders_and_nothing_else(parts: Collecting) -> None:
    (parts.root / "store" / "models").mkdir()
    record = parts.root / "store" / "models" / "1.json"
    record.write_bytes(b"{}")
    assert remove_old(parts.store, 1, 0, NOON + 25.5 * HOUR) == 2
    assert len(data(parts, DataQuery("iris", collection="request"))) == 2
    assert not (parts.root / "store/modelDataCollector/iris/blue/request/2027/01/15/12").exists()
    assert remove_old(parts.store, 0, 1, NOON) == 4
    assert not (parts.root / "store/modelDataCollector").exists()
    assert record.exists() and remove_old(parts.store, 0, 0, NOON + 1e9) == 0
    parts.request()
    parts.collect()
    assert len(data(parts, DataQuery(VersionKey("iris", "blue").endpoint))) == 2
