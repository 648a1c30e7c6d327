"""Length of backoff, and rate of writes."""

import pytest

from cluster.kubernetes.client.backoff import Backoff, BackoffSettings

ALMOST = 1 - 1e-12


def test_the_most_that_is_waited_doubles_up_to_half_a_minute() -> None:
    backoff = Backoff()
    waits = [backoff.failed(ALMOST) for _ in range(10)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])


def test_jitter_is_full() -> None:
    backoff = Backoff(failures=20)
    assert backoff.failed(0.25) == pytest.approx(7.5)


def test_even_the_unluckiest_series_of_chances_is_no_hot_loop() -> None:
    backoff = Backoff()
    assert all(backoff.failed(0.0) >= BackoffSettings().least_s for _ in range(1000))


def test_half_a_minute_of_health_forgives_all_failures() -> None:
    backoff = Backoff(failures=20)
    backoff.lasted(29.9)
    assert backoff.failures == 20
    backoff.lasted(30.0)
    assert backoff.failed(ALMOST) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("asked_s", "least_s", "most_s"), [(7.0, 7.0, 7.2), (None, 0.02, 0.2), (-5.0, 0.02, 0.2), (1e9, 120.0, 120.2)]
)
def test_retry_after_of_the_server_is_waited_with_jitter_on_top(
    asked_s: float | None, least_s: float, most_s: float
) -> None:
    assert Backoff().failed(0.0, asked_s) == pytest.approx(least_s, abs=0.021)
    assert Backoff().failed(ALMOST, asked_s) == pytest.approx(most_s)


def test_a_million_failures_overflow_nothing() -> None:
    assert Backoff(failures=10**6).failed(ALMOST) == pytest.approx(30.0)
