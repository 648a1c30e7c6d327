"""How groups of workers agree on who takes part: each says its part, and one history of views comes of all. Pure.

With one supervisor the views are its own (`SoleGroup`). With several, a shared store that orders the parts of all
groups implements `Membership` and numbers the views.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from router.core.view import Departed, Member, View


@dataclass(frozen=True, slots=True)
class MembershipPart:
    """What one group says of itself. A member that is in none of its parts any more has ended."""

    members: tuple[Member, ...] = ()
    departed: tuple[Departed, ...] = ()


class Membership(Protocol):
    """Makes one history of views out of the parts of all groups."""

    def attach(self, on_view: Callable[[View], None]) -> None:
        """From now on tell of every view, whoever has changed it; epochs grow. Called once, before `say`."""

    def announce(self, part: MembershipPart) -> None:
        """This group's part, whole, in place of the one before; returns at once. Views that hold it follow.

        Parts take effect in the order in which they were said; one may be skipped for the next.
        """


class SoleGroup:
    """A single group."""

    def __init__(self) -> None:
        self._epoch = 0
        self._on_view: Callable[[View], None] = lambda view: None

    def attach(self, on_view: Callable[[View], None]) -> None:
        """See Membership."""
        self._on_view = on_view

    def announce(self, part: MembershipPart) -> None:
        """The view is there before this returns."""
        self._epoch += 1
        self._on_view(merged_view(self._epoch, (part,)))


def merged_view(epoch: int, parts: Iterable[MembershipPart]) -> View:
    """The view that the newest parts of all groups make."""
    known = tuple(parts)
    return View(
        epoch,
        tuple(member for part in known for member in part.members),
        tuple(departed for part in known for departed in part.departed),
    )
