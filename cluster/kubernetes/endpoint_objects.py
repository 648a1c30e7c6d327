"""The ScoringEndpoint objects that there are, and which of them has its name. Pure.

A name is unique over all watched namespaces: routers know nothing else of an endpoint. The oldest object has it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Object = dict[str, Any]


class EndpointObjects:
    """The newest that is known of every object, be it from a watch or the answer to a write of ours."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, Object]] = {}
        """Name -> namespace -> object."""
        self._past: set[str] = set()
        """Uids of objects that a later one has replaced, for as long as a watch may still tell of them."""

    def put(self, found: Object) -> bool:
        """Take over an object unless a newer state of it is known; whether it was taken over."""
        metadata = found["metadata"]
        known = self._by_name.get(metadata["name"], {}).get(metadata["namespace"])
        if metadata["uid"] in self._past:
            return False
        if known is not None and known["metadata"]["uid"] != metadata["uid"]:
            self._past.add(known["metadata"]["uid"])
        elif known is not None and known["metadata"].get("generation", 0) > metadata.get("generation", 0):
            return False
        self._by_name.setdefault(metadata["name"], {})[metadata["namespace"]] = found
        return True

    def gone(self, found: Object) -> None:
        """The object does not exist any more."""
        metadata = found["metadata"]
        self._past.discard(metadata["uid"])
        same_name = self._by_name.get(metadata["name"], {})
        known = same_name.get(metadata["namespace"])
        if known is not None and known["metadata"]["uid"] == metadata["uid"]:
            del same_name[metadata["namespace"]]
            if not same_name:
                del self._by_name[metadata["name"]]

    def owner(self, name: str) -> Object | None:
        """The object that has this name, be it about to go; None if there is none."""
        return min(self._by_name.get(name, {}).values(), key=_seniority, default=None)

    def rivals(self, name: str) -> list[Object]:
        """The objects of this name that do not have it."""
        return sorted(self._by_name.get(name, {}).values(), key=_seniority)[1:]

    def names(self) -> list[str]:
        """Every name that anything has."""
        return sorted(self._by_name)

    def all(self) -> Iterator[Object]:
        """Every object."""
        return (found for same_name in self._by_name.values() for found in same_name.values())


def is_leaving(found: Mapping[str, Any]) -> bool:
    """It was deleted, and goes once its finalizers are gone."""
    return found["metadata"].get("deletionTimestamp") is not None


def place_of(found: Mapping[str, Any]) -> str:
    """`namespace/name`."""
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


def _seniority(found: Object) -> tuple[str, str]:
    return found["metadata"].get("creationTimestamp") or "", found["metadata"]["uid"]
