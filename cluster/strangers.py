"""Connections that have not yet proved who they are: few in all, fewer of one address. Pure."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Strangers(Generic[_T]):
    """Connections in the order in which they came.

    A full table makes room by the oldest connection of the address that holds the most: whoever floods it crowds out
    its own connections.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        """`most`: connections in all; `most_of_one`: of one address."""
        self._most = most
        self._most_of_one = most_of_one
        self._addresses: OrderedDict[_T, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[_T]:
        return iter(tuple(self._addresses))

    def victim(self, address: str) -> _T | None:
        """The connection that has to end before one more of `address` is taken; None: there is room.

        address: the remote host, "" where every client is a process of this machine's user, which has no share.
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
        """Count it from now on."""
        self._addresses[connection] = address

    def discard(self, connection: _T) -> bool:
        """It is known now, or has ended; whether it was counted."""
        return self._addresses.pop(connection, None) is not None
