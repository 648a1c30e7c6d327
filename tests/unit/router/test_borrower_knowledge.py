"""Knowledge of borrowers about the tickets of others."""

import math

from router.core.borrower_knowledge import TELL_S, BorrowerKnowledge

NOW = 100.0


def test_a_borrower_is_updated_if_it_believes_that_an_older_ticket_waits_elsewhere() -> None:
    knowledge = BorrowerKnowledge()
    knowledge.told("a", 50.0)
    assert not knowledge.needs_update("a", (1, 49.0), NOW), "its ticket is older: it needs no update"
    assert not knowledge.needs_update("a", (0, 60.0), NOW), "a retry is before all others"
    assert knowledge.needs_update("a", (1, 51.0), NOW)


def test_a_borrower_that_believes_that_none_waits_elsewhere_needs_no_update() -> None:
    knowledge = BorrowerKnowledge()
    knowledge.told("a", math.inf)
    assert not knowledge.needs_update("a", (1, 51.0), NOW)


def test_a_worker_without_slots_needs_no_update() -> None:
    knowledge = BorrowerKnowledge()
    assert not knowledge.needs_update("a", (1, 51.0), NOW)
    knowledge.told("a", 50.0)
    knowledge.drop("a")
    assert not knowledge.needs_update("a", (1, 51.0), NOW)


def test_updates_of_one_borrower_are_rare_and_do_not_delay_those_of_another() -> None:
    knowledge = BorrowerKnowledge()
    knowledge.told("a", 50.0)
    knowledge.told("b", 50.0)
    moments = [NOW + number * TELL_S / 4 for number in range(9)]
    assert [knowledge.needs_update("a", (1, 51.0), moment) for moment in moments].count(True) == 3
    assert knowledge.needs_update("b", (1, 51.0), NOW)


def test_the_unaware_are_those_that_were_told_of_no_ticket() -> None:
    knowledge = BorrowerKnowledge()
    knowledge.told("a", math.inf)
    knowledge.told("b", 50.0)
    knowledge.told("c", math.inf)
    assert knowledge.unaware() == ["a", "c"]
    knowledge.told("a", 60.0)
    knowledge.drop("c")
    assert knowledge.unaware() == []
