"""Messages to a late leader about the workers."""

from autoscaler.utilization import UtilizationFeed
from scorefront.router.usage_cache import UsageCache
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage

BLUE, GREEN = VersionKey("iris", "blue"), VersionKey("iris", "green")


def usage(key: VersionKey, busy: int, busy_slot_seconds: float = 0.0) -> VersionUsage:
    return VersionUsage(*key, busy, 4, 0, busy_slot_seconds, {"replica": busy} if busy else {})


def counts(*reports: UsageReport) -> UsageCache:
    found = UsageCache()
    for report in reports:
        found.take(report)
    return found


def test_every_version_is_reported_though_the_last_report_had_but_one() -> None:
    known = counts(
        UsageReport("w", 1.0, (usage(BLUE, 0), usage(GREEN, 0))), UsageReport("w", 2.0, (usage(BLUE, 0, 5.0),))
    )
    whole = known.whole("w")
    assert whole is not None
    assert {each.key: each.busy_slot_seconds for each in whole.versions} == {BLUE: 5.0, GREEN: 0.0}
    assert (whole.worker, whole.at_s, whole.starved) == ("w", 2.0, ())


def test_an_unchanged_busy_count_lasts_until_the_last_report() -> None:
    whole = counts(UsageReport("w", 2.0, (usage(BLUE, 3, 1.0),)), UsageReport("w", 4.5, ())).whole("w")
    assert whole is not None
    (told,) = whole.versions
    assert (told.busy, told.busy_slot_seconds) == (3, 1.0 + 3 * 2.5)


def test_a_report_under_way_during_the_snapshot_still_counts() -> None:
    known = counts(UsageReport("w", 1.0, (usage(BLUE, 1, 0.0),)))
    feed = UtilizationFeed()
    feed.expect(["w"])
    whole = known.whole("w")
    assert whole is not None
    feed.apply(whole, 1.5)
    feed.apply(UsageReport("w", 1.2, (usage(BLUE, 0, 0.2),)), 1.5)
    assert feed.observe(BLUE, 1.0, 1.6).busy == 0


def test_an_ended_or_silent_worker_is_not_reported() -> None:
    known = counts(UsageReport("w", 1.0, (usage(BLUE, 1),)))
    known.forget("w")
    known.forget("w")
    assert known.whole("w") is None


def test_versions_that_are_gone_are_forgotten_once_nothing_of_them_runs() -> None:
    known = counts(UsageReport("w", 1.0, (usage(BLUE, 1), usage(GREEN, 0))))
    known.keep(())
    whole = known.whole("w")
    assert whole is not None
    assert [each.key for each in whole.versions] == [BLUE]
