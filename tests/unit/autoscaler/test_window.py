"""The highest value in force during a look back."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.window import PeakWindow

STEPS_S = st.sampled_from([0.0, 0.0, 0.25, 1.0, 7.5, 30.0])
HISTORIES = st.lists(st.tuples(STEPS_S, st.integers(0, 12)), min_size=1, max_size=60)


def peak_by_definition(added: list[tuple[float, int]], length_s: float, now: float) -> int:
    """Look at every value: in force from its own time until that of the next one, the last one still."""
    ends = [at_s for at_s, _ in added[1:]]
    earlier = [value for (_, value), end_s in zip(added, ends, strict=False) if end_s > now - length_s]
    return max([*earlier, added[-1][1]])


@given(HISTORIES, st.sampled_from([0.0, 1.0, 10.0, 60.0]))
def test_the_peak_is_that_of_the_definition(history: list[tuple[float, int]], length_s: float) -> None:
    window, added, now = PeakWindow(), [], 1000.0
    for step_s, value in history:
        now += step_s
        window.add(value, now)
        added.append((now, value))
        whole = now - added[0][0] >= length_s
        assert window.peak(length_s, now) == (peak_by_definition(added, length_s, now) if whole else None)


@given(HISTORIES, st.lists(st.sampled_from([0.0, 1.0, 10.0, 60.0]), min_size=60, max_size=60))
def test_a_look_back_of_changing_length_is_right_or_not_yet_known(
    history: list[tuple[float, int]], lengths_s: list[float]
) -> None:
    window, added, now, longest_start_s = PeakWindow(), [], 1000.0, -float("inf")
    for (step_s, value), length_s in zip(history, lengths_s, strict=False):
        now += step_s
        window.add(value, now)
        added.append((now, value))
        peak = window.peak(length_s, now)
        assert peak in (None, peak_by_definition(added, length_s, now))
        longest_start_s = max(longest_start_s, now - length_s)
        if now - length_s >= max(added[0][0], longest_start_s):
            assert peak is not None


def test_a_value_leaves_one_window_after_the_next_one_came() -> None:
    window = PeakWindow()
    window.add(5, 0.0)
    window.add(1, 10.0)
    assert window.peak(60.0, 69.9) == 5
    assert window.peak(60.0, 70.0) == 1


def test_a_value_stays_in_force_however_long_none_follows() -> None:
    window = PeakWindow()
    window.add(5, 0.0)
    assert window.peak(60.0, 10_000.0) == 5


def test_nothing_is_known_before_the_first_value_nor_for_longer_than_since_then() -> None:
    window = PeakWindow()
    assert window.peak(0.0, 5.0) is None and window.known_s(5.0) == 0.0
    window.add(3, 5.0)
    assert window.peak(60.0, 64.0) is None and window.known_s(64.0) == 59.0
    assert window.peak(60.0, 65.0) == 3


def test_values_at_the_same_instant_all_count_until_time_moves_on() -> None:
    window = PeakWindow()
    for value in (2, 9, 4):
        window.add(value, 1.0)
    assert window.peak(0.5, 1.5) == 4
    window = PeakWindow()
    window.add(1, 0.0)
    for value in (2, 9, 4):
        window.add(value, 1.0)
    assert window.peak(0.5, 1.0) == 9


@given(st.lists(st.integers(0, 12), max_size=500))
def test_no_more_is_kept_than_there_are_distinct_values(values: list[int]) -> None:
    window = PeakWindow()
    for now, value in enumerate(values):
        window.add(value, float(now))
    assert len(window._peaks) <= len(set(values))
