"""A group of workers and the leaders of a cluster: real links with certificates, a Lease that changes hands."""

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import LEASES
from cluster.trust import CONTROL, ROUTER, Trust
from controlplane.router_groups import RouterGroups
from scorefront.cluster_names import LEASE
from scorefront.process.process_main import ProcessClock
from scorefront.router.uplink import Uplink, leader_of
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage, Work
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.router_reports import RecordedReports

BLUE = VersionKey("iris", "blue")


def hold(kubernetes: FakeKubernetes, port: int, fence: int, uid: str = "1") -> None:
    """Let a leader with a link on `port` acquire the Lease with this uid."""
    metadata = {"name": LEASE, "uid": uid, "annotations": {"scorefront.io/link": f"127.0.0.1:{port}"}}
    kubernetes.put(LEASES, {"metadata": metadata, "spec": {"holderIdentity": "leader", "leaseTransitions": fence}})


class Leader(RecordedReports):
    """A leader with a record of its reports."""

    def __init__(self, trust: Trust, fence: int) -> None:
        super().__init__()
        self.busy: dict[str, dict[VersionKey, int]] = defaultdict(dict)
        self.groups = RouterGroups(fence, trust)
        self.groups.report_to(self)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.groups.open(self._sock)

    def usage_reported(self, report: UsageReport) -> None:
        self.busy[report.worker].update({usage.key: usage.busy for usage in report.versions})

    async def close(self) -> None:
        await self.groups.close()
        self._sock.close()


class Crew:
    """A group of workers."""

    group = "group-1"

    def __init__(self) -> None:
        self.wanted = 2
        self.sizes: list[int] = []

    def work(self) -> Mapping[str, Work]:
        return {"w1": Work(1.0, 1, 0.0, 0.0, 0, 0.0)}

    def is_even(self) -> bool:
        return True

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        return [f"replica-{number}" for number in range(count)] if key == BLUE else []

    async def resize(self, count: int) -> None:
        self.wanted = count
        self.sizes.append(count)


def report(worker: str, busy: int, key: VersionKey = BLUE) -> UsageReport:
    return UsageReport(worker, time.monotonic(), (VersionUsage(*key, busy, 4, 0, 0.0, {}),))


class Rig:
    def __init__(self, folder: Path, resizes: bool = True) -> None:
        authority = Authority(folder)
        self.trust, self.control_trust = authority.issue(ROUTER), authority.issue(CONTROL)
        self.kubernetes = FakeKubernetes(controllers=False)
        self.crew = Crew()
        self.uplink = Uplink(
            cast(Api, self.kubernetes),
            *("pod-1", self.trust, ProcessClock(), lambda: 0.5, lambda: 4, resizes),
        )
        self.leaders: list[Leader] = []
        self._running = asyncio.create_task(self.uplink.run(self.crew), name="uplink")

    def leader(self, fence: int, takes_over: bool = True) -> Leader:
        made = Leader(self.control_trust, fence)
        self.leaders.append(made)
        if takes_over:
            hold(self.kubernetes, made.port, fence)
        return made

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        for leader in self.leaders:
            await leader.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await asyncio.sleep(0)
    yield made
    await made.stop()


async def test_a_leader_gets_workers_and_usage_and_then_every_change(rig: Rig) -> None:
    rig.uplink.usage_reported(report("w1", 1))
    rig.uplink.workers_expected(["w1"])
    leader = rig.leader(1)
    await eventually(lambda: leader.busy["w1"] == {BLUE: 1})
    rig.uplink.usage_reported(report("w1", 3))
    rig.uplink.replica_drained("replica")
    await eventually(lambda: leader.busy["w1"] == {BLUE: 3} and leader.drained == ["replica"])
    rig.uplink.workers_expected(["w1", "w2"])
    rig.uplink.usage_reported(report("w2", 2))
    await eventually(lambda: leader.busy["w2"] == {BLUE: 2})
    rig.uplink.worker_ended("w1")
    await eventually(lambda: leader.gone == ["w1"] and set(leader.workers) == {"w2"})


