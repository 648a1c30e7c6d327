"""Rights before a real API server: authors of endpoints, the processes of scorefront, callers of the REST API."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from loadtests.installation import manifest
from scorefront.doctor import rights
from scorefront.doctor.rights import NeededRight
from tests.cluster.accounts import account, kubeconfig
from tests.cluster.played.causes import Right, every_right, without
from tests.cluster.played.kube import APPLY, ApiFailure, Kube, Object
from tests.cluster.played.patience import until
from tests.cluster.played.site import ENDPOINTS, HOME, Site

OUR_NAMES = ["ours", *(f"ours{index}" for index in range(6))]
AUTHOR: list[Object] = [{"apiGroups": ["scorefront.io"], "resources": ["scoringendpoints"], "verbs": ["*"]}]
DEPLOYER: list[Object] = [*AUTHOR, {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}]
SCALER: list[Object] = [
    *AUTHOR,
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": OUR_NAMES, "verbs": ["update"]},
]
SECRET: Object = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["theirs"], "verbs": ["get"]}
READER: list[Object] = [*DEPLOYER, SECRET]
ROLES = {"author": AUTHOR, "deployer": DEPLOYER, "scaler": SCALER, "reader": READER}
IMAGE = {"image": "registry.example/absent:1"}
IN_FORCE_S = 30.0
"""A policy that was just installed takes the API server a moment."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A namespace with service accounts of different rights."""

    namespace: str
    callers: dict[str, Kube]
    """Name of the service account -> a client with its token."""

    @property
    def endpoints(self) -> str:
        return ENDPOINTS.format(self.namespace)

    async def create(self, who: str, name: str, *versions: Object) -> Object:
        """Dry run: the stored form of an endpoint created by `who`. Raises ApiFailure."""
        body = manifest(name, versions)
        return await self.callers[who].call("POST", self.endpoints, body, query={"dryRun": "All"})

    async def refusal(self, who: str, name: str, *versions: Object) -> str:
        """Reason of the refusal of an endpoint by `who`."""
        with pytest.raises(ApiFailure) as refused:
            await self.create(who, name, *versions)
        assert refused.value.status == 403
        return str(refused.value)


