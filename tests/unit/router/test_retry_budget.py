"""Retries of requests that a replica may have begun: a reserve, then a tenth of the requests."""

from router.core.retry_budget import RESERVE, SHARE, RetryBudget


def test_a_version_with_few_requests_has_the_reserve() -> None:
    budget = RetryBudget()
    assert [budget.take(0) for _ in range(int(RESERVE) + 1)] == [True] * int(RESERVE) + [False]


def test_failing_requests_are_sent_again_for_a_share_of_them_only() -> None:
    budget = RetryBudget()
    retries = sum(budget.take(ended) for ended in range(1000) for _ in range(2))
    assert retries <= RESERVE + SHARE * 1000 + 1


def test_the_reserve_is_saved_again_but_not_more() -> None:
    budget = RetryBudget()
    while budget.take(0):
        pass
    assert [budget.take(1_000_000) for _ in range(int(RESERVE) + 1)].count(True) == int(RESERVE)


def test_counters_that_start_again_take_nothing_away() -> None:
    budget = RetryBudget()
    assert budget.take(1000)
    assert budget.take(0)
