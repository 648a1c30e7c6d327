"""The ScoringEndpoint objects as the leader knows them, from the watch and from answers to its own writes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.cluster_index import NameOwnership, place_of, seniority_of

Object = dict[str, Any]

REMEMBERED = 10_000
"""Deleted objects whose uid is kept: an answer to a write comes seconds after their deletion at most."""


class EndpointObjects:
    """The newest known state of every object, and the owner of every name."""

    def __init__(self) -> None:
        self._objects: NameOwnership[Object] = NameOwnership(seniority_of)
        self._replaced: set[str] = set()
        """Uids of objects that were recreated under their name, until the watch reports their deletion."""
        self._deleted: dict[str, None] = {}
        """Uids of the last deleted objects, the oldest first: the answer to a write may come after the deletion."""

    def put(self, found: Object) -> bool:
        """Store an object; False if a newer state of it is known, or its deletion."""
        metadata, place = found["metadata"], place_of(found)
        known = self._objects.get(place)
        if metadata["uid"] in self._replaced or metadata["uid"] in self._deleted:
            return False
        if known is not None and known["metadata"]["uid"] != metadata["uid"]:
            self._replaced.add(known["metadata"]["uid"])
        elif known is not None and known["metadata"].get("generation", 0) > metadata.get("generation", 0):
            return False
        self._objects.put(place, found)
        return True

    def gone(self, found: Object) -> None:
        """Remove a deleted object; one that was recreated since stays."""
        uid, place = found["metadata"]["uid"], place_of(found)
        self._replaced.discard(uid)
        self._deleted[uid] = None
        while len(self._deleted) > REMEMBERED:
            del self._deleted[next(iter(self._deleted))]
        known = self._objects.get(place)
        if known is not None and known["metadata"]["uid"] == uid:
            self._objects.drop(place)

    def owner(self, name: str) -> Object | None:
        """The object that owns a name, even if it is being deleted; None if there is none."""
        return self._objects.owner(name)

    def rivals(self, name: str) -> list[Object]:
        """The other objects of a name, oldest first."""
        return self._objects.rivals(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        return self._objects.names()

    def all(self) -> Iterator[Object]:
        """All objects."""
        return (found for _, found in self._objects.items())


def is_leaving(found: Mapping[str, Any]) -> bool:
    """True if the object is deleted and waits for its finalizers."""
    return found["metadata"].get("deletionTimestamp") is not None


def title_of(found: Mapping[str, Any]) -> str:
    """`namespace/name`."""
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
