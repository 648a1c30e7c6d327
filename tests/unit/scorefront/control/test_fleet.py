"""The routers of a cluster as their leader scales them, with the API and the links faked, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, cast

import pytest

from autoscaler.frontend_settings import Size
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiUnreachable, NotFound, RequestRefused, WriteConflict
from cluster.kubernetes.client.paths import CONFIGMAPS, DEPLOYMENTS, PODS
from cluster.link import GroupLoad
from controlplane.router_groups import GroupState, RouterGroups
from router.core.view import Member
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, PodRecord, ViewHistory, encoded
from router.settings import SettingError
from scorefront.control.pod_resize import GROW_S, RETRY_S, CoresUnavailable
from scorefront.control.router_fleet import JOIN_S, LEVEL_S, RouterFleet
from scorefront.control.router_fleet import RETRY_S as RETRY_SCALE_S
from scorefront.frontend_scaling import FrontEndScaler, front_end_settings
from serving.usage import Work
from tests.fakes.clock import VirtualClock, settle
from tests.fakes.kubernetes import FakeKubernetes

DEPLOYMENT = "scorefront-router"
LABELS = {"scorefront.io/component": "router"}
A_REQUEST_S = 0.00004


class FakeGroups:
    """Satisfies the used part of `controlplane.router_groups.RouterGroups`: every group obeys at once."""

    def __init__(self) -> None:
        self.now: dict[str, GroupState] = {}
        self.told: list[int] = []
        self.expected: frozenset[str] = frozenset()
        self.obeys = True

    def linked(self) -> dict[str, GroupState]:
        return self.now

    def expect(self, members: dict[str, str]) -> None:
        self.expected = frozenset(members)

    def locate(self, pods: Mapping[str, Collection[str]]) -> None:
        self.pods = pods

    def resize(self, workers: int) -> None:
        self.told.append(workers)
        if self.obeys:
            for name in list(self.now):
                self.have(name, workers=workers)

    def have(self, name: str, **changes: Any) -> None:
        """The group says something else of itself."""
        now = self.now[name]
        load = now.load
        assert load is not None
        workers = changes.get("workers", load.wanted)
        work = {f"{name}-{n}": load.work.get(f"{name}-{n}", Work(0, 1, 0, 0, 0, 0)) for n in range(workers)}
        made = GroupLoad(
            workers,
            changes.get("cores", load.cores),
            changes.get("even", load.even),
            changes.get("work", work),
            changes.get("fixed", load.fixed),
        )
        self.now[name] = GroupState(now.pod, made)


class Site:
    """A cluster with some routers."""

    def __init__(self) -> None:
        self.api = FakeKubernetes(controllers=False)
        self.groups = FakeGroups()
        self.clock = VirtualClock()
        self.leads = True
        self.fleet = RouterFleet(
            cast(Api, self.api), cast(RouterGroups, self.groups), self.clock, lambda: 0.5, 4, lambda: self.leads
        )
        self.records: dict[str, PodRecord] = {}
        spec = {"replicas": 2, "template": self._pod("template")}
        self.api.put(DEPLOYMENTS, {"metadata": {"name": DEPLOYMENT}, "spec": spec})

    def _pod(self, name: str, **status: list[dict[str, str]] | str) -> dict[str, Any]:
        resources = {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}
        return {
            "metadata": {"name": f"pod-{name}", "labels": LABELS},
            "spec": {"nodeName": "node-1", "containers": [{"name": "router", "resources": resources}]},
            "status": {"phase": "Running", **status},
        }

    def start(self, name: str, workers: int = 1, linked: bool = True, cores: int = 2) -> None:
        """A router: its pod, its part in the history, its link."""
        self.api.put(PODS, self._pod(name))
        members = tuple(Member(f"{name}-{number}", "10.0.0.1:1") for number in range(workers))
        self.records[f"pod-{name}"] = PodRecord(f"start-of-{name}", f"uid-{name}", MembershipPart(members))
        self.write_history()
        if linked:
            self.link(name, workers, cores)

    def link(self, name: str, workers: int = 1, cores: int = 2) -> None:
        work = {f"{name}-{number}": Work(0, 1, 0, 0, 0, 0) for number in range(workers)}
        self.groups.now[name] = GroupState(f"pod-{name}", GroupLoad(workers, cores, True, work))

    def write_history(self) -> None:
        self.api.put(CONFIGMAPS, {"metadata": {"name": NAME}, "data": encoded(ViewHistory(1, self.records))})

    def pod(self, name: str) -> dict[str, Any]:
        return self.api.must_find(PODS, f"pod-{name}")

    def limit(self, name: str) -> str:
        return self.pod(name)["spec"]["containers"][0]["resources"]["limits"]["cpu"]

    def routers(self) -> int:
        number: int = self.api.must_find(DEPLOYMENTS, DEPLOYMENT)["spec"]["replicas"]
        return number


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.start("a")
    made.start("b")
    running = asyncio.create_task(made.fleet.run(), name="watch the routers")
    await made.fleet.seen.wait()
    await settle()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# ---- members


async def test_every_member_router_is_expected_to_report(site: Site) -> None:
    assert site.groups.expected == {"a-0", "b-0"}
    site.start("c", workers=2)
    await settle()
    assert site.groups.expected == {"a-0", "b-0", "c-0", "c-1"}


async def test_an_unreadable_or_deleted_history_keeps_the_expected_routers(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.api.put(CONFIGMAPS, {"metadata": {"name": NAME}, "data": {"epoch": "many"}})
    await settle()
    site.api.take_away(CONFIGMAPS, NAME)
    await settle()
    assert site.groups.expected == {"a-0", "b-0"}
    assert "epoch" in caplog.text


async def test_a_router_that_takes_part_and_is_not_heard_is_missing_data(site: Site) -> None:
    assert site.fleet.capacity().unheard == 0
    site.start("c", linked=False)
    await settle()
    assert site.fleet.capacity().unheard == 1
    site.link("c")
    assert site.fleet.capacity().unheard == 0


async def test_a_router_that_is_to_go_counts_no_more(site: Site) -> None:
    pod = site.pod("b")
    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    site.api.put(PODS, pod)
    await settle()
    assert set(site.fleet.groups()) == {"a"}
    del site.groups.now["b"]
    assert site.fleet.capacity().unheard == 0


async def test_there_is_no_room_while_a_router_waits_for_a_node(site: Site) -> None:
    assert site.fleet.capacity().room
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    site.api.put(PODS, site._pod("c", phase="Pending", conditions=[condition]))
    await settle()
    assert not site.fleet.capacity().room


# ---- a new leader


async def test_a_new_leader_takes_the_front_end_as_it_is(site: Site) -> None:
    site.groups.have("b", workers=2)
    assert await site.fleet.take_over() == Size(2, 2)
    assert site.groups.told == [2], "one that was not told of the last step is told now"


async def test_a_new_leader_waits_for_the_routers_that_it_knows_of_but_not_for_ever(site: Site) -> None:
    site.start("c", linked=False)
    await settle()
    taking = asyncio.create_task(site.fleet.take_over())
    await site.clock.advance(JOIN_S - 0.2)
    assert not taking.done()
    await site.clock.advance(0.4)
    assert await taking == Size(1, 2)


async def test_without_any_router_nothing_is_scaled(site: Site) -> None:
    site.groups.now.clear()
    taking = asyncio.create_task(site.fleet.take_over())
    await site.clock.advance(10 * JOIN_S)
    assert not taking.done()
    site.link("a")
    await site.clock.advance(1.0)
    assert taking.done()


async def test_a_chosen_number_of_workers_is_left_alone(site: Site) -> None:
    site.groups.have("a", fixed=True)
    taking = asyncio.create_task(site.fleet.take_over())
    await site.clock.advance(10 * JOIN_S)
    assert not taking.done() and site.groups.told == []
    taking.cancel()


async def test_an_api_that_fails_for_a_moment_does_not_end_the_leader(site: Site) -> None:
    site.api.failures["/scale"] = ApiUnreachable("no answer")
    taking = asyncio.create_task(site.fleet.take_over())
    await site.clock.advance(RETRY_SCALE_S / 2)
    site.api.failures.clear()
    await site.clock.advance(RETRY_SCALE_S)
    assert await taking == Size(1, 2)


async def test_routers_that_are_no_deployment_are_as_many_as_are_heard(site: Site) -> None:
    site.api.failures["/scale"] = NotFound("there is none", 404)
    site.start("c")
    await settle()
    assert await site.fleet.take_over() == Size(1, 3)


# ---- out


async def test_more_routers_are_asked_for_through_the_scale_of_their_deployment(site: Site) -> None:
    await site.fleet.scale_out(3)
    assert site.routers() == 3
    assert site.api.verbs("/scale") == ["merge"]


async def test_a_concurrent_change_of_the_scale_is_not_overwritten(site: Site) -> None:
    asking = asyncio.create_task(site.fleet.scale_out(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has read
    site.api.edit(DEPLOYMENTS, DEPLOYMENT, {"spec": {"replicas": 7}})
    with pytest.raises(WriteConflict):
        await asking
    assert site.routers() == 7


async def test_a_former_leader_changes_nothing(site: Site) -> None:
    site.leads = False
    with pytest.raises(CoresUnavailable):
        await site.fleet.scale_out(3)
    with pytest.raises(CoresUnavailable):
        await site.fleet.make_room(3)
    assert site.api.calls == []


# ---- up, in place


async def grow(site: Site, cores: int, there: bool = True) -> None:
    """Ask for cores; the nodes give them after a second, or not."""
    asking = asyncio.create_task(site.fleet.make_room(cores))
    await site.clock.advance(1.0)
    if there:
        for name in site.groups.now:
            site.groups.have(name, cores=cores)
    await site.clock.advance(GROW_S)
    await asking


async def test_more_cores_than_a_pod_has_are_asked_for_in_place(site: Site) -> None:
    assert site.fleet.capacity().cores == 4
    await grow(site, 3)
    assert (site.limit("a"), site.limit("b")) == ("3", "3")
    assert site.pod("a")["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1500m"
    assert site.api.verbs("/resize") == ["replace", "replace"]


async def test_cores_that_no_node_gives_are_given_up_and_asked_for_again_later(site: Site) -> None:
    with pytest.raises(CoresUnavailable, match="did not get 3 cores each: after 15 s there are 2"):
        await grow(site, 3, there=False)
    assert (site.limit("a"), site.limit("b")) == ("2", "2")
    assert site.fleet.capacity().cores == 2
    await site.clock.advance(RETRY_S)
    assert site.fleet.capacity().cores == 4


@pytest.mark.parametrize("error", [NotFound("no such subresource", 404), RequestRefused("forbidden", 403)])
async def test_a_cluster_that_cannot_resize_pods_has_workers_within_the_limit(
    site: Site, error: NotFound | RequestRefused
) -> None:
    site.api.failures["/resize"] = error
    with pytest.raises(CoresUnavailable):
        await grow(site, 3, there=False)
    assert site.fleet.capacity().cores == 2


async def test_cores_are_lowered_to_the_initial_ones_of_a_pod(site: Site) -> None:
    await grow(site, 4)
    await grow(site, 3)
    assert site.limit("a") == "3"
    await grow(site, 1)
    assert site.limit("a") == "2"


async def test_available_cores_need_no_permission(site: Site) -> None:
    site.api.failures[DEPLOYMENT] = ApiUnreachable("no answer")
    await grow(site, 2, there=False)
    assert site.fleet.capacity().cores == 4, "nothing was refused"


async def test_a_router_that_comes_later_gets_as_many_cores(site: Site) -> None:
    await grow(site, 4)
    site.start("c")
    await site.clock.advance(LEVEL_S + 0.1)
    assert site.limit("c") == "4"


async def test_a_router_that_waits_for_a_node_is_not_made_harder_to_place(site: Site) -> None:
    site.start("c", linked=False)
    pod = site.pod("c")
    del pod["spec"]["nodeName"]
    site.api.put(PODS, pod)
    await settle()
    await grow(site, 4)
    await site.clock.advance(LEVEL_S + 0.1)
    assert (site.limit("a"), site.limit("c")) == ("4", "2")
    site.api.put(PODS, site._pod("c"))
    await site.clock.advance(LEVEL_S + 0.1)
    assert site.limit("c") == "4"


async def test_pods_without_a_limit_have_the_cores_that_they_say(site: Site) -> None:
    for name in ("a", "b"):
        pod = site._pod(name)
        pod["spec"]["containers"][0]["resources"] = {}
        site.api.put(PODS, pod)
    await settle()
    assert site.fleet.capacity().cores == 2
    await site.fleet.make_room(3)
    assert site.api.calls == []


async def test_cores_are_those_of_the_smallest_router_or_the_last_known(site: Site) -> None:
    site.api.failures["/resize"] = NotFound("no such subresource", 404)
    with pytest.raises(CoresUnavailable):
        await grow(site, 3, there=False)
    site.groups.have("a", cores=1)
    assert site.fleet.capacity().cores == 1
    site.groups.now.clear()
    assert site.fleet.capacity().cores == 1


# ---- the whole


async def test_a_front_end_that_is_too_small_grows_up_and_then_out(site: Site) -> None:
    settings = front_end_settings({"SCOREFRONT_FRONTEND_MIN_ROUTERS": "2"}, in_cluster=True)
    site.api.failures["/resize"] = NotFound("no such subresource", 404)
    scaler = FrontEndScaler(site.fleet, settings, site.clock, site.clock.now, scales=True)
    running = asyncio.create_task(scaler.run(), name="scale")

    async def be_busy(seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            await site.clock.advance(0.1)
            for name, now in site.groups.now.items():
                busy = {
                    worker: Work(
                        site.clock.now(), done.beats + 1, done.late_s + 0.01, done.cpu_s + 0.1, done.routed + 9, 0
                    )
                    for worker, done in (now.load.work if now.load else {}).items()
                }
                site.groups.have(name, work=busy)

    await be_busy(10.0)
    assert site.groups.told[-1] == 2, "one worker for each core of the pod's limit"
    await be_busy(30.0)
    assert site.routers() == 3
    assert scaler.figures().workers == 4
    running.cancel()
    await settle()


def test_the_bounds_of_the_routers_have_their_variables() -> None:
    assert front_end_settings({}, in_cluster=True).least_routers == 3
    assert front_end_settings({"SCOREFRONT_CLUSTER_PURPOSE": "DevTest"}, in_cluster=True).least_routers == 1
    bounds = {"SCOREFRONT_FRONTEND_MIN_ROUTERS": "2", "SCOREFRONT_FRONTEND_MAX_ROUTERS": "5"}
    settings = front_end_settings(bounds, in_cluster=True)
    assert (settings.least_routers, settings.max_routers) == (2, 5)
    with pytest.raises(SettingError, match="SCOREFRONT_FRONTEND_MAX_ROUTERS"):
        front_end_settings({**bounds, "SCOREFRONT_FRONTEND_MAX_ROUTERS": "1"}, in_cluster=True)
