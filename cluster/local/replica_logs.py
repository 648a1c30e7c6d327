"""What replicas print: a bounded file each, a short tail in memory, and listeners."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from serving.endpoint import VersionKey

FILE_BYTES = 1_000_000
"""A file is turned over at this size; one older file (`.1`) is kept."""
LINE_BYTES = 8192
"""Longer lines are cut into pieces of this length."""
RING_LINES = 200
KEPT_GONE = 5
"""Logs of replicas that are gone, per version."""
FOLLOW_BACKLOG = 10_000
"""Lines a slow listener may be behind before it loses the oldest."""


class LineBuffer:
    """Bytes in, lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Every line that is complete, without its end; a line longer than LINE_BYTES comes in pieces."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        return [piece for line in whole for piece in _pieces(line.removesuffix(b"\r"))]

    def finish(self) -> list[bytes]:
        """What never got an end."""
        rest, self._rest = self._rest, b""
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + LINE_BYTES] for start in range(0, max(1, len(line)), LINE_BYTES)]


class ReplicaLog:
    """The output of one replica. A disk that is full loses lines (counted), it never holds up the replica."""

    def __init__(self, path: Path, followers: "set[LogFollower]", replica_id: str) -> None:
        self.ring: deque[str] = deque(maxlen=RING_LINES)
        self.dropped_lines = 0
        self._path = path
        self._followers = followers
        self._id = replica_id
        self._lines = LineBuffer()
        self._fd = -1
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Take over what was read from the replica."""
        self._keep(self._lines.feed(data))

    def close(self) -> None:
        """The replica has ended."""
        self._keep(self._lines.finish())
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def last(self, count: int, width: int = 300) -> str:
        """The last lines that say something, for a reason."""
        return "\n".join([line[:width] for line in self.ring if line.strip()][-count:])

    def _keep(self, lines: list[bytes]) -> None:
        if not lines:
            return
        texts = [line.decode(errors="replace") for line in lines]
        self.ring.extend(texts)
        for follower in self._followers:
            follower.put(self._id, texts)
        try:
            self._append(b"\n".join(lines) + b"\n")
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
    """One listener to the lines of a version."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=FOLLOW_BACKLOG)
        self._more = asyncio.Event()

    def put(self, replica_id: str, lines: list[str]) -> None:
        """Lines have been written."""
        self._lines.extend((replica_id, line) for line in lines)
        self._more.set()

    async def get(self) -> list[tuple[str, str]]:
        """Wait for lines and take them all."""
        await self._more.wait()
        self._more.clear()
        lines = list(self._lines)
        self._lines.clear()
        return lines


class LogStore:
    """All logs, under `root`/<endpoint>/<version>/<replica>.log."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[VersionKey, dict[str, ReplicaLog]] = {}
        self._dropped: set[VersionKey] = set()
        """Their files go with the last of their replicas."""
        self._followers: dict[VersionKey, set[LogFollower]] = {}

    def open(self, key: VersionKey, replica_id: str) -> ReplicaLog:
        """A log for a replica that starts."""
        self._dropped.discard(key)
        log = ReplicaLog(self._path(key, replica_id), self._followers.setdefault(key, set()), replica_id)
        self._open.setdefault(key, {})[replica_id] = log
        return log

    def close(self, key: VersionKey, replica_id: str) -> None:
        """The replica is gone. Its log stays until KEPT_GONE younger ones are gone too."""
        logs = self._open.get(key, {})
        if log := logs.pop(replica_id, None):
            log.close()
        if not logs:
            self._open.pop(key, None)
        self._forget_unused(key)
        self._clear_up(key)

    def drop(self, endpoint: str, keep: Collection[str] = ()) -> None:
        """No version of the endpoint but those to `keep` exists any more: nothing is left of what it wrote.

        The log of a replica that still ends what it has goes with it.
        """
        versions = {key.version for key in self._open if key.endpoint == endpoint}
        with contextlib.suppress(OSError):
            versions.update(folder.name for folder in (self._root / endpoint).iterdir())
        for version in versions.difference(keep):
            self._dropped.add(VersionKey(endpoint, version))
            self._clear_up(VersionKey(endpoint, version))

    def _clear_up(self, key: VersionKey) -> None:
        """Remove the logs that nobody will ask for."""
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

    async def tail(self, key: VersionKey, count: int) -> dict[str, list[str]]:
        """Replica id -> its last `count` lines, of running replicas and those that are kept."""
        live = {replica_id: list(log.ring) for replica_id, log in self._open.get(key, {}).items()}
        kept = await asyncio.to_thread(_read_tails, self._path(key, "any").parent, count)
        for replica_id, ring in live.items():
            # The ring is the better witness of the two where the disk was full.
            if len(ring) >= min(count, len(kept.get(replica_id, ()))):
                kept[replica_id] = ring[-count:] if count > 0 else []
        return kept

    async def follow(self, key: VersionKey) -> AsyncIterator[tuple[str, str]]:
        """(replica id, line) from now on."""
        follower = LogFollower()
        followers = self._followers.setdefault(key, set())
        followers.add(follower)
        try:
            while True:
                for line in await follower.get():
                    yield line
        finally:
            followers.discard(follower)
            self._forget_unused(key)

    def _forget_unused(self, key: VersionKey) -> None:
        """An open log writes to the very set that followers join, so it goes only when neither is left."""
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


def _read_tails(folder: Path, count: int) -> dict[str, list[str]]:
    tails: dict[str, list[str]] = {}
    for path in folder.glob("*.log"):
        lines: list[str] = []
        for one in (path.with_name(path.name + ".1"), path):
            with contextlib.suppress(OSError):
                lines += one.read_text(errors="replace").split("\n")[:-1]
        tails[path.stem] = lines[-count:] if count > 0 else []
    return tails
