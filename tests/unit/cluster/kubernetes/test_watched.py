import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.watched import ResourceWatch
from tests.fakes.clock import settle


def thing(name: str, namespace: str = "a", version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "version": version}


class Script:
    """A scripted reflector."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.heard_s = 0.0
        self.last_error = ""
        self.is_refused = False

    def tell(self, change: ObjectGone | ObjectPut | ObjectsListed) -> None:
        self.queue.put_nowait(change)

    async def changes(self) -> AsyncIterator[Any]:
        while True:
            yield await self.queue.get()

    def age_s(self, now: float) -> float:
        return now - self.heard_s


@pytest.fixture
async def scene() -> AsyncIterator[tuple[tuple[Script, Script], ResourceWatch, list[Any]]]:
    scripts = Script(), Script()
    told: list[Any] = []
    watched = ResourceWatch("things", scripts)
    watched.listen(told.append)
    task = asyncio.create_task(watched.run(), name="watch")
    yield scripts, watched, told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_is_listed_once_every_namespace_is(
    scene: tuple[tuple[Script, Script], ResourceWatch, list[Any]],
) -> None:
    (first, second), watched, told = scene
    first.tell(ObjectsListed((thing("x"),)))
    await settle()
    listed = asyncio.create_task(watched.listed(), name="wait")
    await settle()
    assert not listed.done() and watched.age_s(5.0) == math.inf
    second.tell(ObjectsListed(()))
    await settle()
    assert listed.done() and told == [ObjectPut(thing("x"))] and watched.age_s(5.0) == 5.0


async def test_a_second_list_reports_only_differences(
    scene: tuple[tuple[Script, Script], ResourceWatch, list[Any]],
) -> None:
    (first, second), watched, told = scene
    second.tell(ObjectsListed((thing("z", "b"),)))
    first.tell(ObjectsListed((thing("x"), thing("y"))))
    await settle()
    told.clear()
    first.tell(ObjectsListed((thing("y", version=2), thing("w"))))
    await settle()
    assert told == [ObjectGone(thing("x")), ObjectPut(thing("y", version=2)), ObjectPut(thing("w"))]
    assert watched.find("b", "z") is not None and len(list(watched.all())) == 3


async def test_changes_are_reported_and_kept(scene: tuple[tuple[Script, Script], ResourceWatch, list[Any]]) -> None:
    (first, _), watched, told = scene
    first.tell(ObjectsListed(()))
    first.tell(ObjectPut(thing("x")))
    await settle()
    assert watched.find("a", "x") == thing("x")
    first.tell(ObjectGone(thing("x", version=2)))
    await settle()
    assert watched.find("a", "x") is None and told == [ObjectPut(thing("x")), ObjectGone(thing("x", version=2))]


async def test_its_age_is_that_of_the_namespace_that_is_silent_for_longest(
    scene: tuple[tuple[Script, Script], ResourceWatch, list[Any]],
) -> None:
    (first, second), watched, _ = scene
    for each in (first, second):
        each.tell(ObjectsListed(()))
    await settle()
    first.heard_s = 90.0
    assert watched.age_s(100.0) == 100.0
