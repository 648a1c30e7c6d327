"""Sentences about a comparison."""

from telemetry.comparison import ArmTally, compare
from telemetry.comparison_words import comparison_words


def words(control: ArmTally, treatment: ArmTally, intervals: int = 100) -> str:
    return comparison_words("blue", "green", compare([(control, treatment)] * intervals, 86_400), 0.95)


def test_a_worse_treatment_is_named_with_difference_and_interval() -> None:
    text = words(ArmTally(100, 2, 5.0, 0.5), ArmTally(100, 8, 6.0, 0.72))
    assert text.startswith("green fails more often than blue: 8 % of its requests against 2 %, 6.00 percentage points")
    assert "with 95 % confidence the true difference is between +4." in text
    durations = "On average it takes 10.0 ms longer (60.0 ms against 50.0 ms)"
    assert text.endswith(f"{durations}; the true difference is between +7.4 and +12.6 ms.")


def test_a_better_treatment_is_named_with_a_negative_interval() -> None:
    text = words(ArmTally(100, 8, 6.0, 0.72), ArmTally(100, 2, 5.0, 0.5))
    assert "fails less often than blue" in text and "between −" in text and "10.0 ms less" in text


def test_an_undecided_one_promises_nothing() -> None:
    text = words(ArmTally(20, 1, 1.0), ArmTally(20, 1, 1.0), intervals=1)
    assert text.startswith("No difference yet between green and blue") and "More requests narrow" in text
    assert text.endswith(
        "Both take equally long on average (50.0 ms against 50.0 ms); there are too few requests for an interval."
    )


def test_durations_that_may_not_differ_say_so() -> None:
    text = words(ArmTally(100, 2, 5.0, 2.5), ArmTally(100, 2, 5.1, 2.6), intervals=10)
    assert "1.0 ms longer (51.0 ms against 50.0 ms); the true difference is between −" in text
    assert text.endswith("ms, so it may be none.")


def test_without_common_requests_there_is_nothing_to_compare() -> None:
    text = comparison_words("blue", "green", compare([], 3600), 0.998)
    assert text == "Nothing to compare yet: blue and green had no requests in the same interval."
