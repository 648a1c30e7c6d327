"""F10: tokens name the incarnation of their endpoint; they die when it is deleted, and when they are revoked."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.client.cache import ObjectPut
from cluster.kubernetes.client.paths import ENDPOINTS, EVENTS, SECRETS
from cluster.kubernetes.discovery import Discovery
from cluster.kubernetes.slim_objects import endpoint_for_routers as kept
from cluster.link import RemoveEndpoint, ResetAll, SetKeys, SetTrust, ToWorker, UpsertEndpoint
from controlplane.control_errors import ConflictingChange, NoSuchEndpoint, StoreError
from controlplane.keys import KeyType
from controlplane.tokens import IssuedToken, TokenAlgorithm, new_keyring
from router.core.authorization import Tokens, authorize
from router.core.router_errors import Forbidden, RouterError, Unauthorized
from router.core.table import Table
from serving.credentials import KeyDigests
from tests.fakes.cluster import Leadership, scoring_endpoint
from tests.fakes.plane import Bench, manifest

NOW = 1_700_000_000
TOKENS = {"tokenAuthEnabled": True}


def fed(messages: list[ToWorker]) -> Table:
    """The table of a router that was told these messages."""
    table = Table()
    for message in messages:
        match message:
            case ResetAll():
                table.set_trust(message.trust)
                for keys in message.keys:
                    table.set_keys(keys)
                for endpoint in message.endpoints:
                    table.upsert(endpoint)
            case UpsertEndpoint(endpoint):
                table.upsert(endpoint)
            case RemoveEndpoint(name):
                table.remove(name)
            case SetKeys(keys):
                table.set_keys(keys)
            case SetTrust(trust):
                table.set_trust(trust)
    return table


def answer(table: Table, credential: str, now: float, name: str = "iris") -> int:
    """The status that a request with this credential gets, 200 if it may reach the endpoint."""
    try:
        route = table.match(b"/api/v1/service/%b/score" % name.encode()).route
        authorize(route.auth, route.keys, (b"Bearer " + credential.encode(),), table.tokens, now)
    except RouterError as error:
        return error.status
    return 200


class Laptop:
    """A control plane on a state directory, and the answers of its routers."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def declare(self, name: str = "iris", **spec: Any) -> None:
        await self.bench.apply(manifest(name, **(spec or TOKENS)))

    def token(self, name: str = "iris") -> str:
        return self.bench.plane.endpoints.token(name).access_token

    def answer(self, credential: str, name: str = "iris") -> int:
        # Incremental messages to a router and the snapshot for a new worker must lead to the same state.
        told, whole = fed(self.bench.routers.published), fed([self.bench.plane.snapshot()])
        now = self.bench.clock.wall()
        first = answer(told, credential, now, name)
        assert first == answer(whole, credential, now, name)
        return first

    def file(self, name: str = "iris") -> Path:
        return Path(self.bench.directory) / "endpoints" / f"{name}.json"


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncIterator[Laptop]:
    made = Laptop(await Bench(tmp_path / "state").start())
    yield made
    await made.bench.plane.stop()


# ---- one machine


async def test_a_token_of_a_deleted_endpoint_does_not_open_a_new_one_of_its_name(laptop: Laptop) -> None:
    await laptop.declare()
    old = laptop.token()
    assert laptop.answer(old) == 200
    await laptop.bench.plane.endpoints.delete("iris")
    assert laptop.answer(old) == 404
    await laptop.declare()
    assert laptop.answer(old) == 401
    assert laptop.answer(laptop.token()) == 200


async def test_revoking_ends_every_token_issued_before_and_returns_a_new_one(laptop: Laptop) -> None:
    await laptop.declare()
    await laptop.declare("roses")
    before, other = [laptop.token() for _ in range(3)], laptop.token("roses")
    new = await laptop.bench.plane.endpoints.revoke_tokens("iris")
    assert [laptop.answer(each) for each in before] == [401] * 3
    assert laptop.answer(new.access_token) == laptop.answer(laptop.token()) == 200
    assert laptop.answer(other, "roses") == 200
    again = await laptop.bench.plane.endpoints.revoke_tokens("iris")
    assert (laptop.answer(new.access_token), laptop.answer(again.access_token)) == (401, 200)


