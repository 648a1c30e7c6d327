"""The ground of every scenario: the whole product with replicas that fail on demand, and its observable state."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loadtests.faults.caller import Caller
from loadtests.installation import REPLICA, Client, Installation, manifest, overlaps

ENDPOINT = "victim"
RATE = 60.0
"""Requests a second: 40 % of the capacity of three replicas with one slot and 20 ms, so that two of them are enough."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a scenario."""

    passed: bool
    figures: str
    skipped: bool = False
    """This machine lacks a requirement; `figures` has the reason."""


def version(witness: Path | str = "", work_ms: float = 20, idle_ms: float = 0, **fields: Any) -> dict[str, Any]:
    """Three replicas with one slot each, unless said otherwise."""
    command = ["python", str(REPLICA), "--port", "{port}", "--work-ms", str(work_ms), "--idle-ms", str(idle_ms)]
    command += ["--slots", "0"]
    if witness:
        command += ["--witness", str(witness), "--begun"]
    return {"name": "blue", "replica": {"command": command}, "numReplicas": 3, "maxQueueWaitMs": 5000, **fields}


class Site:
    """A running installation with the endpoint `victim`."""

    def __init__(self, installation: Installation, client: Client, caller: Caller, witness: Path, slots: int) -> None:
        self.installation = installation
        self.client = client
        self.caller = caller
        self.witness = witness
        self._slots = slots

    def replicas(self) -> list[psutil.Process]:
        """The processes of the replicas."""
        return self._processes(str(REPLICA))

    def worker(self) -> psutil.Process:
        """The process of the router."""
        return self._processes("router-worker")[-1]

    def workers(self) -> list[int]:
        """Process ids of all routers, also of one that leaves."""
        return [process.pid for process in self._processes("router-worker")]

    def _processes(self, word: str) -> list[psutil.Process]:
        found = []
        for process in self.installation.descendants():
            with contextlib.suppress(psutil.Error):  # it ended while we looked
                if word in process.cmdline():
                    found.append(process)
        return found

    async def metrics(self) -> dict[str, float]:
        """Every series without a label, and the sum over labels of the others."""
        return await self.client.metrics()

    async def at_rest(self, within_s: float = 5.0) -> bool:
        """True once all slots are free and no request waits."""
        deadline = time.monotonic() + within_s
        while True:
            seen = await self.metrics()
            if not seen["scorefront_busy_slots"] and not seen["scorefront_waiting_requests"]:
                return not seen["scorefront_slot_violations_total"] and not seen["scorefront_double_releases_total"]
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)

    def overlapping(self) -> int:
        """Requests that ran when their replica had no slot for them, as the replicas saw it."""
        return overlaps(self.witness, self._slots)[1] if self.witness.exists() else 0

    def begun(self) -> Counter[str]:
        """Request number -> times that a replica began it."""
        path = Path(f"{self.witness}.begun")
        return Counter(line.split(" ")[0] for line in path.read_text().splitlines()) if path.exists() else Counter()

    def repeated(self) -> int:
        """Requests that were begun more than once."""
        return sum(count > 1 for count in self.begun().values())


@contextlib.asynccontextmanager
async def site(
    *arguments: str,
    environment: dict[str, str] | None = None,
    installation: type[Installation] = Installation,
    spec: dict[str, Any] | None = None,
    **how: Any,
) -> AsyncIterator[Site]:
    """Start everything; end everything. `how`: see `version`; `spec`: further fields of the endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        witness = directory / "witness"
        declared = version(witness, **how)
        with installation(directory, "--workers=1", *arguments, environment=environment) as started:
            started.start(manifest(ENDPOINT, [declared], **(spec or {})))
            async with Client(started) as client:
                key = "" if (spec or {}).get("tokenAuthEnabled") else await client.key(ENDPOINT)
                caller = Caller(started.scoring, ENDPOINT, key)
                slots = declared.get("maxConcurrentRequestsPerContainer", 1)
                try:
                    yield Site(started, client, caller, witness, slots)
                finally:
                    await caller.close()
            await asyncio.to_thread(started.stop, signal.SIGTERM)
