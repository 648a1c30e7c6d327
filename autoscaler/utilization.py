"""Many workers' usage reports in, one observation of a version out.

Each worker sends cumulative time integrals stamped with its own clock; a mean is a difference of two integrals of the
same worker, divided by a time on the same clock. Clocks of different workers never meet. Between two reports a version
that was not mentioned has accrued busy × time.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection

from autoscaler.policy import Observation
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage

REPORT_EVERY_S = 0.2
"""A worker reports at least this often, with no versions if nothing changed."""

SILENT_AFTER_S = max(1.0, 5 * REPORT_EVERY_S)
"""Without a report for longer than this a worker's counts can no longer be trusted to be all there is."""

HISTORY_POINTS = 128
"""Points kept per worker and version, about. The default period needs 12; for one of minutes neighbours are merged,
which blurs the far edge of the mean by at most 1 / 64 of the period."""

SPARE_PERIODS = 2.0
"""History kept, in periods: a look back may start a little earlier than the last one, if a report was late."""

ROUNDING_SLOT_SECONDS = 1e-6


class _Worker:
    """When one worker was heard, on its clock and on ours."""

    __slots__ = ("at_s", "first_at_s", "heard_s")

    def __init__(self, at_s: float, heard_s: float) -> None:
        self.first_at_s = self.at_s = at_s
        self.heard_s = heard_s

    def clock(self, now: float) -> float:
        """Its clock at our `now`, as far as the last report tells."""
        return self.at_s + (now - self.heard_s)

    def tells_all(self, period_s: float, now: float) -> bool:
        """Heard lately, and known since before the period began."""
        return now - self.heard_s <= SILENT_AFTER_S and self.clock(now) - self.first_at_s >= period_s


class _History:
    """The busy integral of one version on one worker, over that worker's time: straight lines between points."""

    __slots__ = ("_begins_at_zero", "_points", "latest")

    def __init__(self, since_s: float | None, at_s: float, usage: VersionUsage, slots: int = 0) -> None:
        """First heard of at `at_s`. `since_s`: the report before, which did not mention it; None if there was none.

        If the counter can have got this far since then, with all `slots` of the version, it began at 0 there.
        Otherwise it is older than what we know.
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
        """The report before this one came at `previous_s`; if it did not mention this version, nothing had changed yet.

        Points closer together than `apart_s` are merged.
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
        """The integral at that time; what came before the first point counts as nothing."""
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
        """The integral at that time is known, not assumed."""
        return self._begins_at_zero or self._points[0][0] <= at_s

    def forget_before(self, at_s: float) -> None:
        """Drop what no look back needs that starts at `at_s` or later."""
        needless = bisect_right(self._points, (at_s, math.inf)) - 1
        if needless > 0:
            self._forget_points(needless)

    def _forget_points(self, count: int) -> None:
        del self._points[:count]
        self._begins_at_zero = False


class _VersionHistories:
    """What every worker has said of one version, and the longest look back that was asked for."""

    __slots__ = ("by_worker", "keep_s")

    def __init__(self) -> None:
        self.by_worker: dict[str, _History] = {}
        self.keep_s = 0.0


class UtilizationFeed:
    """Merges the reports of all workers. `now` is always our clock at the moment of the call, in seconds.

    `apply` costs only for the versions in the report, `observe` one search per worker that ever mentioned the version.
    """

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._expected: frozenset[str] = frozenset()
        self._versions: dict[VersionKey, _VersionHistories] = {}
        self._lost_s = -math.inf
        """When a worker that had counts was last forgotten."""

    def expect(self, workers: Collection[str]) -> None:
        """These workers should report; as long as one of them has not, nothing is complete."""
        self._expected = frozenset(workers)

    def apply(self, report: UsageReport, now: float) -> None:
        """Take over a report received at `now`. One that is older than the last of its worker is ignored."""
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
            # A worker that only borrows slots has none of its own to tell of.
            slots = sum(other.latest.total for other in version.by_worker.values())
            version.by_worker[worker] = _History(previous_s, at_s, usage, slots)
        elif usage.busy_slot_seconds < history.slot_seconds(previous_s) - ROUNDING_SLOT_SECONDS:
            # A counter that began anew says nothing of what was before.
            version.by_worker[worker] = _History(None, at_s, usage)
        else:
            history.add(previous_s, at_s, usage, version.keep_s / HISTORY_POINTS)

    def forget_worker(self, worker: str, now: float) -> None:
        """It has ended. What it served lately is lost, so one period from now on is incomplete."""
        self._expected -= {worker}
        if self._workers.pop(worker, None) is None:
            return
        self._lost_s = now
        for version in self._versions.values():
            version.by_worker.pop(worker, None)

    def forget_version(self, key: VersionKey) -> None:
        """It is declared no more: keep nothing of it."""
        self._versions.pop(key, None)

    def observe(self, key: VersionKey, period_s: float, now: float) -> Observation:
        """The version now and over the last period. A part of the period that is not known counts as idle.

        Every worker tells of its own requests, the owner of the slots alone of the slots: so everything is summed.
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
