"""A worker's observers, a collector and its store in one process, with virtual time."""

import errno
import itertools
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from serving.endpoint import PayloadCollection, VersionKey
from telemetry.collector import Collector, CollectorClock
from telemetry.collector_journal import payload_counts
from telemetry.collector_settings import CollectorSettings
from telemetry.payload_files import StoredPayloads
from telemetry.payload_messages import is_sampled
from telemetry.payload_observer import PayloadObserver, PayloadObservers
from telemetry.ring import LEAST_BYTES, PayloadCounts
from workspace.store.file_store import FileStore

BLUE = VersionKey("iris", "blue")
NOON = 1_800_014_400.0
"""A full hour, in unix seconds."""
DURATION_S = 0.25
"""Of each request, which begins at the time of the clock."""
_numbers = itertools.count(1)


@dataclass
class VirtualTime:
    """Clock that waits by moving on."""

    now_s: float = 0.0
    waited: int = 0

    def now(self) -> float:
        return self.now_s

    def unix_now(self) -> float:
        return NOON + self.now_s

    def clock(self) -> CollectorClock:
        return CollectorClock(self.now, self.unix_now, self._wait, threading.Event())

    def _wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.waited += 1


class FailingPayloads(StoredPayloads):
    """A store that fails on order."""

    away = False
    writes_left: int | None = None
    """Appends until it fails, as a disk that fills up."""

    def append(self, name: str, data: bytes) -> None:
        if self.away or self.writes_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.writes_left is not None:
            self.writes_left -= 1
        super().append(name, data)


@dataclass
class FakeHead:
    """Head of a request or a response."""

    content_type: str = "application/json"
    method: bytes = b"POST"
    path: bytes = b"/api/v1/service/iris/score"
    has_body: bool = True
    authorization: str = "Bearer the-secret-key"
    observed: bytes | None = None
    recorded: Any = None
    client_request_id: bytes = b""
    version_minor: int = 1
    lines: tuple[str, ...] = ()
    """Further fields."""

    @property
    def raw(self) -> bytes:
        kind = f"Content-Type: {self.content_type}\r\n" if self.content_type else ""
        more = "".join(f"{line}\r\n" for line in self.lines)
        return f"POST / HTTP/1.1\r\nAuthorization: {self.authorization}\r\n{kind}{more}\r\n".encode()

    @property
    def fields(self) -> list[tuple[bytes, bytes, bytes]]:
        return []


@dataclass
class Collecting:
    """The parts, on one machine."""

    root: Path
    collection: PayloadCollection = field(default_factory=PayloadCollection)
    settings: CollectorSettings = field(default_factory=CollectorSettings)
    ring_bytes: int = LEAST_BYTES
    key: VersionKey = BLUE
    time: VirtualTime = field(default_factory=VirtualTime)

    def __post_init__(self) -> None:
        self.rings = self.root / "rings"
        self.rings.mkdir()
        self.store = FailingPayloads(FileStore(self.root / "store"))
        self.observers = PayloadObservers(
            self.rings, "worker-1", self.ring_bytes, lambda: self.time.unix_now() + DURATION_S
        )
        made = self.observers.observer(self.key, self.collection)
        assert made is not None
        self.observer: PayloadObserver = made
        self.collector = self.new_collector()

    def new_collector(self) -> Collector:
        """A collector as after a restart."""
        collector = Collector(
            self.rings, self.store, "pod-1", self.settings, self.time.clock(), lambda: f"id-{next(_numbers)}"
        )
        collector.begin()
        return collector

    def request(
        self, body: bytes = b'{"data": [1]}', answer: bytes = b'"ok"', head: FakeHead | None = None, pieces: int = 1
    ) -> str:
        """One request; its id."""
        request_id = f"6f1ba2a4-0000-4000-8000-{next(_numbers):012x}".encode()
        head = head or FakeHead()
        if not self.observer.observes(head):
            return request_id.decode()
        if not is_sampled(request_id, self.collection.sampling):
            self.observer.sampled_out[0] += 1
        elif pieces == 1:
            self.observer.request_ended(request_id, head, body, FakeHead(), answer, 200, DURATION_S)
        else:
            capture = self.observer.begin(request_id, head)
            step = max(1, -(-len(body) // pieces))
            for start in range(0, len(body), step):
                capture.request_body(body[start : start + step])
            if answer:
                capture.response_body(answer)
            capture.request_ended(200, FakeHead(), DURATION_S)
        return request_id.decode()

    def collect(self) -> None:
        """Read the rings and write everything."""
        self.collector.step()
        self.collector.flush()

    def records(self, collection: str = "request") -> list[dict[str, Any]]:
        """Stored records."""
        lines: list[dict[str, Any]] = []
        for name in self.store.names("modelDataCollector"):
            if f"/{collection}/" in name and name.endswith(".jsonl"):
                lines += [msgspec.json.decode(line) for line in self.content(name).splitlines()]
        return lines

    def content(self, name: str) -> bytes:
        """Content of a file."""
        with self.store.open(name) as file:
            return file.read()

    def counts(self) -> PayloadCounts:
        """Counts of the version."""
        return payload_counts(self.rings).get(self.key, PayloadCounts())