def version(replica: Object, name: str = "blue", **fields: Any) -> Object:
    return {"name": name, "replica": replica, **fields}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenant(site: Site, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    """Every test of this file shares it: only the fixture writes."""
    namespace, folder = "rights", tmp_path_factory.mktemp("rights")
    await kube.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    try:
        async with contextlib.AsyncExitStack() as stack:
            callers = {}
            for who, rules in ROLES.items():
                token = await account(kube, namespace, who, rules)
                client = Kube(kubeconfig(kube, token, folder / who))
                callers[who] = await stack.enter_async_context(client)
            made = Tenant(namespace, callers)
            await in_force(made)
            yield made
    finally:
        await kube.delete(f"/api/v1/namespaces/{namespace}")


async def in_force(tenant: Tenant) -> None:
    """Once the API server applies both the roles and the policy of authors."""

    async def they_are() -> bool:
        try:
            await tenant.create("deployer", "in-force", version(IMAGE))
            await tenant.create("author", "in-force", version(IMAGE))
        except ApiFailure as failure:
            return "may not create" in str(failure)
        return False

    await until(they_are, "the policy of authors", IN_FORCE_S)


# ---- authors of endpoints: the admission policy

POLICY = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/scorefront-authors"
TEMPLATE = {"podTemplate": {"spec": {"containers": [{"name": "model", "image": "registry.example/absent:1"}]}}}
OURS, OTHER = ({"workloadRef": {"kind": "Deployment", "name": name}} for name in ("ours", "other"))
SECRETLY, SECRETLY_OTHER = (
    {**IMAGE, "secretEnv": {"PASSWORD": {"secret": name, "key": "password"}}} for name in ("theirs", "another")
)
MAY_NOT_CREATE, MAY_NOT_SCALE, MAY_NOT_READ = "create deployments.apps", "update deployments.apps/scale", "get secrets"


@pytest.mark.usefixtures("tenant")
async def test_the_policy_of_authors_has_no_type_errors(kube: Kube) -> None:
    async def is_checked() -> bool:
        policy = await kube.get(POLICY)
        return bool(policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"])

    await until(is_checked, "the type check of the policy")
    policy = await kube.get(POLICY)
    assert policy["status"].get("typeChecking", {}).get("expressionWarnings", []) == []


@pytest.mark.parametrize(
    ("who", "replica"),
    [
        ("deployer", IMAGE),
        ("deployer", TEMPLATE),
        ("scaler", OURS),
        ("reader", SECRETLY),
        ("reader", {**TEMPLATE, "secretEnv": SECRETLY["secretEnv"]}),
    ],
)
async def test_an_author_may_declare_workloads_that_he_may_create_scale_or_read(
    tenant: Tenant, who: str, replica: Object
) -> None:
    stored = await tenant.create(who, "mine", version(replica))
    assert stored["metadata"]["name"] == "mine"


@pytest.mark.parametrize(
    ("who", "replica", "right"),
    [
        ("author", IMAGE, MAY_NOT_CREATE),
        ("author", TEMPLATE, MAY_NOT_CREATE),
        ("author", OURS, MAY_NOT_SCALE),
        ("deployer", OURS, MAY_NOT_SCALE),
        ("scaler", OTHER, MAY_NOT_SCALE),
        ("scaler", {"workloadRef": {"kind": "StatefulSet", "name": "ours"}}, "update statefulsets.apps/scale"),
        ("scaler", IMAGE, MAY_NOT_CREATE),
        ("deployer", SECRETLY, MAY_NOT_READ),
        ("reader", SECRETLY_OTHER, MAY_NOT_READ),
        ("reader", {**TEMPLATE, "secretEnv": SECRETLY_OTHER["secretEnv"]}, MAY_NOT_READ),
        ("reader", {**IMAGE, "imagePullSecrets": [{"name": "another"}]}, MAY_NOT_READ),
        ("author", SECRETLY, MAY_NOT_CREATE),
    ],
)
async def test_an_author_may_not_declare_more_than_his_own_rights(
    tenant: Tenant, who: str, replica: Object, right: str
) -> None:
    told = await tenant.refusal(who, "mine", version(replica))
    assert right in told and f"system:serviceaccount:{tenant.namespace}:{who}" in told


@pytest.mark.parametrize("beyond", [1, 5])
async def test_every_one_of_six_versions_is_judged(tenant: Tenant, beyond: int) -> None:
    names = [f"ours{index}" if index != beyond else "other" for index in range(6)]
    adopted = [
        version({"workloadRef": {"kind": "Deployment", "name": name}}, f"ver{index}")
        for index, name in enumerate(names)
    ]
    assert "other" in await tenant.refusal("scaler", "mine", *adopted)
    made = [version(IMAGE if index != beyond else SECRETLY, f"ver{index}") for index in range(6)]
    assert "theirs" in await tenant.refusal("deployer", "mine", *made)


async def test_a_reference_to_the_environment_of_one_machine_is_refused(tenant: Tenant) -> None:
    await tenant.create("reader", "mine", version({**IMAGE, "env": {"TEXT": "a/$${HOME} $(HOME)"}}))
    with pytest.raises(ApiFailure, match=r"\$\{NAME\} from the environment of `scorefront up`"):
        await tenant.create("reader", "mine", version({**IMAGE, "env": {"TEXT": "a/${HOME}"}}))


@pytest.mark.parametrize("count", [10, 11, 60])
async def test_the_last_of_many_secrets_is_judged(tenant: Tenant, count: int) -> None:
    secrets = {f"V{index}": {"secret": "theirs", "key": "a"} for index in range(count - 1)}
    secrets["LAST"] = {"secret": "another", "key": "a"}
    told = await tenant.refusal("reader", "mine", version({**IMAGE, "secretEnv": secrets}))
    assert "Secret" in told


async def test_references_to_secrets_in_a_pod_template_are_judged(tenant: Tenant) -> None:
    container: Object = {"name": "model", "image": "registry.example/absent:1"}
    by_key = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "another", "key": "a"}}}
    specs: list[Object] = [
        {"containers": [{**container, "env": [by_key]}]},
        {"containers": [{**container, "envFrom": [{"secretRef": {"name": "another"}}]}]},
        {"containers": [container], "initContainers": [{**container, "name": "first", "env": [by_key]}]},
        {"containers": [container], "imagePullSecrets": [{"name": "another"}]},
        {"containers": [container], "volumes": [{"name": "a", "secret": {"secretName": "another"}}]},
        {
            "containers": [container],
            "volumes": [{"name": "a", "projected": {"sources": [{"secret": {"name": "another"}}]}}],
        },
    ]
    for spec in specs:
        told = await tenant.refusal("reader", "mine", version({"podTemplate": {"spec": spec}}))
        assert "another" in told, spec


