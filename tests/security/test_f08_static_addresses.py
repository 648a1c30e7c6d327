"""F8: a static replica must lie in the allowed networks, judged by the connected address."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cluster.kubernetes.client.cache import ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.paths import ENDPOINTS
from cluster.kubernetes.discovery import Discovery
from cluster.kubernetes.objects.scoring_endpoint import static_replicas
from cluster.link import RemoveReplica, ResetAll, SetOwnPods, UpsertReplica
from cluster.local import health_prober as nurse
from cluster.local.local_provider import LocalProvider
from cluster.local.probe import ProbeOutcome, ProbeSign
from cluster.lookup import AddressRefused, OwnAddresses, permitted
from router.core.view import Member, View
from router.proxy.static_addresses import StaticAddresses
from router.settings import SettingError
from router.supervisor_messages import SetView
from scorefront.static_networks import destinations, own_names, ports_of, worker_arguments
from scorefront.worker_process import _statics
from serving.credentials import TokenTrust
from serving.destinations import LOOPBACK, Destinations, networks
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from tests.fakes.clock import eventually
from tests.fakes.cluster import Leadership, scoring_endpoint
from tests.integration.router.clients import get
from tests.integration.router.conftest import rigs
from tests.integration.router.replicas import Replica, answers
from tests.integration.router.rig import Rig, declared
from tests.unit.deploy.conftest import ROOT
from tests.unit.serving.documents import document, version

__all__ = ["rigs"]

Rigs = Callable[..., Awaitable[Rig]]
EVERYWHERE = networks("0.0.0.0/0, ::/0")
NOBODY = OwnAddresses()

# ---- the rule

NEVER = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::a9fe:a9fe%eth0", "::ffff:169.254.169.254"),
    *("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.255.255.250", "ff02::1", "::ffff:224.0.0.1"),
    *("255.255.255.255", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"),
]


@pytest.mark.parametrize("in_cluster", [False, True])
@pytest.mark.parametrize("host", NEVER)
def test_some_addresses_are_refused_for_any_allowed_networks(host: str, in_cluster: bool) -> None:
    refusal = Destinations(EVERYWHERE, in_cluster).refusal(host, 80, NOBODY)
    assert host in refusal
    assert "never allowed" in refusal


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"]
)
def test_loopback_is_refused_in_a_cluster(host: str) -> None:
    assert "never allowed" in Destinations(EVERYWHERE, in_cluster=True).refusal(host, 80, NOBODY)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_the_default_of_one_machine(host: str) -> None:
    assert Destinations().refusal(host, 9400, NOBODY) == ""


def test_an_address_outside_the_list_is_refused_in_words_that_name_the_setting() -> None:
    allowed = Destinations(networks("10.1.0.0/16, fd12::/64"), in_cluster=True)
    for host in ("10.1.2.3", "fd12::5", "::ffff:10.1.2.3"):
        assert allowed.refusal(host, 80, NOBODY) == ""
    for host in ("10.0.0.5", "fd13::5", "8.8.8.8"):
        told = f"replica address {host} is not in an allowed network (SCOREFRONT_STATIC_CIDRS)"
        assert allowed.refusal(host, 80, NOBODY) == told


def test_the_setting_has_a_default_for_each_place_and_names_the_fault() -> None:
    assert destinations({}, in_cluster=False) == Destinations(LOOPBACK)
    assert destinations({}, in_cluster=True).off
    assert destinations({"SCOREFRONT_STATIC_CIDRS": ""}, in_cluster=False).off
    known = destinations({"SCOREFRONT_STATIC_CIDRS": "10.1.2.3,10.2.0.0/16"}, in_cluster=True)
    assert known.networks == (ipaddress.ip_network("10.1.2.3/32"), ipaddress.ip_network("10.2.0.0/16"))
    for wrong in ("10.0.0.1/8", "everywhere", "10.0.0.0/33"):
        with pytest.raises(SettingError, match=r"SCOREFRONT_STATIC_CIDRS: must be networks .* \(got"):
            destinations({"SCOREFRONT_STATIC_CIDRS": wrong}, in_cluster=True)


# ---- scorefront's own objects


def judged(own: OwnAddresses, host: str, port: int, in_cluster: bool = False) -> str:
    return Destinations(EVERYWHERE, in_cluster).refusal(host, port, own)


def test_on_one_machine_its_ports_and_those_of_its_replicas_are_refused_at_every_address_of_it() -> None:
    own = OwnAddresses([8081])
    own.put("rose-1", "127.0.0.1", 24001)
    for port in (8081, 24001):
        for host in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
            assert "never allowed" in judged(own, host, port)
        assert judged(own, "192.0.2.7", port) == ""
    own.drop("rose-1")
    assert judged(own, "127.0.0.1", 24001) == ""


def test_in_a_cluster_pods_of_endpoints_and_of_the_installation_are_refused_on_every_port() -> None:
    own = OwnAddresses(in_cluster=True)
    own.put("rose-1", "10.0.0.7", 5001)
    own.put("rose-2", "10.0.0.7", 5001)
    own.set_hosts("pods", ["10.0.0.8"])
    for host in ("10.0.0.7", "10.0.0.8", "::ffff:10.0.0.8"):
        assert "never allowed" in judged(own, host, 80, in_cluster=True)
    own.drop("rose-1")
    assert judged(own, "10.0.0.7", 80, in_cluster=True)
    own.keep([])
    own.set_hosts("pods", [])
    assert judged(own, "10.0.0.7", 80, in_cluster=True) == judged(own, "10.0.0.8", 80, in_cluster=True) == ""


def test_discovery_gives_workers_the_installations_own_pods() -> None:
    discovery = Discovery()

    def pod(name: str, address: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "home"}, "status": {"podIP": address} if address else {}}

    assert discovery.own_changes(ObjectsListed((pod("a", "10.0.0.1"), pod("b", "")))) == [SetOwnPods(("10.0.0.1",))]
    assert discovery.own_changes(ObjectPut(pod("b", "10.0.0.2"))) == [SetOwnPods(("10.0.0.1", "10.0.0.2"))]
    assert discovery.own_changes(ObjectPut(pod("b", "10.0.0.2"))) == []
    assert discovery.own_changes(ObjectGone(pod("a", "10.0.0.1"))) == [SetOwnPods(("10.0.0.2",))]
    assert discovery.snapshot().own_pods == ("10.0.0.2",)


# ---- a router worker


async def ask(rig: Rig) -> int:
    client = await rig.client()
    return (await client.ask(get())).status


async def started(rig: Rig, replica_id: str = "s1", host: str = "127.0.0.1", port: int = 0) -> Replica:
    replica = Replica(answers())
    await replica.start()
    rig.replicas[replica_id] = replica
    known = replace(declared(replica_id, port or replica.port), host=host, static=True)
    rig.tell(UpsertReplica(known))
    return replica


async def test_a_refused_address_is_not_connected_to_and_no_slot_is_lost(
    rigs: Rigs, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await rigs()
    rig.gateway.pool.statics = StaticAddresses(Destinations(networks("10.1.0.0/16")))
    replica = await started(rig)
    with caplog.at_level(logging.WARNING):
        assert await ask(rig) == 503
    assert "replica address 127.0.0.1 is not in an allowed network (SCOREFRONT_STATIC_CIDRS)" in caplog.text
    assert replica.connections == 0
    assert rig.busy() == 0


async def test_an_allowed_address_is_served(rigs: Rigs) -> None:
    rig = await rigs()
    await started(rig)
    assert await ask(rig) == 200


async def test_the_port_of_a_replica_that_scorefront_runs_is_refused(rigs: Rigs) -> None:
    rig = await rigs()
    own = await rig.replica(version="green")
    rig.tell(UpsertReplica(replace(declared("s1", own.port), static=True)))
    assert await ask(rig) == 503
    assert own.connections == 0
    rig.remove(own)


async def test_a_name_is_looked_up_once_per_connection_and_the_judged_address_is_connected_to(
    rigs: Rigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stands for another address the next time (DNS rebinding) gains nothing."""
    rig = await rigs()
    replica = await started(rig, host="rebind.test")
    addresses, asked = iter(["127.0.0.1", *["169.254.169.254"] * 100]), 0

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(addresses), port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    client = await rig.client()
    assert (await client.ask(get())).status == 200
    assert (await client.ask(get())).status == 200
    assert asked == 1, "a connection that is kept is judged once"
    replica.hang_up()
    await eventually(lambda: not rig.gateway.pool._idle.get("s1"))
    assert (await client.ask(get())).status == 503
    assert len(replica.seen) == 2


