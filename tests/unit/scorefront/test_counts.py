"""What a leader that comes late is told of the workers."""

from scorefront.counts import Counts
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage

BLUE, GREEN = VersionKey("iris", "blue"), VersionKey("iris", "green")


def usage(key: VersionKey, busy: int, busy_slot_seconds: float = 0.0) -> VersionUsage:
    return VersionUsage(*key, busy, 4, 0, busy_slot_seconds, {"replica": busy} if busy else {})


def counts(*reports: UsageReport) -> Counts:
    found = Counts()
    for report in reports:
        found.take(report)
    return found


def test_every_version_is_told_though_the_last_report_had_but_one() -> None:
    known = counts(
        UsageReport("w", 1.0, (usage(BLUE, 0), usage(GREEN, 0))), UsageReport("w", 2.0, (usage(BLUE, 0, 5.0),))
    )
    whole = known.whole("w", 10.0)
    assert {each.key: each.busy_slot_seconds for each in whole.versions} == {BLUE: 5.0, GREEN: 0.0}
    assert (whole.worker, whole.at_s, whole.starved) == ("w", 10.0, ())


def test_what_is_busy_has_been_busy_since_its_report() -> None:
    (told,) = counts(UsageReport("w", 2.0, (usage(BLUE, 3, 1.0),))).whole("w", 4.5).versions
    assert (told.busy, told.busy_slot_seconds) == (3, 1.0 + 3 * 2.5)


def test_a_report_from_a_moment_ahead_of_this_clock_is_taken_as_it_is() -> None:
    (told,) = counts(UsageReport("w", 2.0, (usage(BLUE, 3, 1.0),))).whole("w", 1.9).versions
    assert told.busy_slot_seconds == 1.0


def test_of_a_worker_that_has_ended_or_never_spoke_nothing_is_told() -> None:
    known = counts(UsageReport("w", 1.0, (usage(BLUE, 1),)))
    known.forget("w")
    known.forget("w")
    assert known.whole("w", 2.0).versions == ()


def test_versions_that_are_gone_are_forgotten_once_nothing_of_them_runs() -> None:
    known = counts(UsageReport("w", 1.0, (usage(BLUE, 1), usage(GREEN, 0))))
    known.keep(())
    assert [each.key for each in known.whole("w", 2.0).versions] == [BLUE]
