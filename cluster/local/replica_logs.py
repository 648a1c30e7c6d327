"""Output of replicas: a bounded file each, a short tail in memory, and followers."""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from cluster.timed_line import TimedLine, stamp, timed
from serving.endpoint import VersionKey

FILE_BYTES = 1_000_000
"""Size at which a file is rotated; one older file (`.1`) is kept."""
LINE_BYTES = 8192
"""Longer lines are split into pieces of this length."""
RING_LINES = 200
KEPT_GONE = 5
"""Kept logs of removed replicas, per version."""
QUIET_S = 0.2
"""A line without an end is shown once its replica has written nothing for so long."""
FOLLOW_BACKLOG = 10_000
"""Lines a slow follower may be behind before it loses the oldest."""


class LineBuffer:
    """Splits bytes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Every complete line, without its end; a line longer than LINE_BYTES in pieces."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        return [piece for line in whole for piece in _pieces(line.removesuffix(b"\r"))]

    @property
    def has_rest(self) -> bool:
        """True if the last line has no end."""
        return bool(self._rest)

    def finish(self) -> list[bytes]:
        """The last line, if it has no end."""
        rest, self._rest = self._rest, b""
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + LINE_BYTES] for start in range(0, max(1, len(line)), LINE_BYTES)]


class ReplicaLog:
    """The output of one replica. A full disk loses lines (counted), it never blocks the replica."""

    def __init__(self, path: Path, followers: "set[LogFollower]", replica_id: str, wall: Callable[[], float]) -> None:
        """An empty log.

        path: of its file. followers: of the version. replica_id: of the replica. wall: unix seconds.
        """
        self.ring: deque[TimedLine] = deque(maxlen=RING_LINES)
        self.dropped_lines = 0
        self._path = path
        self._followers = followers
        self._id = replica_id
        self._wall = wall
        self._written_s = 0.0
        """Time of the last output."""
        self._lines = LineBuffer()
        self._fd = -1
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Append output of the replica."""
        self._written_s = self._wall()
        self._keep(self._lines.feed(data))

    def end_quiet_line(self) -> None:
        """End a line that has waited for its end for QUIET_S: a prompt, or the last words of a replica that hangs."""
        if self._lines.has_rest and not 0 <= self._wall() - self._written_s < QUIET_S:
            self._keep(self._lines.finish())

    def close(self) -> None:
        """Close the log of an ended replica."""
        self._keep(self._lines.finish())
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def last(self, count: int, width: int = 300, besides: str = "\n") -> str:
        """The last `count` lines with text, for a reason; each cut at `width` characters.

        besides: beginning of lines to leave out; default none.
        """
        told = [line.text for line in self.ring if line.text.strip() and not line.text.startswith(besides)]
        return "\n".join(text[:width] for text in told[-count:])

    def _keep(self, lines: list[bytes]) -> None:
        if not lines:
            return
        entries = [TimedLine(self._written_s, line.decode(errors="replace")) for line in lines]
        self.ring.extend(entries)
        for follower in self._followers:
            follower.put(self._id, entries)
        try:
            at = stamp(self._written_s).encode()
            self._append(b"".join(b"%s %s\n" % (at, line) for line in lines))
        except OSError:
            self.dropped_lines += len(lines)

    def _append(self, data: bytes) -> None:
        if self._fd >= 0 and self._bytes + len(data) > FILE_BYTES:
            os.close(self._fd)
            self._fd = -1
            os.replace(self._path, f"{self._path}.1")
        if self._fd < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            self._bytes = 0
        self._bytes += os.write(self._fd, data)


