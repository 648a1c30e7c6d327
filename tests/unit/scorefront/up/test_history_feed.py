"""The feed of the history: scrapes, the file, and the lags of `/metrics`."""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from cluster.link import WorkerMetrics
from controlplane.endpoint_metrics import ScalingMetrics
from scorefront.up.history_feed import FILE, HistoryFeed
from serving.replica import ReplicaState
from telemetry.history.metric_history import HistorySpan
from tests.unit.telemetry.history_scrapes import KEY, version, worker

START = 1_200_000.0


class Workers:
    """Workers with counters set by the test."""

    def __init__(self) -> None:
        self.found: Sequence[WorkerMetrics] = ()

    async def collect(self) -> Sequence[WorkerMetrics]:
        return self.found


class WallOnly:
    """Time that passes in sleeps only; ends the feed after as many scrapes."""

    def __init__(self, sleeps: int = 0) -> None:
        self.now_s = START
        self.left = sleeps

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        if not self.left:
            raise TimeoutError
        self.left -= 1
        self.now_s += seconds


def feed(folder: Path, workers: Workers, clock: WallOnly) -> HistoryFeed:
    states = {KEY: {ReplicaState.READY: 3, ReplicaState.STARTING: 1}}
    return HistoryFeed(folder, workers, lambda: ScalingMetrics(states, {KEY: 4}, {}), clock, clock.now)


async def test_the_feed_scrapes_every_interval_and_writes_every_minute(tmp_path: Path) -> None:
    workers, clock = Workers(), WallOnly(sleeps=7)
    workers.found = [worker(version({200: 5}))]
    running = feed(tmp_path, workers, clock)
    with pytest.raises(TimeoutError):
        await running.run()
    points = running.points(KEY, HistorySpan.MINUTES)
    assert [point.time_s - START for point in points] == [10, 20, 30, 40, 50, 60, 70]
    assert [point.requests for point in points] == [5, 0, 0, 0, 0, 0, 0]
    assert (points[0].ready, points[0].wanted) == (3, 4)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    again = feed(tmp_path, workers, clock)
    await again.begin()
    assert len(again.points(KEY, HistorySpan.HOUR)) == 6


@pytest.mark.parametrize("content", [b"", b"no history", b"\x81\xa6format\x63"])
async def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    fresh = feed(tmp_path, Workers(), WallOnly())
    with caplog.at_level(logging.WARNING):
        await fresh.begin()
    assert "is damaged" in caplog.text
    assert (tmp_path / f"{FILE}.damaged-1").read_bytes() == content
    await fresh.scrape()
    await fresh.close()
    assert (tmp_path / FILE).exists()


async def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost = feed(tmp_path / "gone", Workers(), WallOnly())
    with caplog.at_level(logging.WARNING):
        await lost.begin()
        await lost.close()
    assert "cannot write" in caplog.text


async def test_a_scrape_for_the_history_leaves_the_longest_lag_to_the_metrics(tmp_path: Path) -> None:
    workers = Workers()
    running = feed(tmp_path, workers, WallOnly())
    for lag_s in (0.3, 0.1):
        workers.found = [msgspec.structs.replace(worker(), loop_lag_s=lag_s)]
        await running.scrape()
    workers.found = [worker()]
    assert [each.loop_lag_s for each in await running.collect()] == [0.3]
    assert [each.loop_lag_s for each in await running.collect()] == [0.0]
