"""Agreement of router groups on one sequence of views: each group announces its part of the members. Pure.

With one supervisor the views are its own (`SoleGroup`). With several, a shared store that orders the parts of all
groups implements `Membership` and numbers the views.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from router.core.view import Departed, Member, View


@dataclass(frozen=True, slots=True)
class MembershipPart:
    """The members of one group. A member that is missing from a later part has ended."""

    members: tuple[Member, ...] = ()
    departed: tuple[Departed, ...] = ()


class Membership(Protocol):
    """Builds one sequence of views from the parts of all groups."""

    def attach(self, on_view: Callable[[View], None]) -> None:
        """Call `on_view` with every new view; epochs grow. Called once, before `announce`."""

    def announce(self, part: MembershipPart) -> None:
        """Replace this group's part; returns at once, views follow.

        Parts take effect in the order of the calls; one may be skipped for the next.
        """


class SoleGroup:
    """Membership of a single group."""

    def __init__(self) -> None:
        self._epoch = 0
        self._on_view: Callable[[View], None] = lambda view: None

    def attach(self, on_view: Callable[[View], None]) -> None:
        """See `Membership`."""
        self._on_view = on_view

    def announce(self, part: MembershipPart) -> None:
        """See `Membership`; the view comes before this returns."""
        self._epoch += 1
        self._on_view(merged_view(self._epoch, (part,)))


def merged_view(epoch: int, parts: Iterable[MembershipPart]) -> View:
    """The view made of the newest parts of all groups."""
    known = tuple(parts)
    return View(
        epoch,
        tuple(member for part in known for member in part.members),
        tuple(departed for part in known for departed in part.departed),
    )
