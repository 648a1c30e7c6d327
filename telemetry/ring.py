"""Ring of messages between one router worker and the collector, in a file of shared memory.

    header   192 bytes   u64 at 0: FORMAT, at 8: capacity, at 64: head, at 128: tail; positions in bytes since the start
    counts   96 each     requests by version: u64 sampled out, u64 dropped, u64 length of the name, the name
    data     capacity    messages: u32 length, u32 kind, the bytes, padded to 8

One process writes, one reads. The worker owns head and counts, the collector owns tail; neither ever waits. A message
is written before head moves past it, so that the end of either process leaves the ring whole: what the collector has
not stored yet stays, and its successor reads it again. A full ring refuses messages.
"""

import contextlib
import fcntl
import mmap
import os
import platform
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cluster.atomic_files import TEMPORARY_PREFIX
from serving.endpoint import VersionKey

FORMAT: Final = 0x5343_4F52_4502
SUFFIX: Final = ".ring"
COUNTED_VERSIONS: Final = 4096
"""Versions with counts in one ring; those beyond are not collected."""
DEFAULT_BYTES: Final = 16 * 1024 * 1024
LEAST_BYTES: Final = 1024 * 1024

STRONGLY_ORDERED: Final = platform.machine() in ("x86_64", "AMD64")
"""True if the processor keeps the order of writes, as seen by others."""

_HEAD, _TAIL = 64 // 8, 128 // 8
_COUNTS_AT = 192
_COUNT_BYTES = 96
_NAME_AT = 24
_READ_ENTRIES = 32
_DATA_AT = _COUNTS_AT + COUNTED_VERSIONS * _COUNT_BYTES
_frame = struct.Struct("<II")
FRAME_BYTES: Final = _frame.size
_FILLER: Final = 0
"""Kind of a message without content, which fills the end of the data before it begins again."""


class RingMessage(NamedTuple):
    """One message."""

    kind: int
    """Above 0."""
    data: bytes


class PayloadCounts(NamedTuple):
    """Requests of one version by result."""

    stored: int = 0
    sampled_out: int = 0
    dropped: int = 0

    def plus(self, more: "PayloadCounts") -> "PayloadCounts":
        """The sum."""
        return PayloadCounts(*(own + other for own, other in zip(self, more, strict=True)))


class RingFull(Exception):
    """The ring has no room for a message."""


def _size_bytes(capacity: int) -> int:
    return _DATA_AT + capacity


