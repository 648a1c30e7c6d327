"""Feeds the history of the versions from scrapes of the router workers; keeps it in a file of the state directory."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster import atomic_files
from cluster.link import WorkerMetrics
from controlplane.endpoint_metrics import ScalingMetrics
from controlplane.records import DecisionRecord
from controlplane.routers import WorkerMetricsSource
from serving.clock import Clock
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from serving.usage import RecentTraffic
from telemetry.history.kept_history import DamagedHistory, from_bytes, to_bytes
from telemetry.history.loop_lags import LoopLags
from telemetry.history.metric_history import FINE_S, HistorySpan, MetricHistory, ScalingMove
from telemetry.history.point_ring import HistoryPoint, ReplicaNumbers

_log = logging.getLogger("scorefront.up")

FILE: Final = "history"
SAVE_S: Final = 60.0
"""Shortest interval of writes."""
SAVED_BYTES_PER_S: Final = 100_000
"""Mean rate of writes: a large history is written less often."""
LATE_S: Final = 0.02
"""Time of a scrape after the end of its interval, so that a timer that is early does not cost a second scrape."""


class HistoryFeed:
    """Scrapes at the end of every interval. Also the metrics source of `/metrics`."""

    def __init__(
        self,
        state_dir: Path,
        source: WorkerMetricsSource,
        measure: Callable[[], ScalingMetrics],
        clock: Clock,
        wall: Callable[[], float],
        take_moves: Callable[[], Sequence[DecisionRecord]] = tuple,
    ) -> None:
        """A feed that does not run.

        state_dir: folder of the file.
        source: scraped.
        measure: replicas of the declared versions now.
        clock: event-loop clock.
        wall: unix seconds.
        take_moves: scaling decisions that changed a number since the last call; default: none.
        """
        self._path = state_dir / FILE
        self._source = source
        self._measure = measure
        self._clock = clock
        self._wall = wall
        self._take_moves = take_moves
        self._lags = LoopLags()
        self._history = MetricHistory(wall())
        self._recording = threading.Lock()

    async def collect(self) -> Sequence[WorkerMetrics]:
        """Counts of every worker, for `/metrics`."""
        return self._lags.take(await self._source.collect())

    async def begin(self) -> None:
        """Read the file; before the router workers start. A damaged one is set aside."""
        try:
            data = await asyncio.to_thread(atomic_files.read_own, self._path)
            self._history = from_bytes(data, self._wall())
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("history: cannot read %s: %s; it starts empty", self._path, error.strerror or error)
        except DamagedHistory as error:
            try:
                aside = await asyncio.to_thread(atomic_files.set_aside, self._path)
            except OSError as failure:
                _log.warning("history: %s is damaged: %s; not renamed: %s", self._path, error, failure.strerror)
            else:
                _log.warning(
                    "history: %s is damaged: %s; renamed to %s, and starts empty", self._path, error, aside.name
                )

    async def run(self) -> None:
        """Scrape and write until cancelled."""
        due_s = self._clock.now() + SAVE_S
        while True:
            await self._clock.sleep(FINE_S - self._wall() % FINE_S + LATE_S)
            await self.scrape()
            if self._clock.now() >= due_s:
                size_bytes = await self.save()
                due_s = self._clock.now() + max(SAVE_S, size_bytes / SAVED_BYTES_PER_S)

    async def scrape(self) -> None:
        """Add a point to every version."""
        workers = await self._source.collect()
        self._lags.note(workers)
        scaling = self._measure()
        replicas = {
            key: ReplicaNumbers(states.get(ReplicaState.READY, 0), scaling.desired.get(key, 0))
            for key, states in scaling.replicas.items()
        }
        moves = [(each.decision.key, _move(each)) for each in self._take_moves()]
        # With thousands of versions it takes some tenths of a second: too long for the event loop.
        await asyncio.to_thread(self._record, self._wall(), workers, replicas, moves)

    def _record(
        self,
        now_s: float,
        workers: Sequence[WorkerMetrics],
        replicas: Mapping[VersionKey, ReplicaNumbers],
        moves: Sequence[tuple[VersionKey, ScalingMove]],
    ) -> None:
        with self._recording:
            self._history.record(now_s, workers, replicas, moves)

    def points(self, key: VersionKey, span: HistorySpan) -> list[HistoryPoint]:
        """Points of a version, oldest first."""
        with self._recording:
            return self._history.points(key, span)

    def moves(self, key: VersionKey, span: HistorySpan) -> list[ScalingMove]:
        """Changes of the number of replicas of a version, oldest first."""
        return self._history.moves_of(key, span)

    def recent(self, key: VersionKey) -> RecentTraffic | None:
        """Requests of a version over the last minute. Without the lock: half a point is whole at the next call."""
        return self._history.recent(key)

    def rates(self, key: VersionKey) -> list[float]:
        """Requests a second of a version over the last five minutes. Without the lock, as `recent`."""
        return self._history.rates(key)

    async def save(self) -> int:
        """Write the file, whole; returns its size in bytes. A failure is a warning."""
        with self._recording:  # a scrape that was cancelled may still be recorded
            data = to_bytes(self._history)
        try:
            # Not durable: a crash of the machine may cost the history, two syncs a minute would cost its disk.
            await asyncio.to_thread(atomic_files.write_atomically, self._path, data, durable=False)
        except OSError as error:
            _log.warning("history: cannot write %s: %s", self._path, error.strerror or error)
        return len(data)

    async def close(self) -> None:
        """Write the file a last time."""
        await self.save()


def _move(record: DecisionRecord) -> ScalingMove:
    return ScalingMove(record.at, record.decision.previous, record.decision.desired, record.decision.reason)
