"""The cache of one collection, and the changes by a list or a watch event (`ObjectsListed | ObjectPut |
ObjectGone`). Pure.

These are changes of API objects; `cluster.changes` has those of replicas. Versions are compared for equality only: the
API defines no order.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is "" for cluster-scoped objects."""


@dataclass(frozen=True, slots=True)
class ObjectsListed:
    """The complete collection: all other objects are gone."""

    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class ObjectPut:
    """New or changed."""

    object: Object


@dataclass(frozen=True, slots=True)
class ObjectGone:
    """No longer there; `object` is the last that is known of it."""

    object: Object


Change = ObjectsListed | ObjectPut | ObjectGone


def key_of(found: Object) -> Key:
    """The key of an object. Raises KeyError or TypeError for a malformed one."""
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class ObjectCache:
    """The objects of one collection by key, reduced by `keep`; those that `keep` maps to None are left out."""

    __slots__ = ("_keep", "_stamps", "objects")

    def __init__(self, keep: Callable[[Object], Object | None]) -> None:
        self._keep = keep
        self._stamps: dict[Key, tuple[str, str]] = {}  # (uid, resourceVersion)
        self.objects: dict[Key, Object] = {}

    def listed(self, found: Iterable[Object]) -> list[ObjectPut | ObjectGone]:
        """Apply a complete list; returns the changes, removals first."""
        there: set[Key] = set()
        put: list[ObjectPut | ObjectGone] = []
        for each in found:
            there.add(key_of(each))
            put += self.put(each)
        left = [key for key in self.objects if key not in there]
        return [*(change for key in left for change in self._drop(key)), *put]

    def put(self, found: Object) -> Iterator[ObjectPut | ObjectGone]:
        """An object as it is now. The same version again is no change; another uid is another object of that name."""
        key = key_of(found)
        metadata = found["metadata"]
        stamp = (metadata.get("uid", ""), metadata["resourceVersion"])
        known = self._stamps.get(key)
        if known == stamp:
            return
        kept = self._keep(found)
        if known is not None and (kept is None or known[0] != stamp[0]):
            yield from self._drop(key)
        if kept is not None:
            self._stamps[key], self.objects[key] = stamp, kept
            yield ObjectPut(kept)

    def gone(self, found: Object) -> Iterator[ObjectPut | ObjectGone]:
        """An object that was deleted, in its last state. One that is not known, or by now is another, is no change."""
        key = key_of(found)
        known = self._stamps.get(key)
        if known is not None and known[0] == found["metadata"].get("uid", ""):
            yield from self._drop(key, self._keep(found))

    def _drop(self, key: Key, last: Object | None = None) -> Iterator[ObjectPut | ObjectGone]:
        del self._stamps[key]
        known = self.objects.pop(key)
        yield ObjectGone(last or known)
