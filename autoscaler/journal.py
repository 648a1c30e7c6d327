"""Which decisions are worth a record: those that change something, and those that explain why nothing changes."""

from autoscaler.frontend_policy import FrontEndDecision
from autoscaler.policy import Decision, Direction

SAME_RULE_EVERY_S = 60.0
"""A load that wavers around a limit changes its rule every second; a record of each would bury the ones that matter."""


class Journal:
    """Remembers of one version, or of the front end, what is on record."""

    __slots__ = ("_held_s", "_rule")

    def __init__(self) -> None:
        self._rule = ""
        self._held_s: dict[str, float] = {}
        """Rule -> when a HOLD by it was last recorded since the number last changed."""

    def wants(self, decision: Decision | FrontEndDecision) -> bool:
        """True if this decision is to be recorded; it then counts as recorded.

        Every change is, and a HOLD whose rule differs from the last record's, once in `SAME_RULE_EVERY_S` per rule.
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
