"""Bursts, refill, and the bound over every window of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.token_bucket import TokenBucket


def test_a_burst_goes_at_once_and_the_rest_in_its_turn() -> None:
    bucket = TokenBucket(per_s=50, burst=100)
    assert [bucket.take(7.0) for _ in range(100)] == [0.0] * 100
    assert bucket.take(7.0) == pytest.approx(0.02)
    assert bucket.take(7.0) == pytest.approx(0.04)


def test_a_bucket_fills_again() -> None:
    bucket = TokenBucket(per_s=50, burst=100)
    for _ in range(150):
        bucket.take(0.0)
    assert bucket.take(1.1) == 0.0
    assert [bucket.take(100.0) for _ in range(101)][-1] > 0


@given(st.lists(st.floats(0, 2), max_size=300))
def test_no_window_of_time_sees_more_writes_than_burst_and_rate_allow(gaps: list[float]) -> None:
    bucket, now, used = TokenBucket(per_s=10, burst=5), 0.0, []
    for gap in gaps:
        now += gap / 20
        used.append(now + bucket.take(now))
    for first in range(len(used)):
        for last in range(first, len(used)):
            assert last - first + 1 <= 5 + 10 * (used[last] - used[first]) + 1e-6
