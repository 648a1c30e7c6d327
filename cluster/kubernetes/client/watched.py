"""All objects of one resource over every watched namespace: several reflectors as one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cluster.kubernetes.client.reflector import Change, ObjectGone, ObjectPut, ObjectsListed

Object = dict[str, Any]
Place = tuple[str, str]
"""(namespace, name)."""


class Reflecting(Protocol):
    """The part of a reflector in use."""

    def changes(self) -> AsyncIterator[Change]:
        """First an ObjectsListed, then changes, for ever."""

    def age_s(self, now: float) -> float:
        """Seconds since the last data from the API server."""

    @property
    def last_error(self) -> str:
        """The reason for the current failure; "" while the watch works."""

    @property
    def is_refused(self) -> bool:
        """True if the API server refuses the list or watch."""


class ResourceWatch:
    """Call `run` once. Listeners are called for every object that is added, changed or removed."""

    def __init__(self, what: str, reflectors: Sequence[Reflecting]) -> None:
        self.what = what
        self._reflectors = reflectors
        self._seen: tuple[dict[Place, Object], ...] = tuple({} for _ in reflectors)
        self._unlisted = set(range(len(reflectors)))
        self._listed = asyncio.Event()
        self._listeners: list[Callable[[ObjectPut | ObjectGone], None]] = []

    def listen(self, listener: Callable[[ObjectPut | ObjectGone], None]) -> None:
        """Have `listener` called from now on; it must not raise."""
        self._listeners.append(listener)

    async def listed(self) -> None:
        """Return once everything that there was has been seen."""
        await self._listed.wait()

    def age_s(self, now: float) -> float:
        """Seconds since the last data from the API server, of the oldest reflector; infinite before the first list."""
        if self._unlisted:
            return float("inf")
        return max((reflector.age_s(now) for reflector in self._reflectors), default=0.0)

    @property
    def is_listed(self) -> bool:
        """True once everything that there was has been seen."""
        return self._listed.is_set()

    def last_error(self) -> str:
        """The current failure of one of the reflectors; "" while all work."""
        return next((each.last_error for each in self._reflectors if each.last_error), "")

    def refused(self) -> str:
        """The failure of a reflector that the API server refuses; "" if it refuses none."""
        return next((each.last_error for each in self._reflectors if each.is_refused), "")

    def all(self) -> Iterator[Object]:
        """Every object as it was seen last."""
        return (found for seen in self._seen for found in seen.values())

    def find(self, namespace: str, name: str) -> Object | None:
        """One object as it was seen last."""
        return next((seen[namespace, name] for seen in self._seen if (namespace, name) in seen), None)

    async def run(self) -> None:
        """Follow the API, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for index, reflector in enumerate(self._reflectors):
                tasks.create_task(self._follow(index, reflector), name=f"follow {self.what} {index}")

    async def _follow(self, index: int, reflector: Reflecting) -> None:
        async for change in reflector.changes():
            match change:
                case ObjectsListed(objects):
                    self._replace(self._seen[index], {_place(found): found for found in objects})
                    self._unlisted.discard(index)
                    if not self._unlisted:
                        self._listed.set()
                case ObjectPut(found):
                    self._put(self._seen[index], found)
                case ObjectGone(found):
                    self._gone(self._seen[index], _place(found), found)

    def _replace(self, seen: dict[Place, Object], listed: Mapping[Place, Object]) -> None:
        for place in [place for place in seen if place not in listed]:
            self._gone(seen, place, seen[place])
        for place, found in listed.items():
            if seen.get(place) != found:
                self._put(seen, found)

    def _put(self, seen: dict[Place, Object], found: Object) -> None:
        seen[_place(found)] = found
        for listener in self._listeners:
            listener(ObjectPut(found))

    def _gone(self, seen: dict[Place, Object], place: Place, last: Object) -> None:
        seen.pop(place, None)
        for listener in self._listeners:
            listener(ObjectGone(last))


def _place(found: Object) -> Place:
    return found["metadata"]["namespace"], found["metadata"]["name"]
