"""Which worker gives connections to which, so that none carries what another could. Pure.

Who is woken first takes whatever waits on a shared listening socket, so connections bunch; and a worker that has just
been added would get nothing of clients that keep theirs. Passing a connection costs its client nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SLACK = 0.1
"""A worker may have this share more than its part before anything is passed..."""
LEAST = 2
"""...and at least so many more: passing to and fro over one connection is no use."""
MOST_AT_ONCE = 256
"""Of one worker: neither side's loop shall stop for it."""


@dataclass(frozen=True, slots=True)
class ConnectionMove:
    """Some connections pass."""

    giver: str
    taker: str
    count: int


def balancing_moves(clients: Mapping[str, int]) -> list[ConnectionMove]:
    """`clients`: connections by worker, of all that take new ones. Nobody gives below, or gets above, its part."""
    if len(clients) < 2:
        return []
    part, rest = divmod(sum(clients.values()), len(clients))
    most = part + (rest > 0)
    room = {name: part - count for name, count in clients.items() if count < part}
    found = []
    for giver in sorted(clients, key=lambda name: -clients[name]):
        excess = clients[giver] - most
        if excess < max(LEAST, SLACK * part):
            continue
        left = min(excess, MOST_AT_ONCE)
        for taker in sorted(room, key=lambda name: -room[name]):
            count = min(left, room[taker])
            if count:
                found.append(ConnectionMove(giver, taker, count))
                room[taker] -= count
                left -= count
    return found
