"""How groups of workers agree on who takes part: each says its part, and one history of views comes of all. Pure.

On one machine the supervisor's word is the history (`Alone`). Where several machines share replicas, whatever orders
their words (a store that all of them watch) satisfies `Membership`; it alone counts epochs then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from router.core.view import Departed, Member, View


@dataclass(frozen=True, slots=True)
class Part:
    """What one group says of itself. A member that is in none of its parts any more has ended."""

    members: tuple[Member, ...] = ()
    departed: tuple[Departed, ...] = ()


class Membership(Protocol):
    """Makes one history of views out of the parts of all groups."""

    def attach(self, on_view: Callable[[View], None]) -> None:
        """From now on tell of every view, whoever has changed it; epochs grow. Called once, before `say`."""

    def say(self, part: Part) -> None:
        """This group's part, whole, in place of the one before; returns at once. Views that hold it follow.

        Parts take effect in the order in which they were said; one may be skipped for the next.
        """


class Alone:
    """A single group."""

    def __init__(self) -> None:
        self._epoch = 0
        self._on_view: Callable[[View], None] = lambda view: None

    def attach(self, on_view: Callable[[View], None]) -> None:
        """See Membership."""
        self._on_view = on_view

    def say(self, part: Part) -> None:
        """The view is there before this returns."""
        self._epoch += 1
        self._on_view(merged(self._epoch, (part,)))


def merged(epoch: int, parts: Iterable[Part]) -> View:
    """The view that the newest parts of all groups make."""
    known = tuple(parts)
    return View(
        epoch,
        tuple(member for part in known for member in part.members),
        tuple(departed for part in known for departed in part.departed),
    )
