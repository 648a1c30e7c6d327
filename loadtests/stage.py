"""A whole installation with several workers and recording replicas, for the promises about slots."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests import witness
from loadtests.closedloop import Clients
from loadtests.crew import Worker, clients, crew, owner
from loadtests.http1 import post
from loadtests.installation import Client, Installation, manifest, witness_version
from serving.endpoint import VersionKey

ENDPOINT, VERSION = "crowd", "blue"
KEY = VersionKey(ENDPOINT, VERSION)
QUEUE_WAIT_MS = 10_000
SETTLE_S = 0.3
"""A replica writes its line at the end of a request, also for a killed router."""
PROBE_S = 0.1
CHANGED_S = 30.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the installation."""

    workers: int
    replicas: int = 8
    slots: int = 1
    work_ms: float = 20

    @property
    def total(self) -> int:
        """Slots of all replicas."""
        return self.replicas * self.slots


class Stage:
    """Observation and control from outside."""

    def __init__(self, shape: Shape, installation: Installation, client: Client, key: str, written: Path) -> None:
        self.shape = shape
        self.client = client
        self.written = written
        parts = urlsplit(installation.scoring)
        self.address = (parts.hostname or "", parts.port or 0)
        assert installation.process is not None
        self.up = installation.process.pid
        self._key = key
        self._path = f"/api/v1/service/{ENDPOINT}/score"

    def clients(self, count: int, think_s: float = 0.0, fresh: bool = False, work_ms: int = 0) -> Clients:
        """Not started yet. `work_ms`: of their requests; 0: as the replicas are set."""
        return Clients(self.address, post(self._path, self._key, body(work_ms)), count, think_s, fresh)

    def workers(self) -> list[Worker]:
        """Those that run."""
        return crew(self.up)

    def owner(self) -> Worker:
        """The owner of the version, while membership is stable."""
        return owner(KEY, self.workers())

    def spread(self) -> dict[str, int]:
        """Worker -> number of its clients."""
        return {each.name: len(clients(each, self.address[1])) for each in self.workers()}

    def signal(self, number: signal.Signals) -> None:
        """To `scorefront up`."""
        os.kill(self.up, number)

    async def until(self, happened: Callable[[], bool], what: str, within_s: float = CHANGED_S) -> float:
        """Seconds until it has. Raises TimeoutError that names the condition."""
        began = time.monotonic()
        while not happened():
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"{what}: not after {within_s:g} s; workers: {self.workers()}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def until_there_are(self, count: int) -> float:
        """Seconds until so many workers run. Raises TimeoutError."""
        return await self.until(lambda: len(self.workers()) == count, f"{count} workers")

    async def all_at_once(self) -> bool:
        """True if as many requests as there are slots run side by side; no other load may run."""
        probe = self.clients(self.shape.total, work_ms=int(PROBE_S * 1000))
        began = time.monotonic()
        good = await probe.once()
        # Two of them one after the other would have taken twice as long.
        return good and time.monotonic() - began < 1.8 * PROBE_S

    async def is_home(self) -> bool:
        """True if the metrics show no slot in use, no waiting request and no missing slot."""
        seen = await self.client.metrics()
        in_use = seen["scorefront_busy_slots"] + seen["scorefront_waiting_requests"]
        return not in_use and seen["scorefront_total_slots"] == self.shape.total

    async def home_within(self, within_s: float) -> float:
        """Seconds until every slot is home: counted as free, and to be had; infinite if that takes longer.

        Nobody else may send requests meanwhile.
        """
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            if await self.all_at_once():
                probed = time.monotonic() - began - PROBE_S
                while not await self.is_home():
                    if time.monotonic() - began > within_s:
                        return float("inf")
                    await asyncio.sleep(0.02)
                return probed
        return float("inf")

    async def settled(self) -> None:
        """Everything that a replica has begun has ended, and is written down."""
        await asyncio.sleep(SETTLE_S + 2 * self.shape.work_ms / 1000)

    def spans(self) -> list[witness.Span]:
        """The records of the replicas."""
        return witness.read(self.written)

    def overlaps(self) -> int:
        """Requests that began on a replica without a slot for them."""
        return witness.over(self.spans(), self.shape.slots)

    async def miscounts(self) -> int:
        """The product's own count of violations: `scorefront_slot_violations_total`."""
        seen = await self.client.metrics()
        return int(seen["scorefront_slot_violations_total"])


def body(work_ms: int) -> bytes:
    """Of a request to a replica of `loadtests/replica.py`."""
    return b'{"work_ms": %d}' % work_ms if work_ms else b"{}"


@contextlib.asynccontextmanager
async def stage(shape: Shape, environment: Mapping[str, str] | None = None, **fields: Any) -> AsyncIterator[Stage]:
    """Start everything; end everything. `fields`: of the version."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        written = directory / "witness"
        declared = witness_version(VERSION, written, shape.work_ms, shape.slots, numReplicas=shape.replicas)
        declared |= {"maxQueueWaitMs": QUEUE_WAIT_MS} | fields
        chosen = Installation(directory, "--workers", str(shape.workers), environment=dict(environment or {}))
        with chosen as installation:
            installation.start(manifest(ENDPOINT, [declared]))
            async with Client(installation) as client:
                await client.until(ENDPOINT, VERSION, 30, ready=shape.replicas)
                yield Stage(shape, installation, client, await client.key(ENDPOINT), written)
            await asyncio.to_thread(installation.stop, signal.SIGTERM)
