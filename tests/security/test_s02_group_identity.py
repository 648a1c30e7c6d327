"""S2: a router group speaks for its own pod and its own workers, with any certificate."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.kubernetes.objects.router_pod import router_pod
from cluster.link import GroupIs
from cluster.trust import ROUTER
from controlplane.group_identity import identity_fault
from controlplane.router_groups import RouterGroups
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.router_group import FakeGroup, usage
from tests.fakes.router_reports import RecordedReports

PODS = {"router-1": ("10.0.0.1", "fd00::1"), "router-2": ("10.0.0.2",), "router-3": ()}
OWNERS = {"a1": "router-1", "b1": "router-2"}


@pytest.mark.parametrize(
    ("said", "host", "fault"),
    [
        (GroupIs("a", ("a1",), "router-1"), "10.0.0.1", ""),
        (GroupIs("a", ("a1", "a2"), "router-1"), "fd00::1", ""),
        (GroupIs("r", ("b1",), "router-1"), "10.0.0.1", "worker b1 belongs to router router-2"),
        (GroupIs("r", ("r1", "b1"), "router-1"), "10.0.0.1", "worker b1 belongs to router router-2"),
        (GroupIs("r", ("b1",), ""), "10.0.0.1", "worker b1 belongs to router router-2, not to one without a name"),
        (GroupIs("r", ("r1",), "router-2"), "10.0.0.9", "router router-2 is at 10.0.0.2, not at 10.0.0.9"),
        (GroupIs("r", ("b1",), "router-2"), "10.0.0.1", "router router-2 is at 10.0.0.2"),
        (GroupIs("r", ("r1",), "router-3"), "10.0.0.9", "router router-3 is at no address yet"),
        (GroupIs("r", ("r1",), "someone"), "10.0.0.9", "there is no router someone"),
        (GroupIs("r", (), ""), "10.0.0.9", "there is no router without a name"),
    ],
)
def test_a_greeting_is_checked_against_the_known_routers(said: GroupIs, host: str, fault: str) -> None:
    found = identity_fault(said, host, PODS, OWNERS)
    assert found.startswith(fault) and bool(found) == bool(fault)


def test_addresses_are_not_judged_before_any_is_known_nor_behind_a_proxy_of_the_pod() -> None:
    said = GroupIs("a", ("a9",), "router-9")
    assert identity_fault(said, "10.0.0.9", {}, OWNERS) == ""
    assert identity_fault(said, "10.0.0.9", {"router-1": ()}, OWNERS) == ""
    assert identity_fault(said, "127.0.0.6", PODS, OWNERS) == ""


def test_a_pod_has_its_addresses() -> None:
    pod = {"metadata": {"name": "r"}, "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {}]}}
    assert router_pod(pod).addresses == ("10.0.0.1", "fd00::1")
    assert router_pod({"metadata": {"name": "r"}}).addresses == ()


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[tuple[RouterGroups, RecordedReports, Authority, int]]:
    heard, authority = RecordedReports(), Authority(tmp_path)
    made = RouterGroups(fence=7, trust=authority.issue(ROUTER))
    made.report_to(heard)
    sock = socket.create_server(("127.0.0.1", 0))
    made.open(sock)
    yield made, heard, authority, sock.getsockname()[1]
    await made.close()


async def test_an_unlinked_worker_of_another_pod_cannot_be_claimed(
    leader: tuple[RouterGroups, RecordedReports, Authority, int],
) -> None:
    groups, heard, authority, port = leader
    groups.expect({"a1": "pod-a", "b1": "pod-b"})
    rogue = await FakeGroup("rogue", ("a1",), authority.issue(ROUTER), pod="pod-b").join(port)
    async with asyncio.timeout(5):
        await rogue.ended.wait()
    assert groups.linked() == {} and set(groups.silent()) == {"a1", "b1"}
    assert heard.reports == [] and heard.drained == []
    await rogue.leave()


async def test_a_link_that_claimed_too_early_is_cut_when_the_truth_is_known(
    leader: tuple[RouterGroups, RecordedReports, Authority, int],
) -> None:
    groups, heard, authority, port = leader
    rogue = await FakeGroup("rogue", ("a1",), authority.issue(ROUTER), pod="pod-b").join(port)
    await eventually(groups.linked)
    groups.expect({"a1": "pod-a"})
    async with asyncio.timeout(5):
        await rogue.ended.wait()
    await eventually(lambda: not groups.linked())
    honest = await FakeGroup("a", ("a1",), authority.issue(ROUTER), pod="pod-a").join(port)
    honest.say(usage("a1"))
    await eventually(lambda: heard.reports)
    for group in (rogue, honest):
        await group.leave()


async def test_counts_of_a_worker_that_is_not_ones_own_are_left_out(
    leader: tuple[RouterGroups, RecordedReports, Authority, int],
) -> None:
    _, heard, authority, port = leader
    group = await FakeGroup("b", ("b1",), authority.issue(ROUTER), pod="pod-b").join(port)
    group.say(usage("a1"), usage("b1"))
    await eventually(lambda: heard.reports)
    assert [report.worker for report in heard.reports] == ["b1"]
    await group.leave()