class LogFollower:
    """One follower of the lines of a version."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, TimedLine]] = deque(maxlen=FOLLOW_BACKLOG)
        self._more = asyncio.Event()

    def put(self, replica_id: str, lines: list[TimedLine]) -> None:
        """Add written lines."""
        self._lines.extend((replica_id, line) for line in lines)
        self._more.set()

    async def get(self) -> list[tuple[str, TimedLine]]:
        """Wait for lines and return them all."""
        await self._more.wait()
        self._more.clear()
        lines = list(self._lines)
        self._lines.clear()
        return lines


class LogStore:
    """All logs, under `root`/<endpoint>/<version>/<replica>.log; each line of a file begins with its time."""

    def __init__(self, root: Path, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251 - a shell
        """`root`: folder of the files. `wall`: unix seconds."""
        self._root = root
        self._wall = wall
        self._open: dict[VersionKey, dict[str, ReplicaLog]] = {}
        self._dropped: set[VersionKey] = set()
        """Versions whose files are removed with their last replica."""
        self._followers: dict[VersionKey, set[LogFollower]] = {}

    def open(self, key: VersionKey, replica_id: str) -> ReplicaLog:
        """Open a log for a starting replica."""
        self._dropped.discard(key)
        log = ReplicaLog(self._path(key, replica_id), self._followers.setdefault(key, set()), replica_id, self._wall)
        self._open.setdefault(key, {})[replica_id] = log
        return log

    def close(self, key: VersionKey, replica_id: str) -> None:
        """Close the log of a removed replica. It is kept until KEPT_GONE younger ones are removed too."""
        logs = self._open.get(key, {})
        if log := logs.pop(replica_id, None):
            log.close()
        if not logs:
            self._open.pop(key, None)
        self._forget_unused(key)
        self._clear_up(key)

    def drop(self, endpoint: str, keep: Collection[str] = ()) -> None:
        """Remove all files of the versions of an endpoint except those to `keep`.

        The log of a draining replica is removed with the replica.
        """
        versions = {key.version for key in self._open if key.endpoint == endpoint}
        with contextlib.suppress(OSError):
            versions.update(folder.name for folder in (self._root / endpoint).iterdir())
        for version in versions.difference(keep):
            self._dropped.add(VersionKey(endpoint, version))
            self._clear_up(VersionKey(endpoint, version))

    def _clear_up(self, key: VersionKey) -> None:
        """Remove logs above the number to keep."""
        folder = self._root / key.endpoint / key.version
        open_logs = self._open.get(key, {})
        kept = 0 if key in self._dropped else KEPT_GONE
        for path in _newest_first(folder, open_logs)[kept:]:
            for one in (path, path.with_name(path.name + ".1")):
                with contextlib.suppress(OSError):
                    one.unlink(missing_ok=True)
        if key in self._dropped and not open_logs:
            self._dropped.discard(key)
            with contextlib.suppress(OSError):  # a folder that is not empty is not ours alone
                folder.rmdir()
                folder.parent.rmdir()

    async def tail(self, key: VersionKey, count: int) -> dict[str, list[TimedLine]]:
        """Replica id -> its last `count` lines, for running replicas and kept logs."""
        self._end_quiet_lines(key)
        live = {replica_id: list(log.ring) for replica_id, log in self._open.get(key, {}).items()}
        kept = await asyncio.to_thread(_read_tails, self._path(key, "any").parent, count)
        for replica_id, ring in live.items():
            # The ring is the more complete of the two after a full disk.
            if len(ring) >= min(count, len(kept.get(replica_id, ()))):
                kept[replica_id] = ring[-count:] if count > 0 else []
        return kept

    async def follow(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        """Yield (replica id, line) from now on."""
        follower = LogFollower()
        followers = self._followers.setdefault(key, set())
        followers.add(follower)
        try:
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        lines = await follower.get()
                except TimeoutError:
                    self._end_quiet_lines(key)
                    continue
                for line in lines:
                    yield line
        finally:
            followers.discard(follower)
            self._forget_unused(key)

    def _end_quiet_lines(self, key: VersionKey) -> None:
        for log in self._open.get(key, {}).values():
            log.end_quiet_line()

    def _forget_unused(self, key: VersionKey) -> None:
        """An open log writes to the very set that followers join, so the set is removed only without both."""
        if key not in self._open and not self._followers.get(key):
            self._followers.pop(key, None)

    def _path(self, key: VersionKey, replica_id: str) -> Path:
        return self._root / key.endpoint / key.version / f"{replica_id}.log"


def _newest_first(folder: Path, besides: Collection[str]) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    for path in folder.glob("*.log"):
        if path.stem not in besides:
            with contextlib.suppress(OSError):
                dated.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _read_tails(folder: Path, count: int) -> dict[str, list[TimedLine]]:
    tails: dict[str, list[TimedLine]] = {}
    for path in folder.glob("*.log"):
        lines: list[str] = []
        for one in (path.with_name(path.name + ".1"), path):
            with contextlib.suppress(OSError):
                lines += one.read_text(errors="replace").split("\n")[:-1]
        tails[path.stem] = timed(lines)[-count:] if count > 0 else []
    return tails
