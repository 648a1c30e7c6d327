"""Limits for connections that are not yet authenticated: in all, and per address. Pure."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class UnauthenticatedConnections(Generic[_T]):
    """Unauthenticated connections in order of arrival.

    A full table evicts the oldest connection of the address that holds the most: a flood evicts its own connections.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        """`most`: connections in all; `most_of_one`: per address."""
        self._most = most
        self._most_of_one = most_of_one
        self._addresses: OrderedDict[_T, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[_T]:
        return iter(tuple(self._addresses))

    def to_evict(self, address: str) -> _T | None:
        """The connection to close before another one of `address` is accepted; None if there is room.

        `address`: the remote host; "" for clients that are processes of this machine's user, which have no share.
        """
        mine = [each for each, known in self._addresses.items() if known == address]
        if address and len(mine) >= self._most_of_one:
            return mine[0]
        if len(self._addresses) < self._most:
            return None
        counts: dict[str, int] = {}
        for known in self._addresses.values():
            counts[known] = counts.get(known, 0) + 1
        crowd = max(counts, key=lambda known: counts[known])
        return next(each for each, known in self._addresses.items() if known == crowd)

    def add(self, connection: _T, address: str) -> None:
        """Add a connection."""
        self._addresses[connection] = address

    def discard(self, connection: _T) -> bool:
        """Remove a connection that is authenticated or closed; true if it was present."""
        return self._addresses.pop(connection, None) is not None
