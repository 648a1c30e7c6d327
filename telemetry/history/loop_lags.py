"""Event-loop lags of router workers between two scrapes of `/metrics`. Pure."""

from collections.abc import Sequence

import msgspec

from cluster.link import WorkerMetrics


class LoopLags:
    """Longest lag by worker: every scrape resets it in the worker, also one for the history."""

    def __init__(self) -> None:
        self._longest_s: dict[str, float] = {}

    def note(self, workers: Sequence[WorkerMetrics]) -> None:
        """Keep the lags of a scrape for the history."""
        self._longest_s = {
            worker.worker: max(self._longest_s.get(worker.worker, 0.0), worker.loop_lag_s) for worker in workers
        }

    def take(self, workers: Sequence[WorkerMetrics]) -> list[WorkerMetrics]:
        """A scrape of `/metrics` with the longest lags since the one before."""
        kept, self._longest_s = self._longest_s, {}
        return [
            msgspec.structs.replace(worker, loop_lag_s=max(worker.loop_lag_s, kept.get(worker.worker, 0.0)))
            for worker in workers
        ]
