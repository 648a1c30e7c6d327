"""Times of log lines."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.timed_line import TimedLine, merged, stamp, timed

_times = st.integers(0, 4_000_000_000_000_000).map(lambda microseconds: microseconds / 1e6)


@given(_times, st.text())
def test_a_stamped_line_is_read_as_written(at_s: float, text: str) -> None:
    ((read_s, read),) = timed([f"{stamp(at_s)} {text}"])
    assert read == text and abs(read_s - at_s) < 2e-6


def test_a_line_without_a_stamp_has_the_time_of_the_line_before() -> None:
    lines = timed(["of an older release", "2026-01-02T03:04:05.123456789Z kubelet writes nanoseconds", "2026 no", "x"])
    assert [line.text for line in lines] == ["of an older release", "kubelet writes nanoseconds", "2026 no", "x"]
    assert lines[0].at_s == 0.0 and lines[1].at_s == lines[2].at_s == lines[3].at_s > 1.7e9


@given(st.lists(st.lists(_times), max_size=4))
def test_merged_lines_are_all_there_and_in_the_order_of_their_source(times: list[list[float]]) -> None:
    sources = [(n, [TimedLine(at, f"{n}.{i}") for i, at in enumerate(own)]) for n, own in enumerate(times)]
    lines = list(merged(sources))
    for number, own in sources:
        assert [text for source, text in lines if source == number] == [line.text for line in own]
    if all(own == sorted(own) for own in times):
        at = {line.text: line.at_s for _, own in sources for line in own}
        assert [at[text] for _, text in lines] == sorted(at.values())