async def test_revoking_leaves_keys_alone_and_regenerating_keys_leaves_tokens_alone(laptop: Laptop) -> None:
    await laptop.declare()
    token, keys = laptop.token(), laptop.bench.plane.endpoints.keys("iris")
    for which in KeyType:
        await laptop.bench.plane.endpoints.regenerate("iris", which)
    assert laptop.answer(token) == 200
    regenerated = laptop.bench.plane.endpoints.keys("iris")
    assert not {keys.primary, keys.secondary} & {regenerated.primary, regenerated.secondary}
    await laptop.bench.plane.endpoints.revoke_tokens("iris")
    after = laptop.bench.plane.endpoints.keys("iris")
    assert (after.primary, after.secondary) == (regenerated.primary, regenerated.secondary)
    await laptop.declare(authEnabled=True)
    assert laptop.answer(after.primary) == laptop.answer(after.secondary) == 200


async def test_a_change_of_the_endpoint_keeps_its_tokens(laptop: Laptop) -> None:
    await laptop.declare()
    token = laptop.token()
    await laptop.declare(tokenAuthEnabled=True, description="another text")
    assert laptop.answer(token) == 200
    await laptop.declare(authEnabled=True)
    assert laptop.answer(token) == 401
    await laptop.declare()
    assert laptop.answer(token) == 200


async def test_incarnations_survive_a_restart_and_so_do_revocations(laptop: Laptop) -> None:
    await laptop.declare()
    revoked = laptop.token()
    await laptop.bench.plane.endpoints.revoke_tokens("iris")
    kept_token = laptop.token()
    laptop.bench = await laptop.bench.again()
    assert (laptop.answer(revoked), laptop.answer(kept_token)) == (401, 200)
    laptop.bench = await laptop.bench.again()
    assert (laptop.answer(revoked), laptop.answer(kept_token)) == (401, 200)


async def test_tokens_of_an_endpoint_without_token_auth_cannot_be_revoked(laptop: Laptop) -> None:
    await laptop.declare(authEnabled=True)
    with pytest.raises(ConflictingChange, match="tokenAuthEnabled"):
        await laptop.bench.plane.endpoints.revoke_tokens("iris")
    with pytest.raises(NoSuchEndpoint):
        await laptop.bench.plane.endpoints.revoke_tokens("nobody")


