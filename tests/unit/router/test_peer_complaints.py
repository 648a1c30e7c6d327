import logging

import pytest

from router.peers.log_limit import REPEAT_S, PeerLogLimit
from tests.fakes.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def complaints(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> PeerLogLimit:
    caplog.set_level(logging.INFO, "scorefront.router")
    return PeerLogLimit(clock.now)


def test_the_same_about_the_same_peer_is_said_once_a_minute(
    complaints: PeerLogLimit, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        complaints.say("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"]
    clock._now += REPEAT_S
    complaints.say("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"] * 2


def test_what_is_new_or_about_another_peer_is_said(complaints: PeerLogLimit, caplog: pytest.LogCaptureFixture) -> None:
    complaints.say("b", "refused", logging.WARNING)
    complaints.say("c", "refused", logging.WARNING)
    complaints.say("b", "closed", logging.INFO)
    complaints.say("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused", "refused", "closed", "refused"]


def test_after_a_link_was_up_the_same_is_news(complaints: PeerLogLimit, caplog: pytest.LogCaptureFixture) -> None:
    complaints.say("b", "refused", logging.WARNING)
    complaints.forget("b")
    complaints.say("b", "refused", logging.WARNING)
    assert caplog.messages == ["refused"] * 2


def test_strangers_without_end_are_not_remembered_without_end(complaints: PeerLogLimit) -> None:
    for number in range(10_000):
        complaints.say(f"stranger {number}", "refused", logging.WARNING)
    assert len(complaints._said) <= 256
