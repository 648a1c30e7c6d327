"""Refusals that last: the next try comes later with each one, and each text is reported once. Pure."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

FIRST_S = 5.0
"""Time to the second try."""
LAST_S = 120.0
"""Longest time between two tries; the time doubles with each refusal."""

Subject = TypeVar("Subject", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last refusal of a subject."""

    error: Exception
    tries: int
    due_s: float
    """Time of the next try."""


class Refusals(Generic[Subject]):
    """The refused subjects: endpoints, or versions."""

    def __init__(self) -> None:
        self._by_subject: dict[Subject, Refusal] = {}

    def refused(self, subject: Subject, error: Exception, now: float) -> bool:
        """Record a refusal at `now`; True if its text is new. A new text starts again with short times."""
        before = self._by_subject.get(subject)
        is_new = before is None or str(before.error) != str(error)
        tries = 1 if before is None or is_new else before.tries + 1
        wait_s = min(FIRST_S * 2.0 ** min(tries - 1, 30), LAST_S)
        self._by_subject[subject] = Refusal(error, tries, now + wait_s)
        return is_new

    def is_due(self, subject: Subject, now: float) -> bool:
        """True if the subject may be tried at `now`."""
        found = self._by_subject.get(subject)
        return found is None or now >= found.due_s

    def error(self, subject: Subject) -> Exception | None:
        """The last refusal; None if there is none."""
        found = self._by_subject.get(subject)
        return found.error if found is not None else None

    def text(self, subject: Subject) -> str:
        """Text of the last refusal; "" if there is none."""
        return str(self.error(subject) or "")

    def settled(self, subject: Subject) -> None:
        """The last try succeeded, or the subject no longer exists."""
        self._by_subject.pop(subject, None)

    def subjects(self) -> tuple[Subject, ...]:
        """The refused subjects."""
        return tuple(self._by_subject)
