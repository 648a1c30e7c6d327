"""The usage of each worker, kept for a later leader. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage


class UsageCache:
    """Usage by worker and version. Times: seconds on the monotonic clock of the machine."""

    def __init__(self) -> None:
        self._known: dict[str, dict[VersionKey, tuple[float, VersionUsage]]] = {}
        self._reported_at_s: dict[str, float] = {}

    def take(self, report: UsageReport) -> None:
        """Take in a report."""
        self._reported_at_s[report.worker] = report.at_s
        versions = self._known.setdefault(report.worker, {})
        for usage in report.versions:
            versions[usage.key] = report.at_s, usage

    def forget(self, worker: str) -> None:
        """Forget an ended worker; harmless for an unknown one."""
        self._known.pop(worker, None)
        self._reported_at_s.pop(worker, None)

    def keep(self, declared: Collection[VersionKey]) -> None:
        """Forget removed versions without requests in flight."""
        for versions in self._known.values():
            for key in [key for key, (_, usage) in versions.items() if key not in declared and not usage.busy]:
                del versions[key]

    def whole(self, worker: str) -> UsageReport | None:
        """All usage of a worker as of its last report, with integrals carried forward to it; None before a report.

        Not as of a later time: a report on its way would then count as outdated and be ignored.
        """
        reported_at_s = self._reported_at_s.get(worker)
        if reported_at_s is None:
            return None
        return UsageReport(worker, reported_at_s, tuple(self._brought_up(worker, reported_at_s)))

    def _brought_up(self, worker: str, reported_at_s: float) -> Iterator[VersionUsage]:
        for at_s, usage in self._known[worker].values():
            yield replace(usage, busy_slot_seconds=usage.busy_slot_seconds + usage.busy * (reported_at_s - at_s))
