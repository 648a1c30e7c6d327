"""`scorefront doctor` against a cluster that is made up: every line is ok, or says what to mend."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from cluster.kubernetes.errors import ApiError, NotFound
from router.core.members import Member
from router.membership import Part
from scorefront import history
from scorefront.cli.app import run
from scorefront.doctor import judge
from scorefront.doctor.examine import STEPS, examine
from scorefront.doctor.judge import Dialled, Finding
from scorefront.doctor.probes import Probes, watched
from serving.credentials import TokenKey, TokenTrust

NOW = 1_800_000_000.0
HOME = "/api/v1/namespaces/scoring"
ENDPOINTS = "/apis/scorefront.io/v1alpha1/namespaces/scoring/scoringendpoints"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/scoring/leases"
ORDER = [name for name, _, _ in STEPS]


def pod(name: str, labels: dict[str, str], ip: str, **changes: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "registry.example.com/iris:1", "ports": [{"containerPort": 5001}]}
    status = {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "c", "state": {"running": {}}}],
    }
    return {
        "metadata": {"name": name, "namespace": "scoring", "labels": labels},
        "spec": {"containers": [container]},
        "status": {**status, **changes},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False"}
    state = {"waiting": {"reason": reason, "message": message}}
    return {"conditions": [ready], "containerStatuses": [{"name": "c", "state": state}]}


ROUTER = {"app.kubernetes.io/name": "scorefront", "app.kubernetes.io/component": "router"}
MODEL = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}


def membership() -> dict[str, str]:
    records = {
        f"router-{number}": history.Record(
            f"g{number}", f"uid{number}", Part((Member(f"w{number}", f"10.0.0.{number}:4000{number}", True),))
        )
        for number in (1, 2)
    }
    return history.encoded(history.History(7, records))


def lease(holder: str = "control-1_abcdef01", age_s: float = 1.0) -> dict[str, Any]:
    renewed = datetime.fromtimestamp(NOW - age_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 8, "renewTime": renewed}
    return {"metadata": {"annotations": {"scorefront.io/link": "10.0.0.9:8083"}}, "spec": spec}


def endpoint(**spec: Any) -> dict[str, Any]:
    versions = [{"name": "blue", "replica": {"image": "registry.example.com/iris:1"}}]
    return {"metadata": {"name": "iris", "namespace": "scoring"}, "spec": {"versions": versions, **spec}}


def trust(*kids: str) -> dict[str, Any]:
    keys = tuple(TokenKey(kid, "EdDSA", "pem") for kid in kids)
    return {"data": {"trust.json": msgspec.json.encode(TokenTrust("issuer", keys)).decode()}}


@dataclass
class FakeCluster:
    """Two routers, one endpoint with two pods, all well; `broken` and `unreached` spoil it."""

    inside: bool = True
    server: str = "https://api.example.com:6443"
    home: str = "scoring"
    watched: tuple[str | None, ...] = ("scoring",)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    """Path -> HTTP status that it is refused with."""
    unwatched: set[str] = field(default_factory=set)
    unreached: set[str] = field(default_factory=set)
    """host:port, or URL, or name."""
    hangs: bool = False
    dialled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
        models = [pod(f"iris-blue-{number}", MODEL, f"10.0.1.{number}") for number in (1, 2)]
        self.lists = {f"{HOME}/pods": [*routers, *models], ENDPOINTS: [endpoint()], **self.lists}
        self.objects = {
            f"{HOME}/configmaps/scorefront-routers": {"data": membership()},
            f"{HOME}/configmaps/scorefront-trust": trust("k1"),
            f"{LEASE}/scorefront-control": lease(),
            **self.objects,
        }

    def now(self) -> float:
        return NOW

    async def close(self) -> None:
        pass

    async def resolve(self, host: str) -> list[str]:
        self._reach(host)
        return ["10.96.0.1"]

    async def dial(self, host: str, port: int) -> None:
        self.dialled.append(f"{host}:{port}")
        self._reach(f"{host}:{port}")

    async def ask(self, url: str) -> None:
        self._reach(url)

    async def version(self) -> str:
        self._refuse("/version")
        return "v1.33.1"

    async def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        self._refuse(path)
        if path in self.objects:
            return self.objects[path]
        collection, _, _ = path.rpartition("/")
        if path not in self.lists and collection not in (HOME, "/apis/coordination.k8s.io/v1/namespaces/scoring"):
            raise NotFound(f"GET {path}: 404", 404)
        wanted = dict(part.split("=") for part in unquote(query.get("labelSelector", "")).split(",") if "=" in part)
        exists = query.get("labelSelector", "") if not wanted else ""
        found = [
            item
            for item in self.lists.get(path, [])
            if wanted.items() <= item["metadata"].get("labels", {}).items()
            and (not exists or exists in item["metadata"].get("labels", {}))
        ]
        begin = int(query.get("continue", "0"))
        end = begin + int(query.get("limit", "500"))
        further = str(end) if end < len(found) else ""
        return {"metadata": {"resourceVersion": "5", "continue": further}, "items": found[begin:end]}

    async def watch(self, path: str, query: Mapping[str, str]) -> None:
        assert query["resourceVersion"] == "5"
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if path in self.unwatched:
            raise ApiError("cut after 0.2 s")

    def _refuse(self, path: str) -> None:
        if path in self.broken:
            raise ApiError(f"GET {path}: {self.broken[path]}", self.broken[path])

    def _reach(self, what: str) -> None:
        if what in self.unreached:
            raise ConnectionRefusedError(111, "Connection refused")


async def look(cluster: FakeCluster, timeout_s: float = 5.0) -> list[Finding]:
    return [finding async for finding in examine(cluster, timeout_s)]


def to_mend(findings: list[Finding]) -> list[str]:
    return [f"{finding.check}: {finding.text}" for finding in findings if not finding.ok]


async def test_a_cluster_that_is_well_has_nothing_to_mend_and_is_looked_at_in_the_order_of_need() -> None:
    findings = await look(FakeCluster())
    assert to_mend(findings) == []
    assert list(dict.fromkeys(finding.check for finding in findings)) == ORDER


async def test_inside_the_cluster_peers_leader_and_model_pods_are_connected_to() -> None:
    cluster = FakeCluster()
    await look(cluster)
    assert sorted(cluster.dialled) == sorted(
        ["10.0.0.1:40001", "10.0.0.2:40002", "10.0.0.9:8083", "10.0.1.1:5001", "10.0.1.2:5001"]
    )


async def test_from_outside_no_pod_is_connected_to_and_nothing_is_wrong_with_that() -> None:
    cluster = FakeCluster(inside=False)
    assert to_mend(await look(cluster)) == []
    assert cluster.dialled == []


SPOILT: dict[str, tuple[FakeCluster, str, str]] = {
    "no DNS": (FakeCluster(unreached={"api.example.com"}), ORDER[0], "api.example.com is not resolved"),
    "no API server": (FakeCluster(broken={"/version": 503}), "API server", "does not answer"),
    "no CRD": (FakeCluster(broken={ENDPOINTS: 404}), "list and watch", "endpoints in scoring: not there"),
    "no rights": (FakeCluster(broken={f"{HOME}/pods": 403}), "list and watch", "pods in scoring: not allowed"),
    "no watches": (FakeCluster(unwatched={f"{HOME}/pods"}), "list and watch", "let lists and long watches through"),
    "no routers": (FakeCluster(lists={f"{HOME}/pods": []}), "peers", "there is no router pod"),
    "a membership that is damaged": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-routers": {"data": {"pod.x": "{"}}}),
        "peers",
        "delete the ConfigMap",
    ),
    "routers that do not know each other": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-routers": {"data": {}}}),
        "peers",
        "2 routers are ready, but 0 stand in the ConfigMap",
    ),
    "a peer out of reach": (
        FakeCluster(unreached={"10.0.0.2:40002"}),
        "peers",
        "router-2 at 10.0.0.2:40002 is not reached (connection refused)",
    ),
    "no leader ever": (FakeCluster(broken={f"{LEASE}/scorefront-control": 404}), "token issuer", "has ever led"),
    "no leader now": (
        FakeCluster(objects={f"{LEASE}/scorefront-control": lease(holder="")}),
        "token issuer",
        "no control plane leads",
    ),
    "a leader that is gone": (
        FakeCluster(objects={f"{LEASE}/scorefront-control": lease(age_s=600)}),
        "token issuer",
        "was last heard 600 s ago",
    ),
    "a leader out of reach": (FakeCluster(unreached={"10.0.0.9:8083"}), "token issuer", "port 8083"),
    "tokens, but no key": (
        FakeCluster(
            lists={ENDPOINTS: [endpoint(tokenAuthEnabled=True)]},
            objects={f"{HOME}/configmaps/scorefront-trust": trust()},
        ),
        "token issuer",
        "no issuer's key is known",
    ),
    "trust that is damaged": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-trust": {"data": {"trust.json": "{"}}}),
        "token issuer",
        "cannot be used",
    ),
    "a model pod out of reach": (FakeCluster(unreached={"10.0.1.2:5001"}), "model pods", "scoring/iris-blue-2 at"),
    "a registry out of reach, and no pod runs": (
        FakeCluster(
            unreached={"https://other.example.com/v2/"},
            lists={ENDPOINTS: [endpoint(versions=[{"name": "a", "replica": {"image": "other.example.com/m:1"}}])]},
        ),
        "registry",
        "other.example.com is not reached",
    ),
}


@pytest.mark.parametrize(("cluster", "check", "text"), SPOILT.values(), ids=SPOILT)
async def test_what_is_wrong_is_told_under_the_step_that_needs_it(cluster: FakeCluster, check: str, text: str) -> None:
    findings = to_mend(await look(cluster))
    assert any(line.startswith(f"{check}: ") and text in line for line in findings), findings


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (waiting("ImagePullBackOff", "not found"), "ImagePullBackOff (not found)"),
        (waiting("CrashLoopBackOff"), "CrashLoopBackOff"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted (low on memory)"),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
                ],
                "containerStatuses": [],
            },
            "Unschedulable (no GPU)",
        ),
    ],
    ids=["image", "crash", "eviction", "no room"],
)
async def test_a_model_that_does_not_start_is_named_with_what_kubernetes_says(
    status: dict[str, Any], text: str
) -> None:
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    cluster = FakeCluster(lists={f"{HOME}/pods": [*routers, pod("iris-blue-1", MODEL, "", **status)]})
    assert f"model pods: scoring/iris-blue-1: {text}" in to_mend(await look(cluster))


async def test_a_pod_that_cannot_pull_points_at_its_registry_even_if_that_answers_here() -> None:
    sick = pod("iris-blue-1", MODEL, "", **waiting("ErrImagePull", "unauthorized"))
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    findings = to_mend(await look(FakeCluster(lists={f"{HOME}/pods": [*routers, sick]})))
    assert any(line.startswith("registry: registry.example.com: scoring/iris-blue-1 cannot pull") for line in findings)


async def test_a_registry_that_only_nodes_reach_is_well() -> None:
    cluster = FakeCluster(unreached={"https://registry.example.com/v2/"})
    assert to_mend(await look(cluster)) == []


async def test_without_the_api_server_nothing_further_is_asked() -> None:
    findings = await look(FakeCluster(broken={"/version": 0}))
    assert [finding.check for finding in findings] == ORDER[:2]


async def test_a_step_that_takes_too_long_is_told_and_the_next_one_goes_on() -> None:
    findings = await look(FakeCluster(hangs=True), timeout_s=0.05)
    assert [line for line in to_mend(findings) if "took more than 0.05 s" in line and "list and watch" in line]
    assert findings[-1].check == ORDER[-1]


async def test_adopted_pods_are_found_by_the_selector_in_the_status() -> None:
    adopted = endpoint(
        versions=[{"name": "blue", "replica": {"workloadRef": {"kind": "Deployment", "name": "old"}, "port": 9000}}]
    )
    adopted["status"] = {"versions": [{"name": "blue", "selector": "app=old"}]}
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    cluster = FakeCluster(
        lists={f"{HOME}/pods": [*routers, pod("old-1", {"app": "old"}, "10.0.2.1")], ENDPOINTS: [adopted]}
    )
    assert to_mend(await look(cluster)) == []
    assert "10.0.2.1:9000" in cluster.dialled


async def test_static_replicas_are_connected_to() -> None:
    static = endpoint(versions=[{"name": "blue", "replica": {"static": ["192.0.2.7:9400", "[2001:db8::1]:80"]}}])
    cluster = FakeCluster(lists={ENDPOINTS: [static]})
    await look(cluster)
    assert {"192.0.2.7:9400", "2001:db8::1:80"} <= set(cluster.dialled)


async def test_of_thousands_of_pods_all_are_counted_and_some_are_connected_to() -> None:
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    models = [pod(f"iris-blue-{number}", MODEL, f"10.1.{number // 250}.{number % 250}") for number in range(1200)]
    cluster = FakeCluster(lists={f"{HOME}/pods": [*routers, *models]})
    findings = await look(cluster)
    assert any("1200 of 1200 pods ready" in finding.text for finding in findings)
    assert 40 <= sum(address.startswith("10.1.") for address in cluster.dialled) <= 50


def test_of_many_that_are_not_reached_the_first_are_named_and_the_others_counted() -> None:
    findings = judge.dialled("x", "pods", [Dialled(f"p{n}", "a:1", "refused") for n in range(25)], "mend it")
    assert len(findings) == judge.MOST_NAMED + 1
    assert "15 more pods" in findings[-1].text


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("scorefront:0.1.0", "registry-1.docker.io"),
        ("library/nginx", "registry-1.docker.io"),
        ("docker.io/library/nginx", "registry-1.docker.io"),
        ("registry.example.com/team/iris:1", "registry.example.com"),
        ("localhost/iris", "localhost"),
        ("10.0.0.1:5000/iris@sha256:00", "10.0.0.1:5000"),
    ],
)
def test_an_image_tells_its_registry(image: str, host: str) -> None:
    assert judge.registry_of(image) == host


@pytest.mark.parametrize(
    ("text", "namespaces"), [("", ("home",)), ("a, b", ("a", "b")), ("*", (None,)), (" , ", ("home",))]
)
def test_the_watched_namespaces_are_those_of_the_setting(text: str, namespaces: tuple[str | None, ...]) -> None:
    assert watched(text, "home") == namespaces


# ---- the command


def opened(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster) -> None:
    async def open_it() -> FakeCluster:
        return cluster

    monkeypatch.setattr(Probes, "open", open_it)


def test_the_command_leaves_with_0_where_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch, FakeCluster())
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    DNS for the API server: api.example.com is 10.96.0.1"
    assert all(line.startswith("ok    ") for line in lines)


def test_the_command_leaves_with_1_where_something_is_to_mend_and_says_so_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch, FakeCluster(unreached={"10.0.0.2:40002"}))
    assert run(["doctor", "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [check["check"] for check in report["checks"] if not check["ok"]] == ["peers"]


def test_without_a_cluster_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert run(["doctor"]) == 1
    assert "KUBECONFIG names a file that does not exist" in capsys.readouterr().out


def test_a_timeout_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--timeout", "0"]) == 2
    assert "--timeout" in capsys.readouterr().err
