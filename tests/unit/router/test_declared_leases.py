"""The declarations of a peer in a newer view are kept and applied together later."""

from router.core.declared_leases import DeclaredLeases, PeerAsk
from router.core.slot_messages import Ask, Declare, Failed, Forget, Holding, Return
from tests.unit.router.workers import BLUE


def account() -> DeclaredLeases:
    holding = Holding(BLUE, ((1, "r"), (2, "s")), (Ask(BLUE, 7, 0.5), Ask(BLUE, 8, 0.25, True)), ("t",))
    return DeclaredLeases(Declare(3, (holding,)), 100.0)


def test_a_declaration_is_taken_over_with_arrivals_on_the_clock_of_the_receiver() -> None:
    told = account()
    assert told.epoch == 3 and list(told.versions()) == [BLUE]
    assert told.leases[BLUE] == {1: "r", 2: "s"} and told.retired[BLUE] == ("t",)
    assert told.asks[BLUE] == {7: PeerAsk(99.5, False), 8: PeerAsk(99.75, True)}


def test_a_later_message_changes_the_declared_leases() -> None:
    told = account()
    for message in (Ask(BLUE, 9, 1.0), Forget((7, 1234)), Return((2, 1234)), Failed(BLUE, "r", "broken")):
        told.update(message, 101.0)
    assert told.leases[BLUE] == {1: "r"}
    assert told.asks[BLUE] == {8: PeerAsk(99.75, True), 9: PeerAsk(100.0, False)}


def test_a_version_without_declared_leases_may_be_asked_for_later() -> None:
    told = DeclaredLeases(Declare(3, ()), 100.0)
    told.update(Ask(BLUE, 1, 0.0), 100.0)
    assert list(told.versions()) == [BLUE]
