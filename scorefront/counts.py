"""What the workers of a group have said of their slots, kept for a leader who comes late. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage


class Counts:
    """By worker and version. Times are seconds on the machine's monotonic clock, which all workers share."""

    def __init__(self) -> None:
        self._known: dict[str, dict[VersionKey, tuple[float, VersionUsage]]] = {}

    def take(self, report: UsageReport) -> None:
        """A worker has reported."""
        versions = self._known.setdefault(report.worker, {})
        for usage in report.versions:
            versions[usage.key] = report.at_s, usage

    def forget(self, worker: str) -> None:
        """It has ended; an unknown one is harmless."""
        self._known.pop(worker, None)

    def keep(self, declared: Collection[VersionKey]) -> None:
        """Forget versions that are gone and of which nothing runs any more."""
        for versions in self._known.values():
            for key in [key for key, (_, usage) in versions.items() if key not in declared and not usage.busy]:
                del versions[key]

    def whole(self, worker: str, now: float) -> UsageReport:
        """Everything that the worker has told of, brought up to `now`: what is busy has been busy since."""
        return UsageReport(worker, now, tuple(self._brought_up(worker, now)))

    def _brought_up(self, worker: str, now: float) -> Iterator[VersionUsage]:
        for at_s, usage in self._known.get(worker, {}).values():
            since_s = max(0.0, now - at_s)
            yield replace(usage, busy_slot_seconds=usage.busy_slot_seconds + usage.busy * since_s)
