"""F22: routers and control processes have identities of their own, with renewal and immediate revocation."""

import base64
import contextlib
import datetime
import socket
import ssl
from pathlib import Path
from typing import cast

import pytest
import yaml

from cluster.kubernetes.certificates import SPREAD
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import SECRETS, path
from cluster.kubernetes.peer_certificates import AUTHORITY_SECRET, PEERS_SECRET, ROTATE, PeersIdentity
from cluster.trust import CONTROL, ROUTER, Trust, names
from controlplane.router_groups import RouterGroups
from router.core.view import Member
from router.peers.peer_identity import covers
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.router_group import FakeGroup
from tests.fakes.router_reports import RecordedReports
from tests.integration.router.test_uplink import Leader, Rig, hold

DEPLOY = Path(__file__).parents[2] / "deploy"
NOW = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)


class Installation:
    """The Secrets of an installation, and the control process that looks after them; its time is in the test's hand."""

    def __init__(self, folder: Path) -> None:
        self.api = FakeKubernetes()
        self.now = NOW
        self._folder = folder
        (folder / "control").mkdir()
        self.control = PeersIdentity(cast(Api, self.api), folder / "control", lambda: self.now, "10.0.0.7")

    def mounted(self, name: str) -> Trust:
        """The Secret of the routers as a pod has it at this moment."""
        folder = self._folder / name
        folder.mkdir()
        for file, value in self.api.must_find(SECRETS, PEERS_SECRET)["data"].items():
            (folder / file).write_bytes(base64.b64decode(value))
        return Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")

    async def rotate(self, secret: str) -> None:
        """As `kubectl annotate` asks for it."""
        where = path(SECRETS, "home", secret)
        await self.api.merge(where, {"metadata": {"annotations": {ROTATE: "now"}}})
        await self.control.ensure()
        assert ROTATE not in self.api.must_find(SECRETS, secret)["metadata"]["annotations"], "it is done once"


def shakes_hands(client: Trust, server: Trust) -> tuple[str, ...]:
    """The names that the client shows, once both have verified the other. Raises ssl.SSLError."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.context(server=False).wrap_bio(incoming, outgoing, server_hostname="x")
    theirs = server.context(server=True).wrap_bio(outgoing, incoming, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    certificate = theirs.getpeercert()
    assert certificate is not None
    return names(certificate)


async def test_the_routers_secret_holds_no_key_of_control(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    await made.control.ensure()
    assert shakes_hands(made.mounted("router"), made.control.trust) == (ROUTER,)
    assert CONTROL in shakes_hands(made.control.trust, made.mounted("other"))
    for secret in (PEERS_SECRET, AUTHORITY_SECRET):
        kept = made.api.must_find(SECRETS, secret)["data"].values()
        assert base64.b64encode(made.control.trust.key.read_bytes()).decode() not in kept


def test_a_router_mounts_its_own_certificate_only_and_reads_no_secret() -> None:
    roles = [each for each in yaml.safe_load_all((DEPLOY / "base" / "rbac.yaml").read_text()) if "rules" in each]
    for role in roles:
        if "router" in role["metadata"]["name"]:
            assert not any("secrets" in rule["resources"] for rule in role["rules"])
    (router,) = (
        each
        for each in yaml.safe_load_all((DEPLOY / "base" / "router.yaml").read_text())
        if each["kind"] == "Deployment"
    )
    volumes = router["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] == [PEERS_SECRET]


async def test_a_router_takes_no_orders_from_a_peer_with_a_router_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
    try:
        impostor = Leader(rig.trust, 1)
        rig.leaders.append(impostor)
        hold(rig.kubernetes, impostor.port, 1)
        await eventually(lambda: f"its certificate is for {ROUTER}, not for {CONTROL}" in caplog.text)
        assert not rig.uplink.linked and impostor.groups.linked() == {}
        rig.leader(2)
        await eventually(lambda: rig.uplink.linked)
    finally:
        await rig.stop()


async def test_the_leader_links_with_routers_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    groups = RouterGroups(1, authority.issue(CONTROL))
    groups.report_to(RecordedReports())
    groups.open(sock)
    stranger = FakeGroup("a", ("a1",), authority.issue("model.example.com"))
    with contextlib.suppress(OSError):
        await stranger.join(sock.getsockname()[1])
        await stranger.ended.wait()
    await stranger.leave()
    assert groups.counters["groups_refused"] == 1 and groups.linked() == {}
    await groups.close()


@pytest.mark.parametrize(("shown", "is_peer"), [(ROUTER, True), (CONTROL, False), ("scorefront-peers", False)])
def test_workers_link_with_routers_only(shown: str, is_peer: bool) -> None:
    assert covers({"subjectAltName": (("DNS", shown),)}, Member("a1", "10.0.0.8:7000")) is is_peer


async def test_a_rotated_certificate_is_in_use_now_and_both_are_trusted(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    await made.control.ensure()
    before = made.mounted("before")
    made.now += datetime.timedelta(days=1)
    await made.rotate(PEERS_SECRET)
    after = made.mounted("after")
    assert before.key.read_bytes() != after.key.read_bytes()
    assert shakes_hands(before, after) == shakes_hands(after, before) == (ROUTER,)


async def test_a_rotated_authority_makes_a_leaked_key_worthless_and_no_link_fails_meanwhile(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    await made.control.ensure()
    leaked = before = made.mounted("leaked")
    made.now += datetime.timedelta(days=1)
    await made.rotate(AUTHORITY_SECRET)
    for step in range(4):
        mounted = made.mounted(f"step-{step}")
        for one, other in ((before, mounted), (mounted, before), (mounted, made.control.trust)):
            assert shakes_hands(one, other) == (ROUTER,)
        before = mounted
        made.now += SPREAD
        await made.control.ensure()
    with pytest.raises(ssl.SSLError):
        shakes_hands(leaked, made.mounted("last"))
    with pytest.raises(ssl.SSLError):
        shakes_hands(leaked, made.control.trust)


async def test_a_standby_writes_nothing_and_trusts_the_same(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    (tmp_path / "standby").mkdir()
    standby = PeersIdentity(cast(Api, made.api), tmp_path / "standby", lambda: made.now, "10.0.0.8")
    assert not await standby.follow() and made.api.calls == []
    await made.control.ensure()
    written = len(made.api.calls)
    assert await standby.follow() and len(made.api.calls) == written
    assert CONTROL in shakes_hands(standby.trust, made.control.trust)
    assert standby.trust.key.read_bytes() != made.control.trust.key.read_bytes()
