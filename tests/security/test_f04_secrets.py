"""F4: the control plane reads and writes Secrets by name, in the namespace of the installation only."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.client.api_errors import ApiError, RequestRefused
from cluster.kubernetes.client.paths import ENDPOINTS, SECRETS
from controlplane.control_errors import InvalidCall
from controlplane.keys import KeyType
from tests.fakes.cluster import Leadership, scoring_endpoint

DEPLOY = Path(__file__).parents[2] / "deploy"
KEYS = "scorefront-keys"


@pytest.fixture
async def everywhere() -> AsyncIterator[Leadership]:
    """A leader that watches all namespaces."""
    made = await Leadership(namespaces=()).start()
    yield made
    await made.stop()


def entries(leader: Leadership) -> dict[str, dict[str, str]]:
    data = leader.kubernetes.must_find(SECRETS, KEYS)["data"]
    return {key: json.loads(base64.b64decode(value)) for key, value in data.items()}


def rules() -> list[tuple[str, dict[str, Any]]]:
    roles = yaml.safe_load_all((DEPLOY / "base" / "rbac.yaml").read_text())
    return [(role["kind"], rule) for role in roles for rule in role.get("rules", ()) if "secrets" in rule["resources"]]


def test_no_role_gives_a_secret_of_another_namespace_or_without_a_name() -> None:
    assert rules()
    for kind, rule in rules():
        assert kind == "Role"
        assert rule["resourceNames"] and set(rule["verbs"]) <= {"get", "patch"}


def test_every_secret_that_a_role_names_is_shipped_without_data() -> None:
    shipped = list(yaml.safe_load_all((DEPLOY / "base" / "secrets.yaml").read_text()))
    named = {name for _, rule in rules() for name in rule["resourceNames"]}
    assert {each["metadata"]["name"] for each in shipped} == named
    # An apply of an object with `data` would own them, and empty them when applied again.
    assert all(each.keys() == {"apiVersion", "kind", "metadata", "type"} for each in shipped)


async def test_keys_of_all_namespaces_are_kept_at_home_and_no_other_secret_is_touched(everywhere: Leadership) -> None:
    touched: set[str] = set()

    def watch(verb: str, where: str) -> ApiError | None:
        if "/secrets" in where:
            touched.add(where)
        return None

    everywhere.kubernetes.refusal = watch
    await everywhere.declare(scoring_endpoint())
    await everywhere.declare(scoring_endpoint("tulip", namespace="team-a"))
    await everywhere.plane.endpoints.regenerate("tulip", KeyType.PRIMARY)
    await everywhere.settle(70)
    assert set(entries(everywhere)) == {"home.iris", "team-a.tulip"}
    assert touched == {f"/api/v1/namespaces/home/secrets/{KEYS}"}
    assert entries(everywhere)["team-a.tulip"]["primaryKey"] == everywhere.plane.endpoints.keys("tulip").primary


async def test_an_endpoint_of_the_same_name_made_anew_gets_new_keys(everywhere: Leadership) -> None:
    """The next tenant must not get the keys that the clients of the last one have."""
    await everywhere.declare(scoring_endpoint())
    before = everywhere.plane.endpoints.keys("iris")
    everywhere.kubernetes.take_away(ENDPOINTS, "iris")  # no finalizer is waited for, as after a restored backup
    await everywhere.declare(scoring_endpoint())
    after = everywhere.plane.endpoints.keys("iris")
    assert not {before.primary, before.secondary} & {after.primary, after.secondary}
    assert entries(everywhere)["home.iris"]["uid"] == everywhere.endpoint()["metadata"]["uid"]


async def test_the_keys_of_a_deleted_endpoint_are_removed_before_it_goes(everywhere: Leadership) -> None:
    await everywhere.declare(scoring_endpoint())
    await everywhere.declare(scoring_endpoint("tulip"))
    await everywhere.plane.endpoints.delete("iris")
    await everywhere.settle(2)
    assert everywhere.has_endpoint(), "it waits for its replicas to drain"
    everywhere.plane.reports.replica_drained(next(each for each in everywhere.routers.replicas if "iris" in each))
    await everywhere.settle(3)
    assert not everywhere.has_endpoint()
    assert set(entries(everywhere)) == {"home.tulip"}


async def test_entries_that_no_endpoint_has_are_removed_within_a_minute(everywhere: Leadership) -> None:
    await everywhere.declare(scoring_endpoint())
    left = base64.b64encode(b'{"uid":"gone","primaryKey":"p","secondaryKey":"s"}').decode()
    everywhere.kubernetes.edit(SECRETS, KEYS, {"data": {"home.gone": left}})
    await everywhere.settle(65)
    assert set(entries(everywhere)) == {"home.iris"}


async def test_a_write_of_another_in_between_is_not_undone(everywhere: Leadership) -> None:
    await everywhere.declare(scoring_endpoint())
    left = base64.b64encode(b"{}").decode()
    everywhere.kubernetes.edit(SECRETS, KEYS, {"data": {"other.kept": left}})
    await everywhere.declare(scoring_endpoint("tulip"))
    assert set(entries_raw(everywhere)) == {"home.iris", "home.tulip", "other.kept"}


def entries_raw(leader: Leadership) -> dict[str, str]:
    data: dict[str, str] = leader.kubernetes.must_find(SECRETS, KEYS).get("data", {})
    return data


async def test_many_endpoints_at_once_all_get_their_keys(everywhere: Leadership) -> None:
    names = [f"iris-{number}" for number in range(20)]
    await asyncio.gather(
        *(everywhere.plane.endpoints.apply(scoring_endpoint(name, namespace="team-a")) for name in names)
    )
    assert {key.partition(".")[2] for key in entries_raw(everywhere)} == set(names)
    for name in names:
        assert entries(everywhere)[f"team-a.{name}"]["primaryKey"] == everywhere.plane.endpoints.keys(name).primary


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "openshift-ingress"])
async def test_nothing_is_declared_in_a_namespace_of_the_cluster_itself(namespace: str, everywhere: Leadership) -> None:
    with pytest.raises(InvalidCall, match=f"namespace {namespace}: endpoints do not belong"):
        await everywhere.plane.endpoints.apply(scoring_endpoint(namespace=namespace))
    assert not everywhere.has_endpoint(namespace=namespace)


async def test_an_endpoint_declared_there_is_reported_and_not_served(everywhere: Leadership) -> None:
    await everywhere.declare(scoring_endpoint(namespace="kube-system"), 3)
    assert (
        "do not belong in a namespace of the cluster itself"
        in everywhere.conditions(namespace="kube-system")["Degraded"][2]
    )
    assert everywhere.kubernetes.pods() == [] and entries_raw(everywhere) == {}


async def test_a_missing_secret_is_reported_with_its_remedy(everywhere: Leadership) -> None:
    everywhere.kubernetes.take_away(SECRETS, KEYS)
    with pytest.raises(Exception, match=r"scorefront-keys is missing: apply deploy/base/secrets\.yaml"):
        await everywhere.control._parts.follower._store._keys.refresh()


async def test_a_right_that_is_missing_is_an_error_and_makes_no_keys(everywhere: Leadership) -> None:
    everywhere.kubernetes.refusal = lambda verb, where: (
        RequestRefused("secrets is forbidden", 403) if where.endswith(KEYS) and verb == "merge" else None
    )
    with pytest.raises(Exception, match="secrets is forbidden"):
        await everywhere.plane.endpoints.apply(scoring_endpoint())
