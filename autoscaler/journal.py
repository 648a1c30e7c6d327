"""Selection of the decisions that become decision records: changes, and new reasons for no change."""

from autoscaler.frontend_policy import FrontEndDecision
from autoscaler.policy import Decision, Direction

SAME_RULE_EVERY_S = 60.0
"""Least time between records of HOLD by the same rule: a load near a limit changes its rule every second."""


class Journal:
    """The recorded decisions of one version, or of the front end, as far as needed to judge the next."""

    __slots__ = ("_held_s", "_rule")

    def __init__(self) -> None:
        self._rule = ""
        self._held_s: dict[str, float] = {}
        """Rule -> time of its last recorded HOLD since the number last changed."""

    def wants(self, decision: Decision | FrontEndDecision) -> bool:
        """True if this decision is to be recorded; it then counts as recorded.

        Every change is. A HOLD is if its rule differs from the last record's, once in `SAME_RULE_EVERY_S` per rule.
        """
        if decision.direction is not Direction.HOLD:
            self._rule = decision.rule
            self._held_s.clear()
            return True
        held_s = self._held_s.get(decision.rule)
        if decision.rule == self._rule or (held_s is not None and decision.at_s - held_s < SAME_RULE_EVERY_S):
            return False
        self._rule = decision.rule
        self._held_s[decision.rule] = decision.at_s
        return True
