"""Ends of streamed responses: the longest gap, and the longest whole response."""

import pytest

from router.proxy.stream_deadlines import stream_deadline


@pytest.mark.parametrize(
    ("began_at", "piece_at", "idle_s", "due"),
    [(0.0, 10.0, 5.0, 15.0), (0.0, 3598.0, 5.0, 3600.0), (100.0, 100.0, 3600.0, 3700.0), (0.0, 0.0, 0.5, 0.5)],
)
def test_a_stream_ends_after_its_longest_gap_or_an_hour(
    began_at: float, piece_at: float, idle_s: float, due: float
) -> None:
    assert stream_deadline(began_at, piece_at, idle_s) == due
