"""Routers that write to one ConfigMap and watch it: races, an unreachable API server, deleted pods. In virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import CONFIGMAPS, PODS
from router.core.view import Member, View
from router.membership.agreement import MembershipPart
from router.membership.history import NAME
from router.membership.router_membership import RouterMembership
from scorefront.router.configmap_membership import READ_INTERVAL_S, ClusterMembership
from scorefront.router.sole_member import SoleMemberMarker
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object
from tests.fakes.virtual_loop import LoopClock, run_virtually

LEASE_S = 2.0
STARTED_AT = 1_800_000_000.4
"""Start of every router, in 2027."""
BEFORE = {"startedAt": "2027-01-15T07:58:00Z", "finishedAt": "2027-01-15T07:59:59Z"}
ITS_OWN = {"startedAt": "2027-01-15T08:00:00Z", "finishedAt": "2027-01-15T08:00:09Z"}


class SlowKubernetes(FakeKubernetes):
    """Every request takes a random time, and every response to a write another one."""

    def __init__(self) -> None:
        super().__init__(controllers=False)
        draw = random.Random(1)
        self.delay = lambda: asyncio.sleep(draw.uniform(0.001, 0.02))

    def pod(self, name: str, uid: str = "", phase: str = "Running", router: Object | None = None) -> Object:
        """Create or replace the pod of a router. `router`: state and lastState of its container."""
        containers = [{"name": "router", **(router or {})}]
        status = {"phase": phase, "containerStatuses": containers}
        return self.put(PODS, {"metadata": {"name": name, "uid": uid or f"uid-{name}"}, "status": status})

    async def create(self, where: str, body: Object, query: Any = None, urgent: bool = False) -> Object:
        written = await super().create(where, body)
        await self.delay()
        return written

    async def replace(self, where: str, body: Object, urgent: bool = False) -> Object:
        written = await super().replace(where, body)
        await self.delay()
        return written


class Router:
    def __init__(self, api: SlowKubernetes, pod: str, folder: Path, group: str = "") -> None:
        self.api = api
        self.pod = pod
        self.views: list[View] = []
        self.expelled = False
        api.pod(pod)
        decisions = RouterMembership(pod, f"uid-{pod}", group or f"group-{pod}", api.home, LEASE_S, STARTED_AT)
        note = SoleMemberMarker(folder / f"{pod}.json", pod, f"uid-{pod}")
        draw = random.Random(pod + group)
        self.membership = ClusterMembership(cast(Api, api), decisions, note, LoopClock(), draw.random, self._expel)
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


Story = Callable[[SlowKubernetes, Path], Awaitable[None]]


def told(story: Story) -> Callable[[Path], None]:
    """A test in virtual time."""

    def test(tmp_path: Path) -> None:
        async def main() -> None:
            await story(SlowKubernetes(), tmp_path)

        run_virtually(main())

    return test


@told
async def test_all_see_all_soon_though_they_write_at_the_same_time(api: SlowKubernetes, folder: Path) -> None:
    routers = [Router(api, pod, folder) for pod in "abcde"]
    for router in routers:
        router.announce(f"{router.pod}1", f"{router.pod}2")
    everybody = {f"{pod}{number}" for pod in "abcde" for number in (1, 2)}
    await until(lambda: all(router.names() == everybody for router in routers), 2.0)
    for router in routers:
        epochs = [view.epoch for view in router.views]
        assert epochs == sorted(set(epochs))


@told
async def test_members_of_a_deleted_pod_are_departed(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    await b.crash()
    await asyncio.sleep(5)
    assert a.names() == {"a1", "b1"}, "its pod is there: it may come back, or still be at work"
    api.take_away(PODS, "b")
    await until(lambda: a.names() == {"a1"}, 2.0)
    assert [(each.name, each.held) for each in a.views[-1].departed] == [("b1", None)]
    await until(lambda: a.views[-1].departed == (), 3 * LEASE_S)


@pytest.mark.parametrize("change", ["replaced", "failed"])
def test_a_pod_that_was_replaced_or_has_failed_is_gone(change: str, tmp_path: Path) -> None:
    async def story() -> None:
        api = SlowKubernetes()
        a, b = Router(api, "a", tmp_path), Router(api, "b", tmp_path)
        a.announce("a1")
        b.announce("b1")
        await until(lambda: a.names() == {"a1", "b1"}, 2.0)
        await b.crash()
        uid, phase = ("another", "Pending") if change == "replaced" else ("uid-b", "Failed")
        api.pod("b", uid, phase)
        await until(lambda: a.names() == {"a1"}, 2.0)

    run_virtually(story())


ENDS = [
    {"state": {"terminated": ITS_OWN}},
    {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ITS_OWN}},
    {"state": {"running": {"startedAt": "2027-01-15T08:00:10Z"}}, "lastState": {"terminated": ITS_OWN}},
]


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("watched", [True, False])
def test_a_group_ends_with_its_container_though_its_pod_stays(
    tmp_path: Path, status: dict[str, Any], watched: bool
) -> None:
    async def story() -> None:
        api = SlowKubernetes()
        a, b = Router(api, "a", tmp_path), Router(api, "b", tmp_path)
        a.announce("a1")
        b.announce("b1")
        await until(lambda: a.names() == {"a1", "b1"}, 2.0)
        await b.crash()
        pod = api.pod("b", router=status)
        if watched:
            a.membership.pod_changed(pod)
        await until(lambda: a.names() == {"a1"}, 0.2 if watched else 2.0)

    run_virtually(story())


@told
async def test_the_end_of_an_earlier_container_of_the_pod_does_not_count(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    for state in ("state", "lastState"):
        a.membership.pod_changed(api.pod("b", router={state: {"terminated": BEFORE}}))
        await asyncio.sleep(10)
    assert a.names() == {"a1", "b1"}
    assert not b.expelled


@told
async def test_while_the_api_is_away_no_router_is_taken_for_dead_and_announcements_come_later(
    api: SlowKubernetes, folder: Path
) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.go_away()
    a.announce("a1", "a2")
    await asyncio.sleep(60)
    assert a.names() == b.names() == {"a1", "b1"}
    api.come_back()
    await until(lambda: a.names() == b.names() == {"a1", "a2", "b1"}, 3.0)


@told
async def test_attempts_while_the_api_is_away_are_few(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.go_away()
    del api.calls[:]
    a.announce("a1", "a2")
    await asyncio.sleep(60)
    assert len(api.writes("replace")) < 60


@told
async def test_a_router_that_is_alone_goes_on_while_the_api_is_away(api: SlowKubernetes, folder: Path) -> None:
    a = Router(api, "a", folder)
    a.announce("a1")
    await until(lambda: a.names() == {"a1"}, 2.0)
    api.go_away()
    a.announce("a1", "a2")
    await until(lambda: a.names() == {"a1", "a2"}, 1.0)
    await a.crash()
    again = Router(api, "a", folder, "again")
    again.membership.restore()
    again.announce("a3")
    await until(lambda: again.names() == {"a3"}, 1.0)
    api.come_back()
    b = Router(api, "b", folder)
    b.announce("b1")
    await until(lambda: again.names() == b.names() == {"a3", "b1"}, 3.0)
    api.go_away()
    await again.crash()
    third = Router(api, "a", folder, "third")
    third.membership.restore()
    third.announce("a4")
    await asyncio.sleep(60)
    assert third.names() == set(), "it was not alone any more"


@told
async def test_a_silent_watch_delays_updates_only_shortly(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == b.names() == {"a1", "b1"}, 2.0)
    api.is_silent = True
    a.announce("a1", "a2")
    await until(lambda: b.names() == {"a1", "a2", "b1"}, 2 * READ_INTERVAL_S)


@told
async def test_a_router_that_leaves_is_gone_from_the_next_view(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    b.announce()
    await until(lambda: a.names() == {"a1"}, 2.0)
    await b.leave()
    assert not b.expelled
    assert "pod.b" not in api.must_find(CONFIGMAPS, NAME)["data"]


@told
async def test_leaving_while_the_api_is_away_does_not_last(api: SlowKubernetes, folder: Path) -> None:
    a = Router(api, "a", folder)
    a.announce("a1")
    await until(lambda: a.names() == {"a1"}, 2.0)
    api.go_away()
    async with asyncio.timeout(10):
        await a.leave()


@told
async def test_a_router_declared_dead_is_expelled(api: SlowKubernetes, folder: Path) -> None:
    a, b = Router(api, "a", folder), Router(api, "b", folder)
    a.announce("a1")
    b.announce("b1")
    await until(lambda: a.names() == {"a1", "b1"}, 2.0)
    api.take_away(PODS, "b")
    await until(lambda: b.expelled, 5.0)
    assert b.names() == {"a1", "b1"}, "its workers end; they need no view of others"
