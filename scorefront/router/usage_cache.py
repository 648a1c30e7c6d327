"""What the workers of a group have said of their slots, kept for a leader who comes late. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage


class UsageCache:
    """By worker and version. Times are seconds on the machine's monotonic clock, which all workers share."""

    def __init__(self) -> None:
        self._known: dict[str, dict[VersionKey, tuple[float, VersionUsage]]] = {}
        self._reported_at_s: dict[str, float] = {}

    def take(self, report: UsageReport) -> None:
        """A worker has reported."""
        self._reported_at_s[report.worker] = report.at_s
        versions = self._known.setdefault(report.worker, {})
        for usage in report.versions:
            versions[usage.key] = report.at_s, usage

    def forget(self, worker: str) -> None:
        """It has ended; an unknown one is harmless."""
        self._known.pop(worker, None)
        self._reported_at_s.pop(worker, None)

    def keep(self, declared: Collection[VersionKey]) -> None:
        """Forget versions that are gone and of which nothing runs any more."""
        for versions in self._known.values():
            for key in [key for key, (_, usage) in versions.items() if key not in declared and not usage.busy]:
                del versions[key]

    def whole(self, worker: str) -> UsageReport | None:
        """Everything that the worker has told of, as of its last report: what was busy then had been busy since.

        None where it has not reported. Of a later moment it must not be: a report that is under way would be taken for
        an old one and ignored, and nobody would hear that what it tells has ended.
        """
        reported_at_s = self._reported_at_s.get(worker)
        if reported_at_s is None:
            return None
        return UsageReport(worker, reported_at_s, tuple(self._brought_up(worker, reported_at_s)))

    def _brought_up(self, worker: str, reported_at_s: float) -> Iterator[VersionUsage]:
        for at_s, usage in self._known[worker].values():
            yield replace(usage, busy_slot_seconds=usage.busy_slot_seconds + usage.busy * (reported_at_s - at_s))
