"""Collected data in a store without append: a file for each batch, none left of one that failed."""

import uuid
from pathlib import Path

import msgspec
import pytest

from telemetry.batch_writer import BatchWriter
from telemetry.collector_journal import CollectorJournal
from telemetry.data_reading import DataQuery, read_lines
from telemetry.payload_batch import PayloadBatch, TablePlace
from telemetry.payload_files import StoredPayloads, make_spool
from telemetry.payload_records import place_of
from tests.unit.telemetry.collecting import BLUE, NOON
from workspace.store.file_store import FileStore

PLACE = place_of(BLUE, "request", NOON)


class Objects:
    """An object store, and a writer of batches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = StoredPayloads(FileStore(f"memory://{uuid.uuid4()}", folder / "parts"))
        make_spool(self.store)
        self.restart()

    def restart(self) -> None:
        """Go on as another process."""
        self.journal = CollectorJournal(self.folder)
        self.writer = BatchWriter(self.store, self.journal, "pod-1", False)
        self.writer.recover()

    def lines(self) -> list[object]:
        """Stored records."""
        return [msgspec.json.decode(line)["n"] for line in read_lines(self.store, DataQuery("iris"))]


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path)


def batch(*numbers: int) -> PayloadBatch:
    made = PayloadBatch()
    for number in numbers:
        made.add_line(PLACE, b'{"n":%d}\n' % number)
    return made


def test_each_batch_is_a_file_and_they_are_read_in_order(objects: Objects) -> None:
    assert not objects.store.appends
    for number in range(3):
        objects.writer.write(batch(2 * number, 2 * number + 1), 1_800_000_000_000 + number)
    names = objects.store.names("modelDataCollector")
    assert names == [f"{PLACE.folder}/pod-1-180000000000{number}.jsonl" for number in range(3)]
    assert objects.lines() == [0, 1, 2, 3, 4, 5]


def test_a_batch_that_a_killed_collector_has_half_written_is_removed(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.writer.write(batch(1), 1)
    two_hours = batch(2)
    two_hours.add_line(place_of(BLUE, "response", NOON), b'{"n":2}\n')
    with monkeypatch.context() as patch:
        patch.setattr(BatchWriter, "recover", lambda writer: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(StoredPayloads, "write", _second_fails(StoredPayloads.write))
        with pytest.raises(KeyboardInterrupt):
            objects.writer.write(two_hours, 2)
    assert objects.lines() == [1, 2]
    objects.restart()
    assert objects.lines() == [1]


def _second_fails(write: object) -> object:
    written: list[str] = []

    def failing(store: StoredPayloads, name: str, data: bytes) -> None:
        written.append(name)
        if len(written) == 2:
            raise OSError(5, "Input/output error")
        write(store, name, data)  # type: ignore[operator]

    return failing


def test_tables_and_large_bodies_are_files_of_their_own(objects: Objects) -> None:
    made = PayloadBatch()
    made.add_line(TablePlace("modeldata/a", b"x\n"), b"1\n")
    body = objects.store.spool / "body"
    body.write_bytes(b"large")
    made.add_body("modelDataCollector/iris/blue/request/b.bin", body)
    made.add_body("modelDataCollector/iris/blue/request/c.bin", b"small")
    objects.writer.write(made, 7)
    with objects.store.open("modeldata/a/data-pod-1-7.csv") as file:
        assert file.read() == b"x\n1\n"
    for name, content in (("b", b"large"), ("c", b"small")):
        with objects.store.open(f"modelDataCollector/iris/blue/request/{name}.bin") as file:
            assert file.read() == content
    assert not body.exists()
