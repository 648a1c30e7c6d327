"""Declarations and observations for the tests of the local provider."""

import asyncio
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.changes import Change, Remove, Reset, Upsert
from cluster.local import process_guard as guard
from cluster.local.local_provider import LocalProvider
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Endpoint,
    LivenessProbe,
    ReplicaKind,
    ReplicaSource,
    Version,
    VersionKey,
    VersionType,
)
from serving.replica import Replica, ReplicaState

HERE = Path(__file__).parent
KEY = VersionKey("iris", "blue")
QUICK = LivenessProbe(period_s=0.2, initial_delay_s=20.0, timeout_s=0.5, failure_threshold=2)


def tiny(*behaviours: str, **env: str) -> ReplicaSource:
    """A command replica that runs the tiny server."""
    return ReplicaSource(
        ReplicaKind.COMMAND,
        command=("python", "tiny_server.py", "{port}", *behaviours),
        source_directory=str(HERE),
        env=env,
    )


def version(source: ReplicaSource | None = None, name: str = "blue", **fields: Any) -> Version:
    base = Version(
        name=name,
        share=1.0,
        is_default=True,
        type=VersionType.CONTROL,
        replica=source or tiny(),
        autoscale=AutoscalePolicy(),
        scoring_timeout_s=20.0,
        liveness=QUICK,
    )
    return replace(base, **fields)


def endpoint(*versions: Version) -> Endpoint:
    return Endpoint("iris", Auth.NONE, versions or (version(),))


class Watcher:
    """Follows a provider; `history` holds every change in order."""

    def __init__(self, provider: LocalProvider) -> None:
        self.history: list[Change] = []
        self.replicas: dict[str, Replica] = {}
        self.ever: set[str] = set()
        """Ids of all replicas there have been."""
        self._provider = provider
        self._news = asyncio.Condition()

    async def run(self) -> None:
        async for change in self._provider.watch():
            async with self._news:
                self.history.append(change)
                match change:
                    case Reset(replicas):
                        self.replicas = {replica.id: replica for replica in replicas}
                    case Upsert(replica):
                        self.replicas[replica.id] = replica
                    case Remove(replica_id):
                        del self.replicas[replica_id]
                self.ever |= self.replicas.keys()
                self._news.notify_all()

    @property
    def failures(self) -> list[Replica]:
        """The failed replicas as reported, in order; unlike their states, the reports are not over soon."""
        reported = [change.replica for change in self.history if isinstance(change, Upsert)]
        return list({one.id: one for one in reported if one.state is ReplicaState.FAILED}.values())

    def in_state(self, state: ReplicaState) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.state is state]

    @property
    def ready(self) -> list[Replica]:
        return self.in_state(ReplicaState.READY)

    def seen(self, replica_id: str) -> list[ReplicaState | None]:
        """The states a replica went through; None = removed."""
        states: list[ReplicaState | None] = []
        for change in self.history:
            if isinstance(change, Upsert) and change.replica.id == replica_id:
                states.append(change.replica.state)
            elif change == Remove(replica_id):
                states.append(None)
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]

    async def until(self, condition: Callable[[], object], within_s: float = 20.0) -> None:
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: bool(condition()))
        except TimeoutError:
            pytest.fail(f"not within {within_s} s; replicas: {list(self.replicas.values())}")

    async def until_ready(self, count: int = 1, within_s: float = 20.0) -> list[Replica]:
        await self.until(lambda: len(self.ready) == count == len(self.replicas), within_s)
        return self.ready


async def get(replica: Replica, path: str = "/") -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{replica.host}:{replica.port}{path}") as response,
    ):
        return await response.text()


def pids_with(marker: str) -> set[int]:
    """Processes that carry this text in their environment or command line."""
    wanted = marker.encode()
    found = set()
    for process in guard.processes():
        for name in ("environ", "cmdline"):
            try:
                if wanted in Path(f"/proc/{process.pid}/{name}").read_bytes():
                    found.add(process.pid)
            except OSError:
                continue
    return found


def pid_of(replica: Replica) -> int:
    """The leader of a replica's processes."""
    leaders = pids_with(f"SCOREFRONT_REPLICA={replica.id}\0") & {one.session for one in guard.processes()}
    (pid,) = leaders
    return pid


async def poll(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Poll a condition without change events."""
    give_up_at = asyncio.get_running_loop().time() + within_s
    for pause_s in itertools.repeat(0.01):
        if condition():
            return
        assert asyncio.get_running_loop().time() < give_up_at, f"not within {within_s} s"
        await asyncio.sleep(pause_s)


PYTHON = sys.executable
