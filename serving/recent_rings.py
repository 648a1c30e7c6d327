"""Bounded rings of recent items by key. Pure."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class RecentRings(Generic[Key, Item]):
    """The newest items of each key. Beyond the bound on all, the key without a new item for longest loses one."""

    def __init__(self, per_key: int, total: int) -> None:
        """Rings without items.

        per_key: most items of one key.
        total: most items of all keys.
        """
        self._per_key = per_key
        self._total = total
        self._count = 0
        self._rings: OrderedDict[Key, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def add(self, key: Key, item: Item) -> None:
        """Append an item to the ring of a key."""
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = deque()
        else:
            self._rings.move_to_end(key)
        ring.append(item)
        self._count += 1
        if len(ring) > self._per_key:
            ring.popleft()
            self._count -= 1
        elif self._count > self._total:
            self._drop_one()

    def _drop_one(self) -> None:
        key, ring = next(iter(self._rings.items()))
        ring.popleft()
        self._count -= 1
        if not ring:
            del self._rings[key]

    def of(self, key: Key) -> list[Item]:
        """The items of a key, newest last."""
        return list(self._rings.get(key, ()))

    def items(self) -> Iterator[tuple[Key, list[Item]]]:
        """Keys with their items, newest last."""
        return ((key, list(ring)) for key, ring in self._rings.items())

    def forget(self, key: Key) -> None:
        """Drop the items of a key."""
        self._count -= len(self._rings.pop(key, ()))