class Stored:
    """An endpoint that exists, and changes of it that are not kept. `tenant`: its namespace and callers."""

    def __init__(self, kube: Kube, tenant: Tenant) -> None:
        self._kube = kube
        self._tenant = tenant
        self.name = "stored"
        self.path = f"{tenant.endpoints}/{self.name}"

    async def change(self, who: str, **spec: Any) -> Object:
        """Dry run: the stored form after a merge patch of the spec by `who`. Raises ApiFailure."""
        return await self._tenant.callers[who].patch(self.path, {"spec": spec}, dryRun="All")

    async def replaced(self, who: str, **spec: Any) -> Object:
        """The same by PUT; again if the status has changed meanwhile."""
        while True:
            found = await self._kube.get(self.path)
            body = {**found, "spec": {**found["spec"], **spec}}
            try:
                return await self._tenant.callers[who].call("PUT", self.path, body, query={"dryRun": "All"})
            except ApiFailure as failure:
                if failure.status != 409:
                    raise

    async def applied(self, who: str, *versions: Object) -> Object:
        """The same by server-side apply."""
        body = manifest(self.name, versions)
        return await self._tenant.callers[who].patch(
            self.path, body, APPLY, dryRun="All", fieldManager=who, force="true"
        )


BLUE = version(IMAGE, numReplicas=1, trafficPercentile=80)
GREEN = version(IMAGE, "green", numReplicas=1, trafficPercentile=20)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stored(site: Site, kube: Kube, tenant: Tenant) -> AsyncIterator[Stored]:
    made = Stored(kube, tenant)
    await kube.create(tenant.endpoints, manifest(made.name, [BLUE, GREEN]))
    yield made
    await site.remove(made.name, tenant.namespace)


@pytest.mark.parametrize(
    "spec",
    [
        {"description": "mine"},
        {"versions": [{**BLUE, "trafficPercentile": 10}, {**GREEN, "trafficPercentile": 90}]},
        {"versions": [{**BLUE, "scoringTimeoutMs": 1000}, GREEN]},
        {"versions": [GREEN, BLUE]},
        {"versions": [BLUE]},
    ],
    ids=["description", "traffic", "timeout", "order", "fewer"],
)
async def test_changes_that_need_no_deployment_need_only_the_right_on_the_endpoint(
    stored: Stored, spec: Object
) -> None:
    await stored.change("author", **spec)
    await stored.replaced("author", **spec)


@pytest.mark.parametrize(
    "versions",
    [
        [{**BLUE, "replica": {"image": "registry.example/absent:2"}}, GREEN],
        [{**BLUE, "replica": {**IMAGE, "env": {"A": "b"}}}, GREEN],
        [{**BLUE, "numReplicas": 9}, GREEN],
        [{**BLUE, "containerResourceRequirements": {"cpu": 8}}, GREEN],
        [BLUE, GREEN, version(IMAGE, "third", numReplicas=1)],
        [BLUE, {**GREEN, "name": "renamed"}],
        [{**BLUE, "replica": TEMPLATE}, GREEN],
    ],
    ids=["image", "env", "number", "resources", "another", "renamed", "template"],
)
async def test_changes_of_pods_need_the_right_on_deployments(stored: Stored, versions: list[Object]) -> None:
    refused = re.compile("may not create|may neither create nor scale")
    for change in (stored.change, stored.replaced):
        with pytest.raises(ApiFailure, match=refused):
            await change("author", versions=versions)
    # Server-side apply adds to the versions of other managers; that may break the schema before the policy is asked.
    with pytest.raises(ApiFailure) as failed:
        await stored.applied("author", *versions)
    assert failed.value.status in (403, 422)
    await stored.change("deployer", versions=versions)


async def test_server_side_apply_of_a_missing_endpoint_is_judged_as_a_creation(tenant: Tenant) -> None:
    body = manifest("anew", [version(IMAGE)])
    with pytest.raises(ApiFailure, match="may not create"):
        await tenant.callers["author"].patch(
            f"{tenant.endpoints}/anew", body, APPLY, dryRun="All", fieldManager="author"
        )


# ---- the processes of scorefront: RBAC

CONTROL, ROUTER = (f"system:serviceaccount:{HOME}:scorefront-{part}" for part in ("control", "router"))
HELD = ("scorefront-keys", "scorefront-signing", "scorefront-control-token", "scorefront-peers", "scorefront-peers-ca")


