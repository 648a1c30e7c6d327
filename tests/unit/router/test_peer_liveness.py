"""Failure detection between workers: validity by answered pings, silence by messages, probes for queued asks."""

import pytest

from router.core.peer_liveness import PeerLiveness
from router.core.slot_messages import PeerMessage, Ping
from router.core.timers import Timers

LEASE_S = 8.0
"""Silence after 1 s, probes every 0.25 s."""


class Watch:
    """A liveness of the peers a and b from the time 0.5, with the pings it sends."""

    def __init__(self, lease_s: float = LEASE_S, peers: tuple[str, ...] = ("a", "b")) -> None:
        self.timers = Timers()
        self.sent: list[tuple[str, PeerMessage]] = []
        self.asks: list[tuple[str, int]] = []
        self.liveness = PeerLiveness(
            lease_s, self.timers, lambda to, message: self.sent.append((to, message)), self.asks
        )
        self.liveness.set_peers(peers, 0.5)

    def pinged(self) -> list[str]:
        """Peers pinged since the last call."""
        peers = [peer for peer, _ in self.sent]
        self.sent.clear()
        return peers


@pytest.fixture
def watch() -> Watch:
    return Watch()


# ---- validity


def test_a_new_peer_is_pinged_and_not_valid_before_its_answer(watch: Watch) -> None:
    assert watch.sent == [("a", Ping(1)), ("b", Ping(1))]
    assert not watch.liveness.is_valid("a", 0.5)


def test_an_answer_is_valid_for_a_lease_from_the_sending_of_its_ping(watch: Watch) -> None:
    assert watch.liveness.answered("a", 1, 3.0)
    assert watch.liveness.is_valid("a", 0.5 + LEASE_S)
    assert not watch.liveness.is_valid("a", 0.5 + LEASE_S + 0.001)
    assert not watch.liveness.is_valid("b", 3.0)


def test_a_short_lease_is_not_extended() -> None:
    watch = Watch(lease_s=0.25)
    watch.liveness.answered("a", 1, 0.6)
    assert watch.liveness.is_valid("a", 0.75) and not watch.liveness.is_valid("a", 0.76)


def test_a_late_answer_to_an_older_ping_does_not_shorten_the_validity(watch: Watch) -> None:
    watch.liveness.ping(("a",), 2.0)
    watch.liveness.answered("a", 2, 2.1)
    watch.liveness.answered("a", 1, 2.2)
    assert watch.liveness.is_valid("a", 2.0 + LEASE_S)


def test_an_answer_to_an_unknown_ping_or_of_an_unknown_peer_counts_for_nothing(watch: Watch) -> None:
    assert not watch.liveness.answered("a", 77, 1.0)
    assert not watch.liveness.answered("stranger", 1, 1.0)


def test_an_answer_to_an_older_ping_of_the_last_lease_counts(watch: Watch) -> None:
    watch.liveness.ping((), 2.0)
    assert watch.liveness.answered("a", 1, 2.1)


def test_an_answer_to_a_ping_older_than_a_lease_counts_for_nothing(watch: Watch) -> None:
    watch.liveness.ping(("a",), 0.5 + LEASE_S + 0.001)
    assert not watch.liveness.answered("a", 1, 0.5 + LEASE_S + 0.002)


def test_an_expired_validity_is_reported_once_with_its_end_and_again_after_another_answer(watch: Watch) -> None:
    liveness = watch.liveness
    liveness.answered("a", 1, 1.0)
    assert list(liveness.newly_expired(0.5)) == [("b", -1.0)]
    assert list(liveness.newly_expired(0.5 + LEASE_S)) == []
    assert list(liveness.newly_expired(9.0)) == [("a", 0.5 + LEASE_S)]
    assert list(liveness.newly_expired(9.5)) == []
    liveness.ping(("a",), 10.0)
    liveness.answered("a", 2, 10.1)
    assert list(liveness.newly_expired(10.0 + LEASE_S + 0.1)) == [("a", 10.0 + LEASE_S)]


