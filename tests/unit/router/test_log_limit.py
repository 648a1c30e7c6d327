import logging

import pytest

from router.log_limit import REPEAT_S, LogLimit
from tests.fakes.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def log_limit(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> LogLimit:
    caplog.set_level(logging.INFO, "scorefront.router")
    return LogLimit(clock.now)


def test_the_same_about_the_same_peer_is_said_once_a_minute(
    log_limit: LogLimit, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        log_limit.log("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"]
    clock._now += REPEAT_S
    log_limit.log("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"] * 2


def test_new_messages_and_those_about_another_peer_are_logged(
    log_limit: LogLimit, caplog: pytest.LogCaptureFixture
) -> None:
    log_limit.log("b", "refused", logging.WARNING)
    log_limit.log("c", "refused", logging.WARNING)
    log_limit.log("b", "closed", logging.INFO)
    log_limit.log("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused", "refused", "closed", "refused"]


def test_after_a_link_was_up_the_same_is_news(log_limit: LogLimit, caplog: pytest.LogCaptureFixture) -> None:
    log_limit.log("b", "refused", logging.WARNING)
    log_limit.forget("b")
    log_limit.log("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"] * 2


def test_strangers_without_end_are_not_remembered_without_end(log_limit: LogLimit) -> None:
    for number in range(10_000):
        log_limit.log(f"stranger {number}", "refused", logging.WARNING)
    assert len(log_limit._last) <= 256
