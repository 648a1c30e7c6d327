"""The owner's record of each borrower's knowledge of the tickets of others. Pure.

A borrower may reuse its slots for its own tickets that are older than the oldest ticket of others. It knows the arrival
of that ticket as of the owner's last message. Once that ticket has been served, the borrower would return a slot that
is then granted to it again: two messages, in which the replica is idle.
"""

import math

Place = tuple[int, float]
"""Position of a ticket among all: retries (0) before others (1), then by arrival."""

TELL_S = 0.002
"""Least time between two updates of one borrower. Under a high rate of requests they would cost more than they save."""


class BorrowerKnowledge:
    """Arrival of the oldest ticket of others by borrower, as it was told last; inf: none was waiting."""

    __slots__ = ("_others_since", "_updated_at")

    def __init__(self) -> None:
        self._others_since: dict[str, float] = {}
        self._updated_at: dict[str, float] = {}

    def told(self, peer: str, others_since: float) -> None:
        """Record that a message or a new session has set the knowledge of `peer`."""
        self._others_since[peer] = others_since

    def unaware(self) -> list[str]:
        """Borrowers that do not know of any ticket of others."""
        return [peer for peer, since in self._others_since.items() if since == math.inf]

    def needs_update(self, peer: str, place: Place, now: float) -> bool:
        """True, once in TELL_S, if `peer` would return a slot in spite of its ticket at `place`, the oldest of all.

        False for a worker without slots.
        """
        since = self._others_since.get(peer)
        if since is None or place <= (1, since) or now < self._updated_at.get(peer, -math.inf) + TELL_S:
            return False
        self._updated_at[peer] = now
        return True

    def drop(self, peer: str) -> None:
        """Forget a worker that has no slots any more."""
        self._others_since.pop(peer, None)
        self._updated_at.pop(peer, None)