async def may(kube: Kube, user: str, verb: str, resource: str, namespace: str, name: str = "") -> bool:
    """The answer of the API server's authorizer. `resource`: `group/plural`, the core group being ""."""
    group, _, plural = resource.rpartition("/")
    plural, _, sub = plural.partition(":")
    asked = {"verb": verb, "group": group, "resource": plural, "subresource": sub, "namespace": namespace, "name": name}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{HOME}", "system:authenticated"]
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": asked},
    }
    answer = await kube.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer["status"].get("allowed"))


async def missing(kube: Kube, right: Right) -> set[NeededRight]:
    """Of the rights that the doctor asks for: those of this process on this resource that the API server denies."""
    account = rights.account_of(right.process, HOME)
    needed = [
        each
        for each in rights.rights_of(right.process, HOME, (None,))
        if (each.group, each.resource) == (right.group, right.resource)
    ]
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    answers = await asyncio.gather(*(kube.create(reviews, rights.review_of(account, each)) for each in needed))
    allowed = [bool(answer["status"].get("allowed")) for answer in answers]
    return {each for each, may_it in zip(needed, allowed, strict=True) if not may_it}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("right", every_right(), ids=str)
async def test_each_right_that_is_taken_away_is_named_by_the_doctor_and_no_other(kube: Kube, right: Right) -> None:
    """`python -m tests.cluster.played.causes --rights` shows what else is said about each."""
    seen: set[NeededRight] = set()

    async def are_missing(expected: bool) -> bool:
        nonlocal seen
        seen = await missing(kube, right)
        return bool(seen) is expected

    async with without(kube, right):
        await until(lambda: are_missing(True), f"the end of {right}", IN_FORCE_S)
        assert {each.verb for each in seen} == {right.verb}
    await until(lambda: are_missing(False), f"the return of {right}", IN_FORCE_S)


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"])
async def test_no_process_reaches_a_secret_of_a_tenant(kube: Kube, tenant: Tenant, verb: str) -> None:
    for user in (CONTROL, ROUTER):
        assert not await may(kube, user, verb, "/secrets", tenant.namespace)
        assert not await may(kube, user, verb, "/secrets", tenant.namespace, "theirs")
        assert not await may(kube, user, verb, "/secrets", "kube-system")


async def test_the_control_plane_reads_and_patches_its_own_secrets_by_name_only(kube: Kube, tenant: Tenant) -> None:
    for name in HELD:
        assert await may(kube, CONTROL, "get", "/secrets", HOME, name)
        assert not await may(kube, CONTROL, "get", "/secrets", tenant.namespace, name)
        assert not await may(kube, ROUTER, "get", "/secrets", HOME, name)
    for verb in ("get", "list", "watch", "create", "delete"):
        assert not await may(kube, CONTROL, verb, "/secrets", HOME)


async def test_the_control_plane_writes_no_workload_in_a_namespace_of_the_cluster_itself(
    kube: Kube, tenant: Tenant, tmp_path: Path
) -> None:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = await kube.create(f"/api/v1/namespaces/{HOME}/serviceaccounts/scorefront-control/token", asked)
    labels = {"app": "bounds"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": IMAGE["image"]}]}}
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bounds"},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }
    path = "/apis/apps/v1/namespaces/{}/deployments"
    async with Kube(kubeconfig(kube, str(answer["status"]["token"]), tmp_path / "control")) as control:
        await control.call("POST", path.format(tenant.namespace), body, query={"dryRun": "All"})
        with pytest.raises(ApiFailure, match="writes no workload in a namespace of the cluster itself"):
            await control.call("POST", path.format("kube-system"), body, query={"dryRun": "All"})


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "/serviceaccounts:token"),
        ("impersonate", "/serviceaccounts"),
        ("create", "/pods:exec"),
        ("create", "rbac.authorization.k8s.io/rolebindings"),
        ("escalate", "rbac.authorization.k8s.io/roles"),
        ("create", "rbac.authorization.k8s.io/clusterrolebindings"),
        ("patch", "/nodes"),
        ("create", "/pods"),
    ],
)
async def test_no_process_can_lend_itself_more(kube: Kube, tenant: Tenant, verb: str, resource: str) -> None:
    for user in (CONTROL, ROUTER):
        for namespace in (HOME, tenant.namespace):
            assert not await may(kube, user, verb, resource, namespace)
