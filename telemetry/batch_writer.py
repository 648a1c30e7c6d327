"""Writing of batches to the store, each once also if the collector is killed. Blocking."""

import gzip
from pathlib import Path
from typing import Final

from telemetry.collector_journal import CollectorJournal
from telemetry.payload_batch import PayloadBatch, TablePlace
from telemetry.payload_files import PayloadStore
from telemetry.payload_records import RecordPlace

LEVEL: Final = 5
_MOST_TABLES: Final = 1000


class BatchWriter:
    """Writes batches: appended to the file of their hour, or as a file each where the store has no append."""

    def __init__(self, store: PayloadStore, journal: CollectorJournal, instance: str, compress: bool) -> None:
        """A writer.

        store: of the files. journal: of the collector.
        instance: this writer's part of the names of files. compress: gzip records.
        """
        self._store = store
        self._journal = journal
        self._instance = instance
        self._compress = compress

    def recover(self) -> None:
        """Undo the batch during which an earlier collector was killed. Raises OSError."""
        for name, size_bytes in self._journal.content.writing.items():
            self._undo(name, size_bytes)
        self._journal.content.writing = {}

    def write(self, batch: PayloadBatch, number: int) -> None:
        """Write a batch; on failure nothing of its lines is left. Raises OSError.

        number: of the batch, larger than those before; part of the names of files that are not appended to.
        """
        if self._journal.content.writing:
            self.recover()  # an earlier attempt, which could not be undone then
        files = {self._name(place, number): (place, lines) for place, lines in batch.lines.items()}
        before = {name: self._store.size_bytes(name) or 0 for name in files} if self._store.appends else {}
        self._journal.content.writing = before or dict.fromkeys(files, 0)
        self._journal.write()
        try:
            for name, content in batch.bodies.items():
                if isinstance(content, bytes):
                    self._store.write(name, content)
                elif (path := Path(content)).exists():
                    self._store.take(path, name)
                elif self._store.size_bytes(name) is None:
                    raise FileNotFoundError(2, "a body under construction is gone", str(path))
            for name, (place, lines) in files.items():
                self._write_lines(name, place, bytes(lines), before.get(name, 0))
        except OSError:
            self.recover()
            raise
        self._journal.content.writing = {}

    def _write_lines(self, name: str, place: RecordPlace | TablePlace, lines: bytes, size_bytes: int) -> None:
        if isinstance(place, TablePlace):
            data = lines if size_bytes else place.header + lines
        else:
            # Members of gzip one after the other are one file to every reader.
            data = gzip.compress(lines, LEVEL, mtime=0) if self._compress else lines
        if self._store.appends:
            self._store.append(name, data)
        else:
            self._store.write(name, data)

    def _undo(self, name: str, size_bytes: int) -> None:
        if self._store.appends:
            self._store.truncate(name, size_bytes)
        else:
            self._store.delete(name)

    def _name(self, place: RecordPlace | TablePlace, number: int) -> str:
        if isinstance(place, TablePlace):
            return self._table_name(place) if self._store.appends else f"{place.folder}/data-{self._part(number)}.csv"
        part = self._instance if self._store.appends else self._part(number)
        return f"{place.folder}/{part}.jsonl{'.gz' if self._compress else ''}"

    def _table_name(self, place: TablePlace) -> str:
        """The first of data.csv, data-2.csv, … that is absent or has these columns. Raises OSError."""
        name = f"{place.folder}/data.csv"
        for number in range(2, _MOST_TABLES):
            if not self._store.size_bytes(name):
                return name
            with self._store.open(name) as file:
                if file.read(len(place.header)) == place.header:
                    return name
            name = f"{place.folder}/data-{number}.csv"
        return name

    def _part(self, number: int) -> str:
        return f"{self._instance}-{number}"