async def test_a_revocation_that_cannot_be_kept_changes_nothing(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await laptop.declare()
    token = laptop.token()

    async def full(*arguments: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(laptop.bench.store, "save_endpoint", full)
    with pytest.raises(StoreError):
        await laptop.bench.plane.endpoints.revoke_tokens("iris")
    assert laptop.answer(token) == 200


def without_incarnation(file: Path) -> dict[str, Any]:
    """Make the file one of an older version; returns it."""
    content: dict[str, Any] = json.loads(file.read_text())
    del content["keys"]["incarnation"]
    file.write_text(json.dumps(content))
    return content


async def test_the_state_of_an_older_version_is_read_without_loss_and_its_tokens_end(laptop: Laptop) -> None:
    await laptop.declare()
    await laptop.declare("roses", authEnabled=True)
    ring = laptop.bench.plane._issuer.keyring
    keys = laptop.bench.plane.endpoints.keys("iris")
    await laptop.bench.plane.stop()
    for name in ("iris", "roses"):
        without_incarnation(laptop.file(name))
    laptop.bench = await Bench(laptop.bench.directory).start()
    after = laptop.bench.plane.endpoints.keys("iris")
    assert (after.primary, after.secondary) == (keys.primary, keys.secondary)
    assert laptop.answer(laptop.bench.plane.endpoints.keys("roses").primary, "roses") == 200
    now = laptop.bench.clock.wall()
    assert laptop.answer(ring.issue("iris", "", now, "old").access_token) == 401
    token = laptop.token()
    assert laptop.answer(token) == 200
    laptop.bench = await laptop.bench.again()
    assert laptop.answer(token) == 200, "the new incarnation was kept"


async def test_an_older_state_on_a_full_disk_is_served_all_the_same(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await laptop.declare()
    await laptop.bench.plane.stop()
    without_incarnation(laptop.file())
    after = Bench(laptop.bench.directory)

    async def full(*arguments: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(after.store, "save_endpoint", full)
    laptop.bench = await after.start()
    assert laptop.answer(laptop.token()) == 200


async def test_a_damaged_endpoint_that_is_declared_anew_has_an_incarnation(laptop: Laptop) -> None:
    await laptop.declare()
    await laptop.bench.plane.stop()
    content = without_incarnation(laptop.file())
    content["document"]["spec"]["versions"] = []
    laptop.file().write_text(json.dumps(content))
    laptop.bench = await Bench(laptop.bench.directory).start()
    assert "iris" in laptop.bench.plane.endpoints.skipped()
    await laptop.declare()
    assert laptop.bench.plane.endpoints.keys("iris").primary == content["keys"]["primary"]
    assert laptop.answer(laptop.token()) == 200


# ---- accepted by a router


def tokens_of(*claims: dict[str, Any]) -> tuple[Tokens, list[bytes]]:
    """A checker, and signed tokens with these claims changed; a value of None takes one away."""
    ring = new_keyring("here", TokenAlgorithm.EDDSA, 0)
    key = ring.keys[0]
    private = serialization.load_pem_private_key(key.private_pem.encode(), None)
    good = {"iss": ring.issuer, "aud": "urn:scorefront:endpoint:iris", "iat": NOW, "exp": NOW + 60, "inc": "life"}
    made = []
    for changed in claims:
        kept_claims = {name: value for name, value in (good | changed).items() if value is not None}
        made.append(jwt.encode(kept_claims, private, algorithm="EdDSA", headers={"kid": key.kid}).encode())  # type: ignore[arg-type]
    return Tokens(ring.trust()), made


@pytest.mark.parametrize("odd", [None, "", "Life", "life ", "lif", "life2", 0, 1, True, ["life"], {"life": 1}, 1.5])
def test_an_incarnation_must_be_that_of_the_endpoint_to_the_letter(odd: Any) -> None:
    checker, (token,) = tokens_of({"inc": odd})
    with pytest.raises(Unauthorized):
        checker.authorize(token, KeyDigests("iris", (), "life"), NOW)


@pytest.mark.parametrize("inc", [None, "", "life"])
def test_no_token_opens_an_endpoint_with_an_unknown_incarnation(inc: str | None) -> None:
    checker, (token,) = tokens_of({"inc": inc})
    with pytest.raises(Unauthorized):
        checker.authorize(token, KeyDigests("iris", ()), NOW)


def test_a_remembered_token_is_checked_for_its_incarnation_each_time() -> None:
    checker, (token,) = tokens_of({})
    for _ in range(2):
        checker.authorize(token, KeyDigests("iris", (), "life"), NOW)
        with pytest.raises(Unauthorized):
            checker.authorize(token, KeyDigests("iris", (), "next"), NOW)


def test_a_token_of_another_endpoint_stays_forbidden_for_any_incarnation() -> None:
    checker, (token,) = tokens_of({})
    for life in ("life", "next"):
        with pytest.raises(Forbidden):
            checker.authorize(token, KeyDigests("roses", (), life), NOW)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_incarnations_open_each_other_only_if_they_are_equal(one: str, other: str) -> None:
    checker, (token,) = tokens_of({"inc": one})
    try:
        checker.authorize(token, KeyDigests("iris", (), other), NOW)
    except Unauthorized:
        assert one != other
    else:
        assert one == other


# ---- a cluster


class Cluster:
    """A leader over an API in memory, and the answers of routers on the same API."""

    def __init__(self, leader: Leadership) -> None:
        self.leader = leader

    def answer(self, credential: str) -> int:
        discovery = Discovery()
        for message in (*self.leader.kubernetes.all(ENDPOINTS),):
            discovery.endpoint_changes(ObjectPut(kept(json.loads(json.dumps(message)))))
        told = discovery.snapshot()
        whole = ResetAll(told.endpoints, told.keys, self.leader.plane.snapshot().trust, ())
        return answer(fed([whole]), credential, self.leader.clock.wall())

    async def declare(self) -> None:
        await self.leader.declare(scoring_endpoint())
        self.leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": TOKENS})
        await self.leader.settle(3)

    def token(self) -> str:
        issued: IssuedToken = self.leader.plane.endpoints.token("iris")
        return issued.access_token

    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.leader.kubernetes.all(EVENTS)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster(Leadership())
    await made.leader.start()
    made.leader.plane.reports.workers_expected(["w1"])
    await made.declare()
    yield made
    await made.leader.stop()


async def test_on_a_cluster_routers_accept_the_tokens_of_the_leader(cluster: Cluster) -> None:
    assert cluster.answer(cluster.token()) == 200
    uid = cluster.leader.endpoint()["metadata"]["uid"]
    assert cluster.leader.endpoint()["status"]["incarnation"].startswith(f"{uid}.")


async def test_on_a_cluster_a_revocation_is_in_the_status_when_the_call_returns(cluster: Cluster) -> None:
    old, keys = cluster.token(), cluster.leader.plane.endpoints.keys("iris")
    new = await cluster.leader.plane.endpoints.revoke_tokens("iris")
    assert (cluster.answer(old), cluster.answer(new.access_token)) == (401, 200)
    await cluster.leader.settle(130)
    assert (cluster.answer(old), cluster.answer(new.access_token), cluster.answer(cluster.token())) == (401, 200, 200)
    after = cluster.leader.plane.endpoints.keys("iris")
    assert (after.primary, after.secondary) == (keys.primary, keys.secondary)
    assert "TokensRevoked" in cluster.reasons() and "KeyRegenerated" not in cluster.reasons()


async def test_on_a_cluster_incarnations_survive_a_change_of_leader(cluster: Cluster) -> None:
    revoked = cluster.token()
    await cluster.leader.plane.endpoints.revoke_tokens("iris")
    token = cluster.token()
    await cluster.leader.stop()
    cluster.leader = await Leadership(cluster.leader.kubernetes, cluster.leader.clock, fence=2).start()
    await cluster.leader.settle(3)
    assert (cluster.answer(revoked), cluster.answer(token), cluster.answer(cluster.token())) == (401, 200, 200)


async def test_on_a_cluster_a_token_does_not_open_a_new_endpoint_of_the_name(cluster: Cluster) -> None:
    old = cluster.token()
    await cluster.leader.plane.endpoints.delete("iris")
    assert cluster.answer(old) == 404
    await cluster.leader.settle(150)  # until it has drained, and its name is free
    await cluster.declare()
    assert (cluster.answer(old), cluster.answer(cluster.token())) == (401, 200)


async def test_on_a_cluster_a_status_copied_from_another_object_brings_no_token_back(cluster: Cluster) -> None:
    old, before = cluster.token(), cluster.leader.endpoint()
    discovery = Discovery()
    restored = {**before, "metadata": {**before["metadata"], "uid": "restored-from-a-backup"}}
    discovery.endpoint_changes(ObjectPut(restored))
    told = discovery.snapshot()
    table = fed([ResetAll(told.endpoints, told.keys, cluster.leader.plane.snapshot().trust, ())])
    assert answer(table, old, cluster.leader.clock.wall()) == 401


async def test_on_a_cluster_an_entry_without_incarnation_gets_one(cluster: Cluster) -> None:
    old, keys = cluster.token(), cluster.leader.plane.endpoints.keys("iris")
    uid = cluster.leader.endpoint()["metadata"]["uid"]
    entry = {"uid": uid, "primaryKey": keys.primary, "secondaryKey": keys.secondary}
    edited = {"home.iris": encoded(entry)}
    cluster.leader.kubernetes.edit(SECRETS, "scorefront-keys", {"data": edited})
    await cluster.leader.settle(75)
    after = cluster.leader.plane.endpoints.keys("iris")
    assert (after.primary, after.secondary) == (keys.primary, keys.secondary)
    assert (cluster.answer(old), cluster.answer(cluster.token())) == (401, 200)
    assert cluster.leader.kubernetes.must_find(SECRETS, "scorefront-keys")["data"] != edited


@pytest.mark.parametrize("odd", ["x", "F" * 32, "0" * 31, "0" * 33, "../../", "0" * 31 + "\n"])
async def test_on_a_cluster_an_odd_incarnation_is_reported(cluster: Cluster, odd: str) -> None:
    token, keys = cluster.token(), cluster.leader.plane.endpoints.keys("iris")
    uid = cluster.leader.endpoint()["metadata"]["uid"]
    entry = {"uid": uid, "primaryKey": keys.primary, "secondaryKey": keys.secondary, "incarnation": odd}
    cluster.leader.kubernetes.edit(SECRETS, "scorefront-keys", {"data": {"home.iris": encoded(entry)}})
    await cluster.leader.settle(75)
    assert "incarnation must have 32 hexadecimal digits" in cluster.leader.conditions()["Degraded"][2]
    assert cluster.answer(token) == 200


def encoded(entry: dict[str, str]) -> str:
    return base64.b64encode(json.dumps(entry).encode()).decode()


async def test_on_a_cluster_an_odd_status_opens_nothing() -> None:
    for odd in (None, "", "u-1", "u-1.", ".life", "u-2.life", 7, ["u-1.life"], "u-1.a.b"):
        discovery = Discovery()
        cr = {**scoring_endpoint(), "status": {"incarnation": odd}}
        cr["metadata"] = {**cr["metadata"], "uid": "u-1", "namespace": "home"}
        discovery.endpoint_changes(ObjectPut(cr))
        assert [each.incarnation for each in discovery.snapshot().keys] == [""], odd
