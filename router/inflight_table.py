"""The flight board: what each worker has in flight, in memory that outlives it.

A worker that is killed can tell nothing any more, and guessing would give a slot to two requests. So each worker
writes what it starts and ends into a row of shared memory of its own, and its supervisor reads the row once the
process has ended: exactly what was in flight. The row also carries the worker's pulse and what it has done so far, so
that neither its liveness nor its load needs an answer from a busy loop.

    header   64 bytes   u32: beats, connections, requests in flight that have no entry, nothing
                        f64: what the worker has done so far (`Work`, in the order of its fields)
    counts   u32 each   requests in flight, by entry
    ids      256 each   a byte of length, then the replica's id; valid where the count is above 0

A count is one aligned word, which no kill can cut in half. An id is written while its count is 0 and counts for
nothing until it is whole. A request is counted before its first byte goes out, and until it has ended.
"""

import mmap
import os
from types import TracebackType
from typing import Protocol

from serving.usage import Work

ENTRIES = 16_384
"""Replicas that may have requests of one worker at the same time: more than it takes clients by default. Memory is used
only for entries that are."""
_HEADER_BYTES = 64
_ID_BYTES = 256
MAX_ID_BYTES = _ID_BYTES - 1
_IDS_AT = _HEADER_BYTES + 4 * ENTRIES
SIZE_BYTES = _IDS_AT + _ID_BYTES * ENTRIES
_BEATS, _CONNECTIONS, _UNKNOWN = range(3)
_WORK_AT = 16

BEAT_S = 0.1
"""How often a worker's loop shows that it turns."""


class InflightTarget(Protocol):
    """What a request is started on; `router.core.ledger.ReplicaSlots` fits."""

    id: str
    table_index: int
    """Where it stands on the board of this worker; -1: nowhere (now)."""


class InflightTable:
    """The worker's side: the one writer of its row. 0.14 µs for `started` and for `ended`."""

    __slots__ = ("_counts", "_hand", "_header", "_map", "_standing", "_work", "missed")

    def __init__(self, fd: int, entries: int = ENTRIES) -> None:
        """`fd`: of the row that the supervisor made; it may be closed afterwards. `entries`: how many may be used."""
        self._map = mmap.mmap(fd, SIZE_BYTES)
        self._header = memoryview(self._map)[:_HEADER_BYTES].cast("I")
        self._work = memoryview(self._map)[_WORK_AT:_HEADER_BYTES].cast("d")
        self._counts = memoryview(self._map)[_HEADER_BYTES : _HEADER_BYTES + 4 * entries].cast("I")
        self._standing: list[InflightTarget] = []
        """Whose entry each is, or was last."""
        self._hand = 0
        self.missed = 0
        """Requests that found no entry: while one of them runs, the row tells nothing of what is in flight."""

    def started(self, replica: InflightTarget) -> None:
        """A request goes to the replica now; before its first byte does."""
        index = replica.table_index
        if index < 0:
            index = self._enter(replica)
            if index < 0:
                self.missed += 1
                self._header[_UNKNOWN] += 1
                return
        self._counts[index] += 1

    def ended(self, replica: InflightTarget) -> None:
        """A request to the replica has ended."""
        index = replica.table_index
        if index >= 0 and (count := self._counts[index]):
            self._counts[index] = count - 1
        else:
            self._header[_UNKNOWN] -= 1  # it was started when there was no entry

    def beat(self, connections: int, work: Work | None = None) -> None:
        """The worker's loop turns, has this many clients, and has done so much; to be called every BEAT_S."""
        for place, figure in enumerate(work or ()):
            self._work[place] = figure
        self._header[_BEATS] = (self._header[_BEATS] + 1) & 0xFFFF_FFFF or 1  # 0: it has never beaten
        self._header[_CONNECTIONS] = connections

    def _enter(self, replica: InflightTarget) -> int:
        """A new entry for the replica; -1 where there is none."""
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
        """An entry that was never used; else, in turn, one whose replica is idle."""
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
        """Write no more."""
        self._header.release()
        self._work.release()
        self._counts.release()
        self._map.close()


class WorkerRow:
    """The supervisor's side: memory for one worker process, made before it starts and read after it has ended."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = os.memfd_create("scorefront-flights")
        try:
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
        """Moves while the worker's loop turns; 0 before it first did."""
        return self._words[_BEATS]

    @property
    def connections(self) -> int:
        """Clients of the worker, when its loop last turned."""
        return self._words[_CONNECTIONS]

    @property
    def work(self) -> Work:
        """What the worker had done when its loop last turned; all 0 before it first did."""
        # Read in the microsecond in which it is written, some figures are one beat older than others.
        return Work(*self._work)

    def held(self) -> dict[str, int] | None:
        """Replica id -> requests in flight, only those above 0; None: not all of them are known."""
        if self._words[_UNKNOWN]:
            return None
        held: dict[str, int] = {}
        for index, count in enumerate(self._words[_HEADER_BYTES // 4 :].tolist()):
            if count:
                at = _IDS_AT + index * _ID_BYTES
                name = self._map[at + 1 : at + 1 + self._map[at]].decode()
                held[name] = held.get(name, 0) + count
        return held

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._work.release()
        self._map.close()
        os.close(self.fd)