def test_a_peer_that_leaves_and_returns_is_pinged_and_not_valid(watch: Watch) -> None:
    watch.liveness.answered("a", 1, 1.0)
    watch.liveness.answered("b", 1, 1.0)
    watch.liveness.set_peers(("b",), 2.0)
    assert list(watch.liveness.last_heard) == ["b"]
    watch.pinged()
    watch.liveness.set_peers(("a", "b"), 3.0)
    assert watch.pinged() == ["a"] and not watch.liveness.is_valid("a", 3.0)
    assert watch.liveness.last_heard == {"a": 3.0, "b": 0.5}


# ---- silence


def test_a_peer_is_responsive_for_an_eighth_of_a_lease_after_its_last_message(watch: Watch) -> None:
    watch.liveness.last_heard["a"] = 2.0
    assert watch.liveness.is_responsive("a", 3.0)
    assert not watch.liveness.is_responsive("a", 3.001)


def test_an_unknown_peer_counts_as_heard_now(watch: Watch) -> None:
    assert watch.liveness.is_responsive("stranger", 100.0)


def test_an_unresponsive_peer_is_pinged_once_and_noted_as_skipped(watch: Watch) -> None:
    watch.pinged()
    assert not watch.liveness.is_responsive("a", 5.0) and not watch.liveness.is_responsive("a", 5.1)
    assert watch.pinged() == ["a"] and watch.liveness.skipped == {"a"}


def test_a_peer_is_silent_after_a_lease_without_a_message(watch: Watch) -> None:
    watch.liveness.last_heard["b"] = 5.0
    assert watch.liveness.silent(0.5) == watch.liveness.silent(0.5 + LEASE_S) == []
    assert watch.liveness.silent(0.5 + LEASE_S + 0.001) == ["a"]


@pytest.mark.parametrize(("now", "heard"), [(1.0, 0.5), (2.0, 0.5), (2.25, 1.75), (9.0, 8.5)])
def test_a_pause_of_this_worker_beyond_a_ping_interval_is_no_silence_of_its_peers(now: float, heard: float) -> None:
    watch = Watch(lease_s=3.0, peers=("a",))
    watch.pinged()
    watch.liveness.last_heard["a"] += 10.0
    watch.liveness.ping_round(10.0, now + 10.0)
    assert watch.liveness.last_heard == {"a": heard + 10.0} and watch.pinged() == ["a"]


def test_a_pause_does_not_move_the_last_message_into_the_future() -> None:
    watch = Watch(lease_s=3.0, peers=("a",))
    watch.liveness.last_heard["a"] = 8.0
    watch.liveness.ping_round(0.0, 9.0)
    assert watch.liveness.last_heard == {"a": 9.0}


# ---- probes


def test_probing_runs_every_32nd_of_a_lease_while_asks_are_queued(watch: Watch) -> None:
    watch.asks.append(("a", 1))
    watch.liveness.start_probing(1.0)
    watch.liveness.start_probing(1.1)
    assert watch.timers.next() == 1.25
    watch.timers.run(1.25)
    assert watch.timers.next() == 1.5
    watch.asks.clear()
    watch.timers.run(1.5)
    assert watch.timers.next() is None
    watch.liveness.start_probing(2.0)
    assert watch.timers.next() == 2.25


def test_a_probe_pings_each_peer_with_queued_asks_that_was_quiet_for_its_interval(watch: Watch) -> None:
    watch.liveness.set_peers(("a", "b", "c"), 0.5)
    watch.liveness.last_heard.update(a=0.75, b=0.76, c=0.0)
    watch.asks += [("a", 1), ("a", 2), ("b", 3), ("stranger", 4)]
    watch.pinged()
    watch.liveness.start_probing(0.75)
    watch.timers.run(1.0)
    assert watch.pinged() == ["a"]