class RingWriter:
    """Worker side. Its file is locked while the worker lives."""

    def __init__(self, folder: Path, name: str, capacity: int = DEFAULT_BYTES) -> None:
        """Make the ring.

        folder: of all rings, private. name: of the worker.
        capacity: bytes of data; a multiple of 8.
        Raises OSError, also if there is no memory for it.
        """
        self._capacity = capacity
        part = folder / f"{TEMPORARY_PREFIX}{name}{SUFFIX}"
        self._fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserved now: writing to a page that a full file system does not have would end the process.
            os.posix_fallocate(self._fd, 0, _size_bytes(capacity))
            # Mapped now: the first write to each page would cost as much as the rest of its message.
            self._map = mmap.mmap(self._fd, _size_bytes(capacity), mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._words = memoryview(self._map)[:_COUNTS_AT].cast("Q")
            self._words[1] = capacity
            self._words[0] = FORMAT
            self.path = folder / f"{name}{SUFFIX}"
            os.rename(part, self.path)
        except OSError:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        self._at = self._room_ends_at = _DATA_AT
        """Place of the next message in the map, and the known end of the room there."""
        self._before = -_DATA_AT
        """Position at a place, less the place."""
        self._entries: dict[VersionKey, VersionCounter] = {}
        self._lock = threading.Lock()

    def write(self, kind: int, data: bytes) -> None:
        """Append a message of a kind above 0. Raises RingFull; then nothing is written."""
        self.append(_frame.pack(len(data), kind) + data)

    def append(self, message: bytes) -> None:
        """Append a message that begins with its frame. Raises RingFull; then nothing is written."""
        length = len(message)
        taken = (length + 7) & ~7
        if self._at + taken > self._room_ends_at:
            self._make_room(taken)
        at = self._at
        self._map[at : at + length] = message
        if not STRONGLY_ORDERED:
            self._fence()
        self._at = at = at + taken
        self._words[_HEAD] = at + self._before

    def _make_room(self, taken: int) -> None:
        """Find the room for a message, at the beginning if the end has none. Raises RingFull."""
        capacity, at = self._capacity, self._at - _DATA_AT
        filler = capacity - at if at + taken > capacity else 0
        free = capacity - filler - (self._at + self._before - self._words[_TAIL])
        if taken > free:
            raise RingFull
        if at + taken > capacity:
            if filler:
                _frame.pack_into(self._map, self._at, filler - FRAME_BYTES, _FILLER)
            self._at, self._before, at = _DATA_AT, self._before + capacity, 0
        self._room_ends_at = _DATA_AT + min(at + free, capacity)

    def _fence(self) -> None:
        """Order the writes before and after it: taking a lock twice does, on every processor."""
        for _ in range(2):
            with self._lock:
                pass

    def counter(self, key: VersionKey) -> "VersionCounter | None":
        """The counts of a version in the ring; None if there are too many versions."""
        found = self._entries.get(key)
        if found is None and len(self._entries) < COUNTED_VERSIONS:
            found = self._entries[key] = VersionCounter(self._map, len(self._entries), key)
        return found

    def close(self) -> None:
        """Release the memory; what is in the ring is still read."""
        self._words.release()
        for entry in self._entries.values():
            entry.close()
        self._map.close()
        os.close(self._fd)


class VersionCounter:
    """Counts of one version in a ring, written by the worker only."""

    __slots__ = ("_words", "index", "sampled_out")

    def __init__(self, memory: mmap.mmap, index: int, key: VersionKey) -> None:
        """`memory`: of the ring. `index`: of its entry, unused so far. `key`: of the version."""
        self.index = index
        at = _COUNTS_AT + index * _COUNT_BYTES
        self._words = memoryview(memory)[at : at + _NAME_AT].cast("Q")
        name = str(key).encode()
        memory[at + _NAME_AT : at + _NAME_AT + len(name)] = name
        self._words[2] = len(name)
        self.sampled_out = self._words[:1]
        """Number of the requests that are not in the sample; one word, which is added to in place."""

    def add_dropped(self) -> None:
        """Count a request whose payload is lost."""
        self._words[1] += 1

    def close(self) -> None:
        """Release the memory."""
        self.sampled_out.release()
        self._words.release()


class RingReader:
    """Collector side. Reading moves a position of its own; `commit` frees what was read."""

    def __init__(self, path: Path) -> None:
        """Open the ring of a worker. Raises OSError; ValueError for a file that is none."""
        self.name = path.name
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size_bytes = os.fstat(self._fd).st_size
            if size_bytes < _DATA_AT:
                raise ValueError(f"{path}: is no ring")
            self._map = mmap.mmap(self._fd, size_bytes)
        except BaseException:
            os.close(self._fd)
            raise
        self._words = memoryview(self._map)[:_COUNTS_AT].cast("Q")
        self._capacity = self._words[1]
        if self._words[0] != FORMAT or _size_bytes(self._capacity) != size_bytes:
            self.close()
            raise ValueError(f"{path}: is no ring of this version")
        self.position = self._words[_TAIL]
        """Bytes read so far."""
        self._versions: list[VersionKey] = []
        self._lock = threading.Lock()

    @property
    def unread_bytes(self) -> int:
        """Bytes after `position`."""
        return self._words[_HEAD] - self.position

    @property
    def committed(self) -> int:
        """Position up to which the ring is free."""
        return self._words[_TAIL]

    def read(self) -> RingMessage | None:
        """The next message; None: there is none. Raises ValueError for a damaged ring."""
        while self.position < (head := self._words[_HEAD]):
            if not STRONGLY_ORDERED:
                with self._lock:  # orders the reads before and after it
                    pass
            at = self.position % self._capacity
            length, kind = _frame.unpack_from(self._map, _DATA_AT + at)
            taken = (FRAME_BYTES + length + 7) & ~7
            if at + taken > self._capacity or self.position + taken > head:
                raise ValueError(f"{self._path}: is damaged at {self.position}")
            self.position += taken
            if kind != _FILLER:
                start = _DATA_AT + at + FRAME_BYTES
                return RingMessage(kind, self._map[start : start + length])
        return None

    def skip_all(self) -> None:
        """Move past everything that is in the ring."""
        self.position = self._words[_HEAD]

    def commit(self, position: int | None = None) -> None:
        """Free the ring up to a position. `position`: of this ring; None: up to what was read."""
        self._words[_TAIL] = max(self._words[_TAIL], self.position if position is None else position)
        self.position = max(self.position, self._words[_TAIL])

    def rewind(self) -> None:
        """Read again from what was committed."""
        self.position = self._words[_TAIL]

    def version(self, index: int) -> VersionKey:
        """The version with an index among the counts. Raises ValueError if there is none."""
        if index >= len(self._versions):
            self._versions = list(self.counts())
            if index >= len(self._versions):
                raise ValueError(f"{self._path}: has no version {index}")
        return self._versions[index]

    def counts(self) -> dict[VersionKey, PayloadCounts]:
        """Requests that the worker has sampled out and dropped, by version."""
        return _counts(self._map[_COUNTS_AT:_DATA_AT])

    def writer_ended(self) -> bool:
        """True once the worker has ended."""
        return _is_unlocked(self._fd)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
        self._map.close()
        os.close(self._fd)


def ring_files(folder: Path) -> Iterator[Path]:
    """The rings in a folder, oldest worker first by name. Raises OSError."""
    return (path for path in sorted(folder.glob(f"*{SUFFIX}")) if not path.name.startswith(TEMPORARY_PREFIX))


def sweep_unfinished(folder: Path) -> None:
    """Remove the rings of workers that ended while they made them. Raises OSError."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _is_unlocked(fd):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)


def counts_in(path: Path) -> dict[VersionKey, PayloadCounts]:
    """The counts of the ring at `path`; empty for one that is gone. Raises OSError."""
    try:
        with path.open("rb") as file:
            file.seek(_COUNTS_AT)
            found: dict[VersionKey, PayloadCounts] = {}
            while entries := file.read(_READ_ENTRIES * _COUNT_BYTES):
                more = _counts(entries)
                found |= more
                if len(more) < _READ_ENTRIES or len(found) >= COUNTED_VERSIONS:
                    break
            return found
    except FileNotFoundError:
        return {}


def _counts(memory: bytes) -> dict[VersionKey, PayloadCounts]:
    """The counts of entries, up to the first unused one."""
    found = {}
    for at in range(0, len(memory), _COUNT_BYTES):
        sampled_out, dropped, length = struct.unpack_from("<QQQ", memory, at)
        if not length:
            break
        endpoint, _, version = memory[at + _NAME_AT : at + _NAME_AT + length].decode().partition("/")
        found[VersionKey(endpoint, version)] = PayloadCounts(0, sampled_out, dropped)
    return found


def _is_unlocked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
