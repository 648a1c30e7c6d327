"""F26: one address without a certificate does not block the links of others; policies hold in namespaces of
endpoints.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.trust import ROUTER
from cluster.unauthenticated import UnauthenticatedConnections
from controlplane.router_groups import MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS, RouterGroups
from router.peers import peer_listener
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.router_group import FakeGroup
from tests.fakes.router_reports import RecordedReports


def admit(strangers: UnauthenticatedConnections[int], connection: int, address: str) -> int | None:
    victim = strangers.to_evict(address)
    if victim is not None:
        assert strangers.discard(victim)
    strangers.add(connection, address)
    return victim


def test_an_address_crowds_out_its_own_connections_oldest_first() -> None:
    strangers: UnauthenticatedConnections[int] = UnauthenticatedConnections(64, 8)
    told = [admit(strangers, number, "rogue") for number in range(100)]
    assert told == [None] * 8 + list(range(92))
    assert len(strangers) == 8 and admit(strangers, 1000, "router") is None


def test_a_full_table_makes_room_at_the_most_frequent_address() -> None:
    strangers: UnauthenticatedConnections[int] = UnauthenticatedConnections(10, 8)
    for number in range(8):
        admit(strangers, number, "rogue")
    assert admit(strangers, 100, "a") is None and admit(strangers, 101, "b") is None
    assert [admit(strangers, number, str(number)) for number in (102, 103, 104)] == [0, 1, 2]
    assert len(strangers) == 10


def test_processes_of_this_machine_have_no_share() -> None:
    strangers: UnauthenticatedConnections[int] = UnauthenticatedConnections(10, 2)
    assert [admit(strangers, number, "") for number in range(12)] == [None] * 10 + [0, 1]


def test_one_that_is_known_makes_no_room_and_is_discarded_once() -> None:
    strangers: UnauthenticatedConnections[int] = UnauthenticatedConnections(2, 2)
    strangers.add(1, "a")
    assert strangers.discard(1) and not strangers.discard(1)
    assert len(strangers) == 0 and list(strangers) == []


def test_the_shares_leave_room_for_a_whole_group() -> None:
    assert MAX_UNAUTHENTICATED_PER_ADDRESS * 2 <= MAX_UNAUTHENTICATED
    assert 2 * 64 <= peer_listener.MAX_UNAUTHENTICATED_PER_ADDRESS < peer_listener.MAX_UNAUTHENTICATED


async def test_a_silent_crowd_does_not_keep_a_router_from_its_leader(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leader = RouterGroups(fence=1, trust=authority.issue(ROUTER))
    leader.report_to(RecordedReports())
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    leader.open(sock)
    port = sock.getsockname()[1]
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_UNAUTHENTICATED + 20)]
    await eventually(
        lambda: leader.counters["groups_refused"] >= MAX_UNAUTHENTICATED + 20 - MAX_UNAUTHENTICATED_PER_ADDRESS
    )
    assert len(leader._unauthenticated) == MAX_UNAUTHENTICATED_PER_ADDRESS
    group = await FakeGroup("a", ("a1",), authority.issue(ROUTER)).join(port)
    await eventually(leader.linked, within_s=3.0)
    for _, writer in crowd:
        writer.close()
    await group.leave()
    await leader.close()


COMPONENTS = Path(__file__).parents[2] / "deploy" / "components"


def policy(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def test_a_further_namespace_gets_the_policy_of_the_first_with_the_routers_namespace_named() -> None:
    first = policy(COMPONENTS / "network-policy" / "replicas.yaml")
    further = policy(COMPONENTS / "endpoint-namespace" / "replicas.yaml")
    (peer,) = further["spec"]["ingress"][0]["from"]
    assert peer.pop("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": "scorefront"}}
    assert further == first


def test_a_further_namespace_is_one_component(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    component = os.path.relpath(COMPONENTS / "endpoint-namespace", tmp_path)
    document = {"kind": "Kustomization", "namespace": "team-a", "components": [component]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(document))
    told = subprocess.run([kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True, check=True)
    found = {each["kind"]: each for each in yaml.safe_load_all(told.stdout)}
    assert found.keys() == {"NetworkPolicy", "RoleBinding"}
    assert {each["metadata"]["namespace"] for each in found.values()} == {"team-a"}
    assert found["RoleBinding"]["subjects"][0]["namespace"] == "scorefront"


def test_control_reaches_the_api_server_name_service_and_the_leader_only() -> None:
    egress = policy(COMPONENTS / "network-policy" / "control.yaml")["spec"]["egress"]
    ports = {port["port"] for rule in egress for port in rule["ports"]}
    assert ports == {53, 443, 6443, 8081}
    assert {port["port"] for port in egress[1]["ports"]} == {443, 6443}, "the rule that docs/kubernetes.md patches"