async def test_another_leader_gets_everything_anew(rig: Rig) -> None:
    rig.uplink.workers_expected(["w1"])
    first = rig.leader(1)
    rig.uplink.usage_reported(report("w1", 1, VersionKey("rose", "red")))
    rig.uplink.usage_reported(report("w1", 2))
    rig.uplink.replica_drained("drained-before")
    rig.uplink.replica_drained("stopped")
    rig.uplink.on_replica_gone("stopped")
    await eventually(lambda: len(first.busy["w1"]) == 2)
    second = rig.leader(2)
    await eventually(lambda: second.busy["w1"] == {BLUE: 2, VersionKey("rose", "red"): 1})
    assert second.drained == ["drained-before"]
    await eventually(lambda: not first.workers)


async def test_a_link_that_breaks_is_made_again(rig: Rig) -> None:
    rig.uplink.workers_expected(["w1"])
    leader = rig.leader(1)
    await eventually(lambda: rig.uplink.linked)
    await leader.groups.close()
    await eventually(lambda: not rig.uplink.linked)
    again = RouterGroups(1, rig.control_trust)
    again.report_to(leader)
    leader.groups = again
    leader._sock.close()
    leader._sock = socket.create_server(("127.0.0.1", leader.port))
    again.open(leader._sock)
    await eventually(lambda: set(leader.workers) == {"w1"}, within_s=10)


async def test_a_former_leader_is_not_obeyed_any_more(rig: Rig) -> None:
    rig.uplink.workers_expected(["w1"])
    rig.leader(5)
    await eventually(lambda: rig.uplink.linked)
    old = rig.leader(4)
    await eventually(lambda: not rig.uplink.linked)
    await asyncio.sleep(1)
    assert not old.workers


async def test_a_leader_of_a_lease_that_was_made_anew_is_obeyed_although_its_number_is_lower(rig: Rig) -> None:
    first = rig.leader(7)
    rig.uplink.workers_expected(["w1"])
    await eventually(lambda: list(first.workers) == ["w1"])
    second = rig.leader(1, takes_over=False)
    hold(rig.kubernetes, second.port, 1, uid="2")
    await eventually(lambda: list(second.workers) == ["w1"])


async def test_replicas_are_retired_by_the_group_that_owns_the_version(rig: Rig) -> None:
    rig.uplink.workers_expected(["w1"])
    leader = rig.leader(1)
    await eventually(lambda: bool(leader.workers))
    assert list(await leader.groups.retire(BLUE, 2)) == ["replica-0", "replica-1"]
    assert list(await leader.groups.retire(VersionKey("rose", "red"), 2)) == []


@pytest.mark.parametrize("resizes", [True, False])
async def test_the_leader_sets_the_number_of_workers_unless_it_was_chosen(tmp_path: Path, resizes: bool) -> None:
    rig = Rig(tmp_path, resizes)
    leader = rig.leader(1)
    await eventually(lambda: rig.uplink.linked)
    leader.groups.resize(9)
    if resizes:
        await eventually(lambda: rig.crew.sizes == [4])
    else:
        await asyncio.sleep(0.5)
        assert rig.crew.sizes == []
    await rig.stop()


def test_a_lease_without_a_holder_or_an_address_has_no_leader() -> None:
    annotations = {"scorefront.io/link": "10.0.0.1:8083"}
    held = {"metadata": {"annotations": annotations}, "spec": {"holderIdentity": "a", "leaseTransitions": 3}}
    found = leader_of(held)
    assert found is not None
    assert (str(found.address), found.fence) == ("10.0.0.1:8083", 3)
    assert leader_of(None) is None
    assert leader_of({**held, "spec": {"holderIdentity": ""}}) is None
    assert leader_of({**held, "metadata": {}}) is None
    assert leader_of({**held, "metadata": {"annotations": {"scorefront.io/link": "here"}}}) is None
