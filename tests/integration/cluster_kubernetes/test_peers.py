"""The Secrets with the identities of an installation's processes, and the files for TLS."""

import base64
import datetime
import itertools
import socket
import stat
from pathlib import Path
from typing import cast

import pytest

from cluster.kubernetes.certificates import IDENTITY_LIFE, CertificateError
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import RequestRefused, WriteConflict
from cluster.kubernetes.client.paths import SECRETS
from cluster.kubernetes.peer_certificates import AUTHORITY_SECRET, PEERS_SECRET, PeersIdentity
from cluster.trust import Trust
from controlplane.router_groups import RouterGroups
from tests.fakes.clock import eventually
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.router_group import FakeGroup
from tests.fakes.router_reports import RecordedReports

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def api() -> FakeKubernetes:
    return FakeKubernetes()


def identity(api: FakeKubernetes, folder: Path, now: datetime.datetime = NOW) -> PeersIdentity:
    folder.mkdir(exist_ok=True)
    return PeersIdentity(cast(Api, api), folder, lambda: now, "10.0.0.7")


def mounted(api: FakeKubernetes, folder: Path) -> Trust:
    """The Secret as a router's pod has it."""
    folder.mkdir(exist_ok=True)
    for name, value in api.must_find(SECRETS, PEERS_SECRET)["data"].items():
        (folder / name).write_bytes(base64.b64decode(value))
    return Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


async def test_both_secrets_are_made_and_only_one_of_them_holds_the_key_of_the_authority(
    api: FakeKubernetes, tmp_path: Path
) -> None:
    made = identity(api, tmp_path / "a")
    await made.ensure()
    assert set(api.must_find(SECRETS, PEERS_SECRET)["data"]) == {"ca.crt", "tls.crt", "tls.key"}
    assert set(api.must_find(SECRETS, AUTHORITY_SECRET)["data"]) == {"tls.crt", "tls.key"}
    assert (
        api.must_find(SECRETS, PEERS_SECRET)["data"]["ca.crt"]
        == api.must_find(SECRETS, AUTHORITY_SECRET)["data"]["tls.crt"]
    )
    for file in (made.trust.ca, made.trust.cert, made.trust.key):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = {value for each in api.all(SECRETS) for value in (each.get("data") or {}).values()}
    assert base64.b64encode(made.trust.key.read_bytes()).decode() not in kept, "that of control is kept nowhere"


async def test_a_second_look_changes_nothing(api: FakeKubernetes, tmp_path: Path) -> None:
    await identity(api, tmp_path / "a").ensure()
    before = api.all(SECRETS)
    await identity(api, tmp_path / "b").ensure()
    assert api.all(SECRETS) == before
    assert (tmp_path / "a" / "ca.crt").read_bytes() == (tmp_path / "b" / "ca.crt").read_bytes()


async def test_a_router_that_mounts_the_secret_is_linked_with_the_leader(api: FakeKubernetes, tmp_path: Path) -> None:
    ours = identity(api, tmp_path / "leader")
    await ours.ensure()
    theirs = mounted(api, tmp_path / "router")
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    groups = RouterGroups(1, ours.trust)
    groups.report_to(RecordedReports())
    groups.open(sock)
    group = await FakeGroup("a", ("a1",), theirs).join(sock.getsockname()[1])
    await eventually(groups.linked)
    await group.leave()
    await groups.close()


async def test_certificates_due_are_renewed_and_old_ones_stay_trusted_meanwhile(
    api: FakeKubernetes, tmp_path: Path
) -> None:
    await identity(api, tmp_path / "leader").ensure()
    old = mounted(api, tmp_path / "old")
    await identity(api, tmp_path / "again", NOW + 0.7 * IDENTITY_LIFE).ensure()
    new = mounted(api, tmp_path / "new")
    assert api.verbs(PEERS_SECRET) == ["merge", "merge"] and api.verbs(AUTHORITY_SECRET) == ["merge"]
    assert old.cert.read_bytes() != new.cert.read_bytes() and old.ca.read_bytes() == new.ca.read_bytes()


async def test_a_concurrent_write_of_the_secret_is_not_undone(api: FakeKubernetes, tmp_path: Path) -> None:
    await identity(api, tmp_path / "a").ensure()
    times = itertools.count()

    def meanwhile() -> datetime.datetime:
        """Change an object between read and write."""
        api.edit(SECRETS, PEERS_SECRET, {"metadata": {"labels": {"changed": str(next(times))}}})
        return NOW + 0.7 * IDENTITY_LIFE

    (tmp_path / "b").mkdir()
    with pytest.raises(WriteConflict):
        await PeersIdentity(cast(Api, api), tmp_path / "b", meanwhile, "10.0.0.7").ensure()


async def test_a_spoilt_secret_is_reported_and_not_overwritten(api: FakeKubernetes, tmp_path: Path) -> None:
    api.edit(SECRETS, PEERS_SECRET, {"data": {"tls.crt": "AAAA"}})
    with pytest.raises(CertificateError, match=r"Secret scorefront-peers is damaged: 'ca\.crt' is missing"):
        await identity(api, tmp_path / "a").ensure()
    assert api.calls == []


async def test_an_empty_secret_is_filled(api: FakeKubernetes, tmp_path: Path) -> None:
    await identity(api, tmp_path / "a").ensure()
    assert api.verbs(PEERS_SECRET) == ["merge"]


async def test_a_missing_right_is_reported(api: FakeKubernetes, tmp_path: Path) -> None:
    api.failures[AUTHORITY_SECRET] = RequestRefused("secrets is forbidden", 403)
    with pytest.raises(RequestRefused):
        await identity(api, tmp_path / "a").ensure()
