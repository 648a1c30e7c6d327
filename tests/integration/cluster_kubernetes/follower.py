"""A reflector with a checking reader: the guarantees for readers."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.cache import Change, Object, ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.reflector import Reflector, ReflectorSettings

PATH = "/api/v1/namespaces/ns/pods"


class HastyClock:
    """Time passes by sleeping only, and sleeping takes none."""

    def __init__(self) -> None:
        self._now = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds
        await asyncio.sleep(0)


class Follower:
    """Applies every change as a consumer would, and fails on one that makes no sense."""

    def __init__(self, reflector: Reflector, clock: HastyClock) -> None:
        self.reflector = reflector
        self.clock = clock
        self.known: dict[tuple[str, str], Object] = {}
        self.seen: list[Change] = []

    async def run(self) -> None:
        changes = self.reflector.changes()
        assert isinstance(changes, AsyncGenerator)
        async with contextlib.aclosing(changes):
            async for change in changes:
                self.apply(change)

    def apply(self, change: Change) -> None:
        assert isinstance(change, ObjectsListed) == (not self.seen), "the first change, and only it, is the whole list"
        self.seen.append(change)
        if isinstance(change, ObjectsListed):
            self.known = {key(found): found for found in change.objects}
        elif isinstance(change, ObjectPut):
            known = self.known.get(key(change.object))
            assert known is None or uid(known) == uid(change.object), "another object of that name, unannounced"
            assert known is None or version(known) != version(change.object), "the same twice"
            self.known[key(change.object)] = change.object
        else:
            assert uid(self.known.pop(key(change.object))) == uid(change.object), "gone, but it was another"

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.known}

    def told(self, kind: type[ObjectPut] | type[ObjectGone]) -> list[str]:
        return [change.object["metadata"]["name"] for change in self.seen if type(change) is kind]


def key(found: Object) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def uid(found: Object) -> str:
    return str(found["metadata"]["uid"])


def version(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])


@contextlib.asynccontextmanager
async def following(
    api: Api,
    settings: ReflectorSettings | None = None,
    u: Callable[[], float] = lambda: 0.5,
    keep: Callable[[Object], Object | None] = lambda found: found,
) -> AsyncIterator[Follower]:
    clock = HastyClock()
    chosen = settings or ReflectorSettings(sudden_s=0.0)  # no time passes while watching, so every good end is sudden
    follower = Follower(Reflector(api, PATH, clock, u, settings=chosen, keep=keep), clock)
    task = asyncio.create_task(follower.run(), name="follow")
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
