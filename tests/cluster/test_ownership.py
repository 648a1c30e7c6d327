"""Ownership before a real API server: workloads that an endpoint neither owns nor has claimed are not written."""

import signal
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.cluster.played.images import MODEL
from tests.cluster.played.kube import MERGE, ApiFailure, Kube, Object
from tests.cluster.played.kubectl import Refused, kubectl
from tests.cluster.played.patience import until
from tests.cluster.played.podstatus import is_ready
from tests.cluster.played.site import ENDPOINTS, HOME, LEASE, Site, empty

FENCE, CLAIM = "scorefront.io/fence", "scorefront.io/claimed-by"
TAKEN, CLAIMED, FORGED = "WorkloadTaken", "AlreadyClaimed", "FenceForged"
SWEEPS_S = 6.0
"""Longer than the time between two sweeps of the leader."""


class Ground:
    """A namespace of one test, with workloads that are not scorefront's."""

    def __init__(self, site: Site, namespace: str) -> None:
        self.site = site
        self.kube = site.kube
        self.namespace = namespace

    def path(self, name: str = "", kind: str = "deployments") -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    async def make(
        self, name: str, replicas: int = 2, owner: Object | None = None, **metadata: dict[str, str]
    ) -> Object:
        """A Deployment of model servers, once its pods are ready and its status has come to rest.

        `owner`: its owner reference; `metadata`: labels and annotations. Raises ApiFailure, TimeoutError.
        """
        env = [{"name": "WORK_MS", "value": "5"}, {"name": "WITNESS", "value": str(self.site.written)}]
        container = {
            "name": "model",
            "image": f"{MODEL}:1",
            "env": env,
            "ports": [{"name": "scoring", "containerPort": 5001}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "scoring"}, "periodSeconds": 1},
        }
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"automountServiceAccountToken": False, "containers": [container]},
        }
        references = {"ownerReferences": [owner]} if owner else {}
        body = {
            "metadata": {"name": name, **references, **metadata},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }
        await self.kube.create(self.path(), body)
        return await self.at_rest(name)

    async def at_rest(self, name: str) -> Object:
        """A Deployment after the last write of its controller. Raises TimeoutError."""
        seen: list[Object] = []

        async def it_is() -> bool:
            found = await self.kube.get(self.path(name))
            seen.append(found)
            status = found.get("status", {})
            done = status.get("observedGeneration") == found["metadata"]["generation"]
            same = len(seen) > 10 and len({version_of(each) for each in seen[-10:]}) == 1
            return done and status.get("readyReplicas", 0) == found["spec"]["replicas"] and same

        await until(it_is, f"the Deployment {name} at rest")
        return seen[-1]

    async def is_untouched(self, before: Object) -> bool:
        """True if the Deployment has not been written since."""
        now = await self.kube.get(self.path(before["metadata"]["name"]))
        fields = ("uid", "resourceVersion", "generation")
        return [now["metadata"][each] for each in fields] == [before["metadata"][each] for each in fields]

    async def pods(self, name: str) -> list[str]:
        """Uids of the ready pods of a Deployment made here."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found = await self.kube.items(path, labelSelector=f"app={name}")
        return sorted(each["metadata"]["uid"] for each in found if is_ready(each))

    async def declare(self, name: str, *versions: Object) -> None:
        """Apply an endpoint. Raises Refused."""
        await self.site.apply(name, *versions, namespace=self.namespace)

    async def told(self, name: str, reason: str) -> str:
        """The message, once the endpoint is Degraded for this reason. Raises TimeoutError."""
        told: Object = {}

        async def it_is() -> bool:
            nonlocal told
            told = await self.site.condition(name, "Degraded", self.namespace)
            return bool(told.get("status") == "True" and told.get("reason") == reason)

        try:
            await until(it_is, reason, 30)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; Degraded is {told}") from None
        return str(told["message"])

    async def ready(self, name: str, replicas: int) -> None:
        """Once the endpoint is Ready with so many replicas, without a complaint. Raises TimeoutError."""

        async def it_is() -> bool:
            status = (await self.site.endpoint(name, self.namespace)).get("status", {})
            conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
            good = conditions.get("Ready") == "True" and conditions.get("Degraded") == "False"
            return good and status.get("ready") == f"{replicas}/{replicas}"

        await until(it_is, f"{replicas} replicas of {name}")

    async def delete(self, name: str) -> None:
        """`kubectl delete` of an endpoint, until it is gone. Raises Refused."""
        await kubectl("-n", self.namespace, "delete", "sep", name, "--timeout=60s")

    async def uid(self, name: str) -> str:
        """Uid of an endpoint."""
        return str((await self.site.endpoint(name, self.namespace))["metadata"]["uid"])


def version_of(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])


def adopting(workload: str, name: str = "blue", **fields: Any) -> Object:
    """A version on the pods of an existing Deployment."""
    replica = {"workloadRef": {"kind": "Deployment", "name": workload}, "port": 5001}
    return {"name": name, "replica": replica, **fields}


@pytest_asyncio.fixture(loop_scope="session")
async def ground(site: Site, kube: Kube, name: str) -> AsyncIterator[Ground]:
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    made = Ground(site, name)

    async def has_an_account() -> bool:
        return bool(await kube.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    await until(has_an_account, "the namespace's service account")
    yield made
    site.later(empty(kube, name))


async def owner(ground: Ground, kind: str, name: str) -> Object:
    """A controller reference to an existing object: the garbage collector keeps objects with one."""
    if kind == "ConfigMap":
        path, api = f"/api/v1/namespaces/{ground.namespace}/configmaps", "v1"
        found = await ground.kube.create(path, {"metadata": {"name": name}})
    else:
        path, api = ENDPOINTS.format(ground.namespace), "scorefront.io/v1alpha1"
        await ground.declare(name, ground.site.version(numReplicas=1))
        found = await ground.kube.get(f"{path}/{name}")
    return {"apiVersion": api, "kind": kind, "name": name, "uid": found["metadata"]["uid"], "controller": True}


async def another_leader(site: Site) -> None:
    """Kill the leader; once the other one leads. Raises TimeoutError."""
    old = await site.holder()
    assert site.signal(old, signal.SIGKILL)

    async def it_leads() -> bool:
        return await site.holder() not in ("", old)

    await until(it_leads, "another leader", 30)


async def made_anew(ground: Ground, name: str) -> Object:
    """Delete a Deployment, and make another of the name before the leader does. Raises ApiFailure after 50 tries."""
    for _ in range(50):
        await ground.kube.delete(ground.path(name), {"propagationPolicy": "Background"})
        try:
            return await ground.make(name)
        except ApiFailure as failure:
            if failure.status != 409:
                raise
    raise ApiFailure(409, f"the leader was faster each time to make {name}")


OWNERS = {"nobody": ("", TAKEN), "our labels": ("", TAKEN), "a resource": ("ConfigMap", TAKEN)} | {
    "another endpoint": ("ScoringEndpoint", CLAIMED)
}


@pytest.mark.parametrize("whose", OWNERS)
async def test_a_foreign_deployment_under_the_name_of_a_version_is_not_written(
    ground: Ground, name: str, whose: str
) -> None:
    kind, reason = OWNERS[whose]
    reference = await owner(ground, kind, f"{name}o") if kind else None
    labels = {"scorefront.io/endpoint": name, "scorefront.io/version": "blue"} if whose == "our labels" else {}
    before = await ground.make(f"{name}-blue", owner=reference, labels=labels)
    pods = await ground.pods(f"{name}-blue")
    await ground.declare(name, ground.site.version(numReplicas=1))
    assert f"{name}-blue" in await ground.told(name, reason)
    await ground.delete(name)
    assert await ground.is_untouched(before)
    assert await ground.pods(f"{name}-blue") == pods


async def test_a_new_leader_does_not_write_a_foreign_deployment_either(ground: Ground, name: str) -> None:
    before = await ground.make(f"{name}-blue")
    await ground.declare(name, ground.site.version(numReplicas=1))
    await ground.told(name, TAKEN)
    await another_leader(ground.site)
    await ground.declare(name, ground.site.version(numReplicas=3))
    await until(lambda: is_observed(ground, name), "the status of the new leader")
    await ground.told(name, TAKEN)
    await ground.delete(name)
    assert await ground.is_untouched(before)
    await ground.site.installed()


async def test_a_deployment_that_lost_its_owner_is_not_written_for_an_endpoint_made_anew(
    ground: Ground, name: str
) -> None:
    await ground.declare(name, ground.site.version(numReplicas=1))
    await ground.ready(name, 1)
    await ground.kube.patch(ground.path(f"{name}-blue"), {"metadata": {"ownerReferences": None}}, MERGE)
    await ground.told(name, TAKEN)
    before = await ground.at_rest(f"{name}-blue")
    await ground.delete(name)
    assert await ground.is_untouched(before)
    await ground.declare(name, ground.site.version(numReplicas=3))
    await ground.told(name, TAKEN)
    assert await ground.is_untouched(before)
    await kubectl("-n", ground.namespace, "delete", "deployment", f"{name}-blue", "--timeout=60s")
    await ground.ready(name, 3)


async def test_a_deployment_that_others_made_anew_is_not_written(ground: Ground, name: str) -> None:
    """Delete a Deployment with its pods, and create a foreign one of the same name at once."""
    await ground.declare(name, ground.site.version(numReplicas=1))
    await ground.ready(name, 1)
    before = await made_anew(ground, f"{name}-blue")
    await ground.told(name, TAKEN)
    await ground.delete(name)
    assert await ground.is_untouched(before)


@pytest.mark.parametrize("part", ["router", "control"])
async def test_names_that_give_scorefronts_own_deployments_are_refused(site: Site, part: str) -> None:
    path = f"/apis/apps/v1/namespaces/{HOME}/deployments/scorefront-{part}"
    before = await site.kube.get(path)
    reference = {"workloadRef": {"kind": "Deployment", "name": f"scorefront-{part}"}, "port": 8080}
    for name, version in (
        ("scorefront", site.version(part, numReplicas=1)),
        ("thief", {"name": "blue", "replica": reference}),
    ):
        with pytest.raises(Refused, match="of scorefront"):
            await site.apply(name, version)
    now = await site.kube.get(path)
    assert [now["metadata"][each] for each in ("uid", "generation")] == [
        before["metadata"][each] for each in ("uid", "generation")
    ]


# ---- adopted workloads


async def test_of_two_endpoints_on_one_workload_the_later_has_a_condition_and_does_not_scale(
    ground: Ground, name: str
) -> None:
    await ground.make("shared")
    await ground.declare(name, adopting("shared", numReplicas=3))
    await ground.ready(name, 3)
    before = await ground.at_rest("shared")
    assert before["metadata"]["annotations"][CLAIM] == await ground.uid(name)
    await ground.declare(f"{name}z", adopting("shared", numReplicas=1))
    assert "shared" in await ground.told(f"{name}z", CLAIMED)
    await stays(ground, before)
    await ground.ready(name, 3)
    await ground.delete(f"{name}z")
    assert await ground.is_untouched(before)


async def test_a_workload_that_is_given_up_is_free_for_the_other_endpoint(ground: Ground, name: str) -> None:
    await ground.make("shared")
    await ground.declare(name, adopting("shared", numReplicas=3))
    await ground.ready(name, 3)
    await ground.declare(f"{name}z", adopting("shared", numReplicas=1))
    await ground.told(f"{name}z", CLAIMED)
    await ground.delete(name)
    await ground.ready(f"{name}z", 1)
    found = await ground.kube.get(ground.path("shared"))
    assert found["metadata"]["annotations"][CLAIM] == await ground.uid(f"{name}z")


async def test_two_versions_of_one_endpoint_do_not_share_a_workload(ground: Ground, name: str) -> None:
    await ground.make("shared")
    with pytest.raises(Refused, match="workloadRef"):
        await ground.declare(name, adopting("shared", numReplicas=2), adopting("shared", "green", numReplicas=1))


async def test_a_deployment_that_was_made_for_another_endpoint_cannot_be_adopted(ground: Ground, name: str) -> None:
    await ground.declare(name, ground.site.version(numReplicas=2))
    await ground.ready(name, 2)
    before = await ground.at_rest(f"{name}-blue")
    await ground.declare(f"{name}z", adopting(f"{name}-blue", numReplicas=1))
    await ground.told(f"{name}z", CLAIMED)
    await stays(ground, before)
    await ground.delete(f"{name}z")
    assert await ground.is_untouched(before)


# ---- fences and Leases


async def test_a_forged_fence_is_a_condition_of_its_endpoint_and_ends_no_leader(ground: Ground, name: str) -> None:
    lease = await ground.kube.get(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{LEASE}")
    leader = await ground.site.holder()
    before = await ground.make("theirs", annotations={FENCE: f"{lease['metadata']['uid']}/999999999"})
    await ground.declare(name, adopting("theirs", numReplicas=1))
    await ground.told(name, FORGED)
    await ground.declare(f"{name}z", ground.site.version(numReplicas=2))
    await ground.ready(f"{name}z", 2)
    assert await ground.site.holder() == leader
    assert await ground.is_untouched(before)


@pytest.mark.parametrize(
    "fence", ["052ce9e0-03c1-44e6-a4cf-f206f3fea36f/2147483647", "999999999", "9" * 60, "x/-1", "/1"]
)
async def test_a_restored_fence_of_another_cluster_does_not_keep_a_workload_from_being_scaled(
    ground: Ground, name: str, fence: str
) -> None:
    leader = await ground.site.holder()
    await ground.make("restored", annotations={FENCE: fence})
    await ground.declare(name, adopting("restored", numReplicas=1))
    await ground.ready(name, 1)
    assert await ground.site.holder() == leader


async def test_a_restored_deployment_with_a_missing_owner_is_created_anew(ground: Ground, name: str) -> None:
    """The API server's garbage collector removes objects with a missing owner; scorefront never does."""
    old = {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "name": name,
        "uid": str(uuid.uuid4()),
        "controller": True,
    }
    body = {
        "metadata": {"name": f"{name}-blue", "ownerReferences": [old], "annotations": {FENCE: f"{uuid.uuid4()}/77"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "old"}},
            "template": {
                "metadata": {"labels": {"app": "old"}},
                "spec": {"containers": [{"name": "model", "image": f"{MODEL}:1"}]},
            },
        },
    }
    made = await ground.kube.create(ground.path(), body)
    await ground.declare(name, ground.site.version(numReplicas=1))
    await ground.ready(name, 1)
    found = await ground.kube.get(ground.path(f"{name}-blue"))
    assert found["metadata"]["uid"] != made["metadata"]["uid"]
    assert [each["uid"] for each in found["metadata"]["ownerReferences"]] == [await ground.uid(name)]


async def test_a_lease_that_is_deleted_is_made_anew_and_everything_is_scaled_on(ground: Ground, name: str) -> None:
    await ground.declare(name, ground.site.version(numReplicas=1))
    await ground.ready(name, 1)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{LEASE}"
    old = await ground.kube.get(path)
    await ground.kube.delete(path)

    async def is_anew() -> bool:
        try:
            found = await ground.kube.get(path)
        except ApiFailure:
            return False
        return found["metadata"]["uid"] != old["metadata"]["uid"] and bool(found["spec"].get("holderIdentity"))

    await until(is_anew, "another Lease", 60)
    await ground.declare(name, ground.site.version(numReplicas=2))
    await ground.ready(name, 2)
    await ground.site.installed()


async def is_observed(ground: Ground, name: str) -> bool:
    """True if the status reflects the newest spec."""
    found = await ground.site.endpoint(name, ground.namespace)
    return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])


async def stays(ground: Ground, before: Object) -> None:
    """Check that the Deployment is not written for longer than the leader's interval of checks."""
    with pytest.raises(TimeoutError):
        await until(lambda: was_written(ground, before), "a write", SWEEPS_S)


async def was_written(ground: Ground, before: Object) -> bool:
    return not await ground.is_untouched(before)
