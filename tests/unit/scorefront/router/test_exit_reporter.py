"""The report of a router's sudden end: written in any case, once, for this router alone. In virtual time."""

import asyncio
from pathlib import Path
from typing import Any, cast

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import CONFIGMAPS
from router.core.view import Departed, Member
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, PodRecord, ViewHistory, decoded, encoded
from router.supervisor.inflight_folder import InflightFolder, groups
from scorefront.router.exit_reporter import ExitReporter, ReporterOptions
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.virtual_loop import run_virtually

HELD = {"w1": {"r1": 1}}


class Site:
    """An API server with a membership of two routers, and the reporter of one of them."""

    def __init__(self, root: Path = Path("/nowhere")) -> None:
        self.api = FakeKubernetes(controllers=False)
        records = {pod: PodRecord(f"g-{pod}", f"uid-{pod}", part(worker)) for pod, worker in (("a", "w1"), ("b", "w2"))}
        self.put(ViewHistory(7, records))
        self.reporter = ExitReporter(ReporterOptions(root, "a"), cast(Api, self.api), asyncio.sleep, lambda: 0.5)

    def put(self, history: ViewHistory) -> None:
        self.api.put(CONFIGMAPS, {"metadata": {"name": NAME, "labels": {"team": "x"}}, "data": encoded(history)})

    @property
    def history(self) -> ViewHistory:
        return decoded(self.api.must_find(CONFIGMAPS, NAME))


def part(*workers: str) -> MembershipPart:
    return MembershipPart(tuple(Member(name, f"{name}:1") for name in workers))


def told(story: Any) -> Any:
    def test() -> None:
        run_virtually(story(Site()))

    return test


@told
async def test_an_ended_router_is_removed_with_its_requests_in_flight(site: Site) -> None:
    await site.reporter.report("g-a", HELD)
    assert site.history.workers() == {"w2"}
    assert site.history.departed == (Departed("w1", {"r1": 1}),)
    assert site.history.epoch == 8
    assert site.api.must_find(CONFIGMAPS, NAME)["metadata"]["labels"] == {"team": "x"}


@told
async def test_a_router_that_left_in_order_is_not_reported(site: Site) -> None:
    before = site.history
    await site.reporter.report("g-before", {"w0": {}})
    assert site.history == before
    assert site.api.writes("replace") == []


@told
async def test_the_report_waits_for_an_api_server_that_is_away(site: Site) -> None:
    site.api.go_away()
    reporting = asyncio.create_task(site.reporter.report("g-a", HELD))
    await asyncio.sleep(60)
    assert not reporting.done()
    assert len(site.api.calls) < 60
    site.api.come_back()
    async with asyncio.timeout(3):
        await reporting
    assert site.history.workers() == {"w2"}


@told
async def test_an_object_that_cannot_be_read_is_left_alone(site: Site) -> None:
    site.api.put(CONFIGMAPS, {"metadata": {"name": NAME}, "data": {"epoch": "many"}})
    await site.reporter.report("g-a", HELD)
    assert site.api.writes("replace") == []


def test_every_group_of_the_pod_is_reported_when_it_ends(tmp_path: Path) -> None:
    folder = InflightFolder(tmp_path, "g-a")

    async def story() -> None:
        site = Site(tmp_path)
        running = asyncio.create_task(site.reporter.run())
        await asyncio.sleep(0.3)
        assert site.history.workers() == {"w1", "w2"}
        folder.close()
        async with asyncio.timeout(20):
            while groups(tmp_path):  # noqa: ASYNC110 - what is waited for is a file
                await asyncio.sleep(0.02)
        assert site.history.workers() == {"w2"}
        assert not running.done()
        running.cancel()

    asyncio.run(story())
