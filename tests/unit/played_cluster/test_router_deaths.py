"""The judgement of what the death of a router costs."""

import pytest

from tests.cluster.played.router_deaths import LATEST_S, LOST, Exchange, cost


@pytest.mark.parametrize(
    ("after_s", "took_s", "status", "passed"),
    [
        (0.1, 0.2, 200, True),
        (0.1, LATEST_S + 0.1, 200, False),
        (0.0, 0.1, LOST, True),
        (0.0, LATEST_S + 0.1, LOST, False),
        (0.1, 0.1, 503, True),
        (0.1, LATEST_S, 503, False),
        (-9.0, 0.1, 503, True),
    ],
)
def test_the_cost_of_a_death_is_judged(after_s: float, took_s: float, status: int, passed: bool) -> None:
    died_s = 100.0
    seen = Exchange(died_s + after_s, died_s + after_s + took_s, status)
    good = Exchange(died_s + 0.1, died_s + 0.2, 200)
    assert cost([seen, good], died_s).passed is passed
