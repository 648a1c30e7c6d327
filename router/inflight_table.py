"""In-flight table: the requests in flight of each worker, in memory that outlives it.

A killed worker cannot report its requests, and a guess could grant one slot to two requests. So each worker counts
them in a row of shared memory, which its supervisor reads after the end of the process. The row also carries the beats
of its event loop and its work so far: neither liveness nor load needs an answer from a busy loop.

    header   64 bytes   u32: beats, connections, requests in flight without an entry, unused
                        f64: work so far (`Work`, in the order of its fields)
    counts   u32 each   requests in flight, by entry
    ids      256 each   a byte of length, then the replica id; valid if the count is above 0

A count is one aligned word, so a kill leaves it whole. An id is written while its count is 0. A request is counted from
before its first byte is sent until its end.
"""

import fcntl
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from serving.usage import Work

ENTRIES = 16_384
"""Replicas with requests of one worker at the same time: more than its clients by default. Only used entries take
memory."""
_HEADER_BYTES = 64
_ID_BYTES = 256
MAX_ID_BYTES = _ID_BYTES - 1
_IDS_AT = _HEADER_BYTES + 4 * ENTRIES
SIZE_BYTES = _IDS_AT + _ID_BYTES * ENTRIES
_BEATS, _CONNECTIONS, _UNKNOWN = range(3)
_WORK_AT = 16

BEAT_S = 0.1
"""Interval of the beats of a worker's event loop."""


class InflightTarget(Protocol):
    """The replica of a request; implemented by `router.core.ledger.ReplicaSlots`."""

    id: str
    table_index: int
    """Its entry in the table of this worker; -1: none."""


class InflightTable:
    """Worker side: the only writer of its row. 0.14 µs each for `started` and `ended`."""

    __slots__ = ("_counts", "_hand", "_header", "_map", "_standing", "_work", "missed")

    def __init__(self, fd: int, entries: int = ENTRIES) -> None:
        """`fd`: the row made by the supervisor; may be closed afterwards. `entries`: number of usable entries."""
        self._map = mmap.mmap(fd, SIZE_BYTES)
        self._header = memoryview(self._map)[:_HEADER_BYTES].cast("I")
        self._work = memoryview(self._map)[_WORK_AT:_HEADER_BYTES].cast("d")
        self._counts = memoryview(self._map)[_HEADER_BYTES : _HEADER_BYTES + 4 * entries].cast("I")
        self._standing: list[InflightTarget] = []
        """The current or last replica of each entry."""
        self._hand = 0
        self.missed = 0
        """Requests without an entry: while one is in flight, the requests of the row are unknown."""

    def started(self, replica: InflightTarget) -> None:
        """Count a request; called before its first byte is sent."""
        index = replica.table_index
        if index < 0:
            index = self._enter(replica)
            if index < 0:
                self.missed += 1
                self._header[_UNKNOWN] += 1
                return
        self._counts[index] += 1

    def ended(self, replica: InflightTarget) -> None:
        """A request has ended."""
        index = replica.table_index
        if index >= 0 and (count := self._counts[index]):
            self._counts[index] = count - 1
        else:
            self._header[_UNKNOWN] -= 1  # counted without an entry

    def beat(self, connections: int, work: Work | None = None) -> None:
        """Record a beat, the number of clients and the work so far; called every BEAT_S."""
        for place, figure in enumerate(work or ()):
            self._work[place] = figure
        self._header[_BEATS] = (self._header[_BEATS] + 1) & 0xFFFF_FFFF or 1  # 0: no beat yet
        self._header[_CONNECTIONS] = connections

    def _enter(self, replica: InflightTarget) -> int:
        """A new entry for the replica; -1 if there is none."""
        name = replica.id.encode()
        index = self._vacant() if len(name) <= MAX_ID_BYTES else -1
        if index < 0:
            return -1
        if index < len(self._standing):
            self._standing[index].table_index = -1
            self._standing[index] = replica
        else:
            self._standing.append(replica)
        at = _IDS_AT + index * _ID_BYTES
        self._map[at : at + 1 + len(name)] = bytes((len(name),)) + name
        replica.table_index = index
        return index

    def _vacant(self) -> int:
        """An unused entry; else the next one of an idle replica."""
        if len(self._standing) < len(self._counts):
            return len(self._standing)
        counts = self._counts.tolist()
        for start in (self._hand, 0):
            try:
                index = counts.index(0, start)
            except ValueError:
                continue
            self._hand = index + 1
            return index
        return -1

    def close(self) -> None:
        """Release the memory of this process."""
        self._header.release()
        self._work.release()
        self._counts.release()
        self._map.close()


class WorkerRow:
    """Supervisor side: the memory of one worker process, made before its start and read after its end."""

    def __init__(self, path: Path | None = None) -> None:
        """Make the memory. `path`: a new file for it, locked (flock) until supervisor and worker have ended; default
        memory without a name. Raises OSError.
        """
        self._path = path
        if path is None:
            self.fd = os.memfd_create("scorefront-inflight")
        else:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if path is not None:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the open file, which the worker inherits
            os.ftruncate(self.fd, SIZE_BYTES)
            self._map = mmap.mmap(self.fd, SIZE_BYTES)
        except OSError:
            os.close(self.fd)
            raise
        self._words = memoryview(self._map)[:_IDS_AT].cast("I")
        self._work = memoryview(self._map)[_WORK_AT:_HEADER_BYTES].cast("d")

    def __enter__(self) -> "WorkerRow":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def beats(self) -> int:
        """Beats of the event loop; 0 before the first."""
        return self._words[_BEATS]

    @property
    def connections(self) -> int:
        """Client connections at the last beat."""
        return self._words[_CONNECTIONS]

    @property
    def work(self) -> Work:
        """Work so far at the last beat; all 0 before the first."""
        # Read during a write, some figures are one beat older than others.
        return Work(*self._work)

    def held(self) -> dict[str, int] | None:
        """Replica id -> requests in flight, if above 0; None: not all are known."""
        return requests_in_flight(self._map)

    def close(self) -> None:
        """Release the memory and remove its file."""
        self._words.release()
        self._work.release()
        self._map.close()
        os.close(self.fd)
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def requests_in_flight(row: mmap.mmap | bytes) -> dict[str, int] | None:
    """Replica id -> requests in flight of a row whose worker has ended, if above 0; None: not all are known."""
    words = memoryview(row)[:_IDS_AT].cast("I")
    if words[_UNKNOWN]:
        return None
    held: dict[str, int] = {}
    for index, count in enumerate(words[_HEADER_BYTES // 4 :].tolist()):
        if count:
            at = _IDS_AT + index * _ID_BYTES
            name = row[at + 1 : at + 1 + row[at]].decode()
            held[name] = held.get(name, 0) + count
    return held
