"""The network of the simulation: its faults, and the reaction of sessions."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random

from router.core.slot_messages import PeerMessage, Ping
from tests.sim.clock import Clock
from tests.sim.network import Network
from tests.sim.scenario import draw

SCENARIO = replace(draw(0), link_s=0.001, loss=0.05, duplication=0.05, reordering=0.05, encoded=True)


class Speaker:
    """One end that sends numbers and records the received ones, session by session."""

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.heard: list[list[int]] = []
        self.ups = self.downs = 0
        network.ends[name] = self
        self._network = network

    def do(self, action: Callable[..., object], *args: object) -> None:
        action(*args)

    def knows(self, peer: str) -> bool:
        return True

    def link_up(self, peer: str) -> None:
        self.ups += 1
        self.heard.append([])

    def link_down(self, peer: str) -> None:
        self.downs += 1

    def receive(self, peer: str, message: PeerMessage) -> None:
        assert isinstance(message, Ping)
        self.heard[-1].append(message.number)

    def say(self, peer: str, number: int) -> None:
        self._network.send(self.name, [(peer, Ping(number))])


def pair() -> tuple[Clock, Network, Speaker, Speaker]:
    clock = Clock()
    network = Network(clock, Random(1), SCENARIO)
    one, other = Speaker("a", network), Speaker("b", network)
    network.meet("a")
    clock.run_until(1.0)
    return clock, network, one, other


def test_without_faults_everything_arrives_once_and_in_order() -> None:
    clock, _, one, other = pair()
    for number in range(500):
        clock.after(number * 0.0001, one.say, "b", number)
    clock.run_until(2.0)
    assert other.heard == [list(range(500))]
    assert (one.ups, one.downs, other.ups, other.downs) == (1, 0, 1, 0)


def test_within_a_session_nothing_is_missing_doubled_or_out_of_order_over_any_channel() -> None:
    clock, network, one, other = pair()
    network.faulty = True
    for number in range(3000):
        clock.after(number * 0.001, one.say, "b", number)
    clock.run_until(6.0)
    assert network.duplicates and network.broken_sessions and len(other.heard) > 10
    sessions = [numbers for numbers in other.heard if numbers]
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in sessions)
    assert all(before[-1] < after[0] for before, after in pairwise(sessions))


def test_a_cut_link_is_a_new_session_after_it_heals_and_both_ends_know() -> None:
    clock, network, one, other = pair()
    network.way("a", "b").cut = True
    one.say("b", 1)
    clock.run_until(2.0)
    assert network.is_up("a", "b")
    network.way("a", "b").cut = False
    one.say("b", 2)
    clock.run_until(3.0)
    assert (one.ups, one.downs, other.ups, other.downs) == (2, 1, 2, 1)
    one.say("b", 3)
    clock.run_until(4.0)
    assert other.heard[-1] == [3]


def test_a_stalled_link_delivers_late_and_in_order() -> None:
    clock, network, one, other = pair()
    network.way("a", "b").stalled = True
    for number in range(5):
        one.say("b", number)
    clock.run_until(2.0)
    assert other.heard == [[]]
    network.release("a", "b")
    clock.run_until(3.0)
    assert other.heard == [[0, 1, 2, 3, 4]]


def test_the_end_of_a_process_is_heard_by_its_peers() -> None:
    clock, network, _, other = pair()
    network.leave("a")
    clock.run_until(2.0)
    assert other.downs == 1
