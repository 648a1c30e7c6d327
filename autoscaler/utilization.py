"""Merging of usage reports: the reports of many workers in, one observation per version out.

Workers send cumulative time integrals stamped with their own clock; a mean is the difference of two integrals of one
worker over a time on the same clock. Clocks of different workers are never compared. A version that a report does not
mention has accrued busy × time since the report before.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection

from autoscaler.policy import Observation
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage

REPORT_EVERY_S = 0.2
"""Longest time between reports of a worker; a report is empty if nothing has changed."""

SILENT_AFTER_S = max(1.0, 5 * REPORT_EVERY_S)
"""Age of the last report from which on a worker counts as silent and the data as incomplete."""

HISTORY_POINTS = 128
"""Points kept per worker and version, about. The default period needs 12; for periods of minutes neighbours are merged,
which blurs the far edge of the mean by at most 1 / 64 of the period."""

SPARE_PERIODS = 2.0
"""History kept, in periods: after a late report an observation may begin a little earlier than the one before."""

ROUNDING_SLOT_SECONDS = 1e-6


class _Worker:
    """Times of the reports of one worker, on its clock and on ours."""

    __slots__ = ("at_s", "first_at_s", "heard_s")

    def __init__(self, at_s: float, heard_s: float) -> None:
        self.first_at_s = self.at_s = at_s
        self.heard_s = heard_s

    def clock(self, now: float) -> float:
        """The clock of the worker at our `now`, extrapolated from the last report."""
        return self.at_s + (now - self.heard_s)

    def tells_all(self, period_s: float, now: float) -> bool:
        """True if the worker is not silent and has been known for the whole period."""
        return now - self.heard_s <= SILENT_AFTER_S and self.clock(now) - self.first_at_s >= period_s


class _History:
    """Busy integral of one version on one worker over the time of that worker, piecewise linear."""

    __slots__ = ("_begins_at_zero", "_points", "latest")

    def __init__(self, since_s: float | None, at_s: float, usage: VersionUsage, slots: int = 0) -> None:
        """Begin with a first report at `at_s`; the report before, without this version, came at `since_s` (None: none).

        If all `slots` of the version can have accrued the count since then, the counter began at 0 at `since_s`.
        Otherwise it is older than our knowledge.
        """
        self.latest = usage
        self._points: list[tuple[float, float]] = [(at_s, usage.busy_slot_seconds)]
        self._begins_at_zero = False
        if since_s is not None:
            possible = max(slots, usage.total, usage.busy) * (at_s - since_s)
            self._begins_at_zero = usage.busy_slot_seconds <= possible + ROUNDING_SLOT_SECONDS
            if self._begins_at_zero:
                self._points.insert(0, (since_s, 0.0))

    def add(self, previous_s: float, at_s: float, usage: VersionUsage, apart_s: float) -> None:
        """Add a report; the one before it came at `previous_s`. If that did not mention the version, it was unchanged.

        `at_s`: time of the report on the worker's clock. `apart_s`: points closer together are merged.
        """
        last_s, last = self._points[-1]
        if previous_s > last_s:
            unchanged = last + self.latest.busy * (previous_s - last_s)
            self._append(previous_s, unchanged, apart_s)
        self._append(at_s, usage.busy_slot_seconds, apart_s)
        self.latest = usage

    def _append(self, at_s: float, slot_seconds: float, apart_s: float) -> None:
        points = self._points
        if len(points) > 1 and points[-1][0] - points[-2][0] < apart_s:
            points[-1] = (at_s, slot_seconds)
            return
        points.append((at_s, slot_seconds))
        if len(points) > 2 * HISTORY_POINTS:  # only where nobody observes
            self._forget_points(HISTORY_POINTS)

    def slot_seconds(self, at_s: float) -> float:
        """The integral at `at_s`; 0 is assumed before the first point."""
        points = self._points
        after = bisect_right(points, (at_s, math.inf))
        if after == len(points):
            last_s, last = points[-1]
            return last + self.latest.busy * (at_s - last_s)
        if after == 0:
            return points[0][1]
        (left_s, left), (right_s, right) = points[after - 1 : after + 1]
        return left + (right - left) * (at_s - left_s) / (right_s - left_s)

    def reaches(self, at_s: float) -> bool:
        """True if the integral at `at_s` is known, not assumed."""
        return self._begins_at_zero or self._points[0][0] <= at_s

    def forget_before(self, at_s: float) -> None:
        """Drop the points that no observation from `at_s` on needs."""
        needless = bisect_right(self._points, (at_s, math.inf)) - 1
        if needless > 0:
            self._forget_points(needless)

    def _forget_points(self, count: int) -> None:
        del self._points[:count]
        self._begins_at_zero = False


class _VersionHistories:
    """The histories of one version by worker, and the longest history asked for."""

    __slots__ = ("by_worker", "keep_s")

    def __init__(self) -> None:
        self.by_worker: dict[str, _History] = {}
        self.keep_s = 0.0


class UtilizationFeed:
    """Merges the reports of all workers. `now` is our clock at the time of the call, in seconds.

    `apply` costs time per version in the report, `observe` one search per worker that has mentioned the version.
    """

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._expected: frozenset[str] = frozenset()
        self._versions: dict[VersionKey, _VersionHistories] = {}
        self._lost_s = -math.inf
        """Time at which a worker with counts was last forgotten."""

    def expect(self, workers: Collection[str]) -> None:
        """Set the workers that must report; data is incomplete while one of them has not."""
        self._expected = frozenset(workers)

    def suspects(self, key: VersionKey) -> frozenset[str]:
        """Replicas of the version that get no request until their health path answers."""
        histories = self._versions.get(key)
        if histories is None:
            return frozenset()
        return frozenset(one for history in histories.by_worker.values() for one in history.latest.suspects)

    def apply(self, report: UsageReport, now: float) -> None:
        """Add a report received at `now`. Reports older than the last of their worker are ignored."""
        worker = self._workers.get(report.worker)
        previous_s = worker.at_s if worker else None
        if previous_s is not None and report.at_s < previous_s:
            return
        if worker is None:
            self._workers[report.worker] = _Worker(report.at_s, now)
        else:
            worker.at_s, worker.heard_s = report.at_s, now
        for usage in report.versions:
            self._apply_version(report.worker, previous_s, report.at_s, usage)

    def _apply_version(self, worker: str, previous_s: float | None, at_s: float, usage: VersionUsage) -> None:
        version = self._version(usage.key)
        history = version.by_worker.get(worker)
        if history is None or previous_s is None:
            # A worker that only borrows slots reports none of its own.
            slots = sum(other.latest.total for other in version.by_worker.values())
            version.by_worker[worker] = _History(previous_s, at_s, usage, slots)
        elif usage.busy_slot_seconds < history.slot_seconds(previous_s) - ROUNDING_SLOT_SECONDS:
            # After a reset of the counter the time before is unknown.
            version.by_worker[worker] = _History(None, at_s, usage)
        else:
            history.add(previous_s, at_s, usage, version.keep_s / HISTORY_POINTS)

    def forget_worker(self, worker: str, now: float) -> None:
        """Forget an ended worker. Its recent counts are lost, so one period from `now` is incomplete."""
        self._expected -= {worker}
        if self._workers.pop(worker, None) is None:
            return
        self._lost_s = now
        for version in self._versions.values():
            version.by_worker.pop(worker, None)

    def forget_version(self, key: VersionKey) -> None:
        """Forget a version that is not declared any more."""
        self._versions.pop(key, None)

    def observe(self, key: VersionKey, period_s: float, now: float) -> Observation:
        """The slots of a version now and over the last period. Unknown parts of the period count as idle.

        Each worker reports its own requests, and only the owner the slots, so everything is summed.
        """
        busy = waiting = total = 0
        slot_seconds = 0.0
        complete = self._complete(period_s, now)
        version = self._version(key)
        version.keep_s = max(version.keep_s, SPARE_PERIODS * period_s)
        for name, history in version.by_worker.items():
            end_s = self._workers[name].clock(now)
            start_s = end_s - period_s
            slot_seconds += history.slot_seconds(end_s) - history.slot_seconds(start_s)
            complete = complete and history.reaches(start_s)
            history.forget_before(end_s - version.keep_s)
            busy += history.latest.busy
            waiting += history.latest.waiting
            total += history.latest.total
        return Observation(slot_seconds / period_s, busy, waiting, total, complete)

    def _version(self, key: VersionKey) -> _VersionHistories:
        version = self._versions.get(key)
        if version is None:
            version = self._versions[key] = _VersionHistories()
        return version

    def _complete(self, period_s: float, now: float) -> bool:
        if not self._workers or not self._expected <= self._workers.keys():
            return False
        return now - self._lost_s >= period_s and all(
            worker.tells_all(period_s, now) for worker in self._workers.values()
        )

    def busy_by_replica(self, key: VersionKey) -> dict[str, int]:
        """Replica id -> slots in use now, over all workers; only those above 0."""
        busy: Counter[str] = Counter()
        version = self._versions.get(key)
        for history in version.by_worker.values() if version else ():
            busy.update(history.latest.busy_by_replica)
        return {replica: slots for replica, slots in busy.items() if slots}
