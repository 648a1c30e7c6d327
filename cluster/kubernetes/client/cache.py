"""What is known of one collection, and what a list or an event changes in it. Pure.

Versions are compared for equality only: they have no order that a client may rely on.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is "" where there is none."""


@dataclass(frozen=True, slots=True)
class ObjectsListed:
    """The whole truth: what is not in it does not exist."""

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
    """Raises KeyError or TypeError for what is no object of the API."""
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class ObjectCache:
    """The objects of one collection by key, each as `keep` left it; those of which it kept None are not there."""

    __slots__ = ("_keep", "_stamps", "objects")

    def __init__(self, keep: Callable[[Object], Object | None]) -> None:
        self._keep = keep
        self._stamps: dict[Key, tuple[str, str]] = {}  # (uid, resourceVersion)
        self.objects: dict[Key, Object] = {}

    def listed(self, found: Iterable[Object]) -> list[ObjectPut | ObjectGone]:
        """A whole list; returns what is different from what was known, departures first."""
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
