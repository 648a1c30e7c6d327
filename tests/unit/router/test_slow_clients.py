"""Limits for clients that read slowly, or send on after the final response."""

from router.core.body_budget import BodyBudget
from router.proxy.lingering import LINGER_BODY_S, LINGER_BYTES, LINGER_S, Lingering
from router.proxy.slow_reader import SlowReader

MB = 1_000_000


def test_a_declared_body_is_read_to_its_end_within_a_minute() -> None:
    lingering = Lingering(5 * MB, 100.0)
    assert lingering.deadline(100.0) == 100.0 + LINGER_S
    assert lingering.discard(5 * MB - 1) and not lingering.body_read
    assert lingering.discard(1) and lingering.body_read
    assert lingering.deadline(100.0 + LINGER_BODY_S - 1) == 100.0 + LINGER_BODY_S


def test_without_a_declared_body_little_is_read_for_a_short_time() -> None:
    lingering = Lingering(0, 100.0)
    assert lingering.body_read
    assert lingering.deadline(101.9) == 100.0 + LINGER_S
    assert lingering.discard(LINGER_BYTES) and not lingering.discard(1)


def test_a_slow_reader_is_charged_for_what_is_unsent_and_no_more_than_its_limit() -> None:
    budget = BodyBudget(10 * MB)
    slow, other = SlowReader(budget, 8 * MB, 0), SlowReader(budget, 8 * MB, 0)
    assert slow.hold(8 * MB, 8 * MB) and not slow.hold(8 * MB + 1, 1)
    assert not other.hold(3 * MB, 3 * MB) and other.hold(2 * MB, 0)
    slow.release()
    assert budget.used_bytes == 2 * MB


def test_progress_is_what_the_client_received_whatever_was_added() -> None:
    slow = SlowReader(BodyBudget(10 * MB), 8 * MB, 1000)
    slow.hold(5000, 4500)
    assert slow.progressed(5000, 500)  # 1000 + 4500 were pending
    assert not slow.progressed(4501, 500)
    assert slow.progressed(4001, 500)
    assert not slow.progressed(4001, 500)
    slow = SlowReader(BodyBudget(10 * MB), 8 * MB, 100)
    assert slow.progressed(0, 500) and not slow.progressed(0, 500)
