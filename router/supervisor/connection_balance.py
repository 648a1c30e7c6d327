"""Balancing of client connections over the workers of a router. Pure.

The first worker to wake accepts everything that waits on a shared listening socket, so connections bunch; and a new
worker would get no clients that keep their connections. A hand-off costs the client nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SLACK = 0.1
"""Excess over its share, as a fraction, that a worker may have before connections move..."""
LEAST = 2
"""...and at least this many connections: moving a single one to and fro is no use."""
MOST_AT_ONCE = 256
"""Limit for one worker: a move must not stall either event loop."""


@dataclass(frozen=True, slots=True)
class ConnectionMove:
    """A hand-off of `count` connections."""

    source: str
    target: str
    count: int


def balancing_moves(clients: Mapping[str, int]) -> list[ConnectionMove]:
    """The hand-offs to even out `clients` (connections by accepting worker).

    No worker falls below, or rises above, its share.
    """
    if len(clients) < 2:
        return []
    part, rest = divmod(sum(clients.values()), len(clients))
    most = part + (rest > 0)
    room = {name: part - count for name, count in clients.items() if count < part}
    found = []
    for source in sorted(clients, key=lambda name: -clients[name]):
        excess = clients[source] - most
        if excess < max(LEAST, SLACK * part):
            continue
        left = min(excess, MOST_AT_ONCE)
        for target in sorted(room, key=lambda name: -room[name]):
            count = min(left, room[target])
            if count:
                found.append(ConnectionMove(source, target, count))
                room[target] -= count
                left -= count
    return found
