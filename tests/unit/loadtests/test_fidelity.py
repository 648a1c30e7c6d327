"""Comparison of replicas over time."""

import pytest

from loadtests.fidelity import agreement, number_at, replica_seconds

REAL = [(-1.0, 1), (4.0, 3), (6.0, 2)]


def test_the_number_in_force_and_its_integral() -> None:
    assert [number_at(REAL, at_s) for at_s in (0.0, 3.9, 4.0, 9.0)] == [1, 1, 3, 2]
    assert replica_seconds(REAL, 10.0) == pytest.approx(4 * 1 + 2 * 3 + 4 * 2)


def test_agreement_is_the_share_of_time_within_one_replica() -> None:
    assert agreement(REAL, REAL, 10.0) == 1.0
    assert agreement(REAL, [(0.0, 1)], 10.0) == pytest.approx(0.8)