async def test_of_several_addresses_only_those_that_are_allowed_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: Any, port: Any, **_: Any) -> list[Any]:
        found = ["169.254.169.254", "10.1.0.5", "10.1.0.5", "10.2.0.5"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    allowed = Destinations(networks("10.1.0.0/16"), in_cluster=True)
    assert await permitted("model.test", 80, allowed, NOBODY) == ["10.1.0.5"]
    with pytest.raises(
        AddressRefused, match=r"169\.254\.169\.254 is never allowed: it is link-local; model\.test has it"
    ):
        await permitted("model.test", 80, Destinations(networks("10.9.0.0/16")), NOBODY)
    with pytest.raises(AddressRefused, match="SCOREFRONT_STATIC_CIDRS names no network"):
        await permitted("model.test", 80, Destinations(()), NOBODY)


@pytest.mark.parametrize("disguise", ["0x7f000001", "0x7f.1"])
async def test_a_name_that_spells_an_address_is_judged_as_that_address(disguise: str) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1|[Nn]ame|known"):
        await permitted(disguise, 80, Destinations(networks("10.0.0.0/8"), in_cluster=True), NOBODY)


async def test_a_worker_knows_pods_peers_and_services_as_its_own(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs()
    own = rig.worker._own
    rig.tell(SetOwnPods(("127.1.0.1",)))
    assert own(ipaddress.ip_address("127.1.0.1"), 80)
    rig.tell(ResetAll((), (), TokenTrust("x"), (), ("127.1.0.2",)))
    assert own(ipaddress.ip_address("127.1.0.2"), 80)
    assert not own(ipaddress.ip_address("127.1.0.1"), 80)
    rig.tell(UpsertReplica(declared("r9", 4711)))
    assert own(ipaddress.ip_address("127.0.0.1"), 4711)
    rig.tell(RemoveReplica("r9"))
    assert not own(ipaddress.ip_address("127.0.0.1"), 4711)

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> list[Any]:
        if host != "scorefront-control.home.svc":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.96.0.9", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    names = own_names("home", {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    statics = StaticAddresses(Destinations(networks("10.0.0.0/8"), in_cluster=True), own_names=names)
    for host in ("10.96.0.1", "10.96.0.9"):
        with pytest.raises(AddressRefused, match="never allowed"):
            await statics.resolve(host, 443, 0.0)
    assert await statics.resolve("10.96.0.7", 443, 0.0) == ["10.96.0.7"]


def test_a_view_of_the_peers_is_taken_over() -> None:
    own = OwnAddresses(in_cluster=True)
    view = View(1, (Member("w1", "10.0.0.3:40001", True), Member("w2", "[fd00::3]:40001", True)))
    own.set_hosts("peers", [member.address.rpartition(":")[0].strip("[]") for member in SetView(view).view.members])
    assert own(ipaddress.ip_address("10.0.0.3"), 8082)
    assert own(ipaddress.ip_address("fd00::3"), 8082)


async def test_a_worker_process_gets_the_rule_of_its_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listen:
        ports = ports_of(listen, None)
        told = dict(each.split("=", 1) for each in worker_arguments(Destinations(), own_ports=ports))
        laptop = _statics(told["--static-cidrs"], told["--own-ports"], told.get("--own-names", ""))
        with pytest.raises(AddressRefused, match="never allowed"):
            await laptop.resolve("127.0.0.1", ports[0], 0.0)
        assert await laptop.resolve("127.0.0.1", 1, 0.0) == ["127.0.0.1"]
    told = dict(each.split("=", 1) for each in worker_arguments(Destinations((), True), own_names=["10.96.0.1"]))
    with pytest.raises(AddressRefused, match="SCOREFRONT_STATIC_CIDRS"):
        await _statics(told["--static-cidrs"], "", told["--own-names"]).resolve("10.0.0.5", 80, 0.0)


# ---- declaration


def endpoint_at(*addresses: str) -> Any:
    return to_endpoint(parse(document(version(replica={"static": list(addresses)}))))


async def test_up_refuses_a_declared_address_by_its_place(tmp_path: Any) -> None:
    provider = LocalProvider(tmp_path, own_ports=[8081])
    faults = provider.check(
        endpoint_at("127.0.0.1:9400", "10.0.0.5:80", "127.0.0.1:8081", "model.test:80", "[fe80::1]:80")
    )
    assert [fault.path for fault in faults] == [f"spec.versions[0].replica.static[{index}]" for index in (1, 2, 4)]
    assert faults[0].rule == "replica address 10.0.0.5 is not in an allowed network (SCOREFRONT_STATIC_CIDRS)"
    assert faults[0].value == "10.0.0.5:80"


async def test_a_probe_goes_to_the_judged_address_and_has_the_reason_of_a_refusal() -> None:
    probed: list[tuple[str, str]] = []

    async def get(host: str, port: int, path: str, timeout_s: float, named: str = "") -> ProbeOutcome:
        probed.append((host, named))
        return ProbeOutcome(ProbeSign.WELL)

    site: Any = SimpleNamespace(allowed=Destinations(), own=OwnAddresses([8081]), prober=SimpleNamespace(get=get))
    replica = SimpleNamespace(health_path="/", host_header="")

    async def probe(host: str, port: int) -> ProbeOutcome:
        patient: Any = SimpleNamespace(host=host, port=port, version=SimpleNamespace(replica=replica))
        return await nurse._get_static(patient, site, 2.0)

    assert (await probe("127.0.0.1", 9400)).sign is ProbeSign.WELL
    assert probed == [("127.0.0.1", "127.0.0.1:9400")]
    for host, port in (("127.0.0.1", 8081), ("10.0.0.5", 80), ("169.254.169.254", 80)):
        outcome = await probe(host, port)
        assert outcome.sign is ProbeSign.BAD
        assert "replica address" in outcome.text
    assert len(probed) == 1


def test_in_a_cluster_it_is_a_condition_by_kubectl_and_a_fault_by_rest() -> None:
    async def scenario() -> None:
        leader = await Leadership().start()
        for address in ("10.0.0.5:80", "169.254.169.254:80", "127.0.0.1:8082"):
            with pytest.raises(InvalidManifest, match=r"replica\.static\[0\]: replica address"):
                await leader.plane.endpoints.apply(document(version(replica={"static": [address]})))
        hostile = scoring_endpoint(versions=[{"name": "blue", "replica": {"static": ["169.254.169.254:80"]}}])
        leader.kubernetes.put(ENDPOINTS, hostile)
        await leader.settle(12)
        [found] = leader.kubernetes.all(ENDPOINTS)
        told = found["status"]["conditions"]
        assert any(each["reason"] == "Invalid" and "link-local" in each["message"] for each in told)
        await leader.stop()

    asyncio.run(scenario())


def test_replicas_from_declared_addresses_are_marked_as_static() -> None:
    assert [replica.static for replica in static_replicas(endpoint_at("10.9.0.1:80"))] == [True]


def test_routers_cannot_reach_link_local_addresses_under_enforced_policies() -> None:
    policy = yaml.safe_load((ROOT / "deploy/components/network-policy/router.yaml").read_text(encoding="utf-8"))
    assert "Egress" in policy["spec"]["policyTypes"]
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule.get("to", ()) if "ipBlock" in to]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks
    anywhere = [rule["ports"] for rule in policy["spec"]["egress"] if "to" not in rule]
    assert {port["port"] for ports in anywhere for port in ports} == {53, 443, 6443}
