"""Routers that write to one object and watch it: races, an API server that is away, pods that go. In virtual time."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import ApiUnreachable, NotFound, WriteConflict
from router.core.view import Member, View
from router.membership.agreement import MembershipPart
from router.membership.router_membership import HistoryWrite, RouterMembership
from scorefront.router.configmap_membership import ASK_S, ClusterMembership
from scorefront.router.sole_member import SoleMemberMarker
from tests.fakes.routers_object import RoutersObject
from tests.fakes.virtual_loop import LoopClock, run_virtually

LEASE_S = 2.0
Object = dict[str, Any]


class FakeApi:
    """The calls of `cluster.kubernetes.client.api.Api` that a membership makes. Every call takes a moment."""

    home = "home"

    def __init__(self, store: RoutersObject, seed: int = 1) -> None:
        self.store = store
        self.pods: dict[str, Object] = {}
        self.away = False
        self.deaf = False
        """Watches tell nothing, and do not end."""
        self.calls: list[str] = []
        self._draw = random.Random(seed)

    async def _moment(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(self._draw.uniform(0.001, 0.02))
        if self.away:
            raise ApiUnreachable(f"{call}: refused")

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        await self._moment(f"GET {path}")
        if path.endswith("/configmaps"):
            newest = self.store.newest
            version = str(len(self.store.versions) - 1)
            return {"metadata": {"resourceVersion": version}, "items": [newest] if newest else []}
        name = path.rpartition("/")[2]
        found = self.store.newest if "/configmaps/" in path else self.pods.get(name)
        if found is None:
            raise NotFound(name, 404)
        return found

    async def create(self, path: str, body: Object, urgent: bool = False) -> Object:
        return await self._write("POST", HistoryWrite(body, fresh=True))

    async def replace(self, path: str, body: Object, urgent: bool = False) -> Object:
        return await self._write("PUT", HistoryWrite(body, fresh=False))

    async def _write(self, call: str, draft: HistoryWrite) -> Object:
        await self._moment(call)
        taken = self.store.put(draft)
        if taken is None:
            raise WriteConflict("conflict", 409)
        await asyncio.sleep(self._draw.uniform(0.001, 0.02))
        return taken

    async def lines(self, path: str, query: Mapping[str, str], silent_s: float = 70.0) -> AsyncGenerator[bytes, None]:
        at = int(query["resourceVersion"]) + 1
        for _ in range(6000):
            if self.away:
                raise ApiUnreachable("the watch broke off")
            while at < len(self.store.versions) and not self.deaf:
                found, before = self.store.versions[at], self.store.versions[at - 1]
                gone = found is None
                metadata = {**((before if gone else found) or {})["metadata"], "resourceVersion": str(at)}
                event = {"type": "DELETED" if gone else "MODIFIED", "object": {**(found or {}), "metadata": metadata}}
                at += 1
                yield json.dumps(event).encode()
            await asyncio.sleep(0.01)


class Router:
    def __init__(self, api: FakeApi, pod: str, folder: Path, group: str = "") -> None:
        self.api = api
        self.pod = pod
        self.views: list[View] = []
        self.expelled = False
        api.pods[pod] = {"metadata": {"name": pod, "uid": f"uid-{pod}"}, "status": {"phase": "Running"}}
        seat = RouterMembership(pod, f"uid-{pod}", group or f"group-{pod}", api.home, LEASE_S)
        note = SoleMemberMarker(folder / f"{pod}.json", pod, f"uid-{pod}")
        draw = random.Random(pod + group)
        self.membership = ClusterMembership(api, seat, note, LoopClock(), draw.random, self._expel)  # type: ignore[arg-type]  # the calls that are made
        self.membership.attach(self.views.append)
        self._running = asyncio.create_task(self.membership.run(), name=f"router {pod}")

    def _expel(self) -> None:
        self.expelled = True

    def announce(self, *names: str) -> None:
        self.membership.announce(MembershipPart(tuple(Member(name, f"{name}:1") for name in names)))

    def names(self) -> set[str]:
        return set(self.views[-1].names()) if self.views else set()

    async def crash(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def leave(self) -> None:
        await self.crash()
        await self.membership.leave()


async def until(happened: Callable[[], object], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not happened():  # noqa: ASYNC110 - what is waited for is on many sides
            await asyncio.sleep(0.01)


Story = Callable[[FakeApi, Path], Awaitable[None]]


def told(story: Story) -> Callable[[Path], None]:
    """A test in virtual time."""

    def test(tmp_path: Path) -> None:
        async def main() -> None:
            await story(FakeApi(RoutersObject()), tmp_path)

        run_virtually(main())

    return test


@told
async def test_all_see_all_soon_though_they_write_at_the_same_time(api: FakeApi, folder: Path) -> None:
    routers = [Router(api, pod, folder) for pod in "abcde"]
    for router in routers:
        router.announce(f"{router.pod}1", f"{router.pod}2")
    everybody = {f"{pod}{number}" for pod in "abcde" for number in (1, 2)}
    await until(lambda: all(router.names() == everybody for router in routers), 2.0)
    for router in routers:
        epochs = [view.epoch for view in router.views]
        assert epochs == sorted(set(epochs))


@told
async def test_a_pod_that_goes_is_noticed_and_its_members_are_told_of_as_dead(api: FakeApi, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    await b.crash()
    await asyncio.sleep(5)
    assert a.names() == {"a1", "b1"}, "its pod is there: it may come back, or still be at work"
    del api.pods["b"]
    await until(lambda: a.names() == {"a1"}, 2.0)
    assert [(each.name, each.held) for each in a.views[-1].departed] == [("b1", None)]
    await until(lambda: a.views[-1].departed == (), 3 * LEASE_S)


@pytest.mark.parametrize("change", ["replaced", "failed"])
def test_a_pod_that_was_replaced_or_has_failed_is_gone(change: str, tmp_path: Path) -> None:
    async def story() -> None:
        api = FakeApi(RoutersObject())
        a, b = Router(api, "a", tmp_path), Router(api, "b", tmp_path)
        a.announce("a1")
        b.announce("b1")
        await until(lambda: a.names() == {"a1", "b1"}, 2.0)
        await b.crash()
        uid, phase = ("another", "Pending") if change == "replaced" else ("uid-b", "Failed")
        api.pods["b"] = {"metadata": {"name": "b", "uid": uid}, "status": {"phase": phase}}
        await until(lambda: a.names() == {"a1"}, 2.0)

    run_virtually(story())


@told
async def test_while_the_api_is_away_nobody_is_taken_for_dead_and_what_is_said_comes_after(
    api: FakeApi, folder: Path
) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.away = True
    a.announce("a1", "a2")
    await asyncio.sleep(60)
    assert a.names() == b.names() == {"a1", "b1"}
    api.away = False
    await until(lambda: a.names() == b.names() == {"a1", "a2", "b1"}, 3.0)


@told
async def test_attempts_while_the_api_is_away_are_few(api: FakeApi, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.away = True
    del api.calls[:]
    a.announce("a1", "a2")
    await asyncio.sleep(60)
    assert api.calls.count("PUT") < 60


@told
async def test_a_router_that_is_alone_goes_on_while_the_api_is_away(api: FakeApi, folder: Path) -> None:
    a = Router(api, "a", folder)
    a.announce("a1")
    await until(lambda: a.names() == {"a1"}, 2.0)
    api.away = True
    a.announce("a1", "a2")
    await until(lambda: a.names() == {"a1", "a2"}, 1.0)
    await a.crash()
    again = Router(api, "a", folder, "again")
    again.membership.restore()
    again.announce("a3")
    await until(lambda: again.names() == {"a3"}, 1.0)
    api.away = False
    b = Router(api, "b", folder)
    b.announce("b1")
    await until(lambda: again.names() == b.names() == {"a3", "b1"}, 3.0)
    api.away = True
    await again.crash()
    third = Router(api, "a", folder, "third")
    third.membership.restore()
    third.announce("a4")
    await asyncio.sleep(60)
    assert third.names() == set(), "it was not alone any more"


@told
async def test_a_watch_that_is_silent_holds_nobody_up_for_long(api: FakeApi, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.deaf = True
    a.announce("a1", "a2")
    await until(lambda: b.names() == {"a1", "a2", "b1"}, 2 * ASK_S)


@told
async def test_who_leaves_in_order_is_gone_from_the_next_view(api: FakeApi, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    b.announce()
    await until(lambda: a.names() == {"a1"}, 2.0)
    await b.leave()
    assert not b.expelled
    assert api.store.newest is not None
    assert "pod.b" not in api.store.newest["data"]


@told
async def test_leaving_while_the_api_is_away_does_not_last(api: FakeApi, folder: Path) -> None:
    a = Router(api, "a", folder)
    a.announce("a1")
    await until(lambda: a.names() == {"a1"}, 2.0)
    api.away = True
    async with asyncio.timeout(10):
        await a.leave()


@told
async def test_a_router_that_was_declared_dead_hears_of_it(api: FakeApi, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    del api.pods["b"]
    await until(lambda: b.expelled, 5.0)
    assert b.names() == {"a1", "b1"}, "its workers end; they need no view of others"
