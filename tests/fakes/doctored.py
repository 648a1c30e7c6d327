"""A made-up cluster for `scorefront doctor` to look at: all well, unless it is spoilt."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from cluster.kubernetes.client.api_errors import ApiError
from router.core.view import Member
from router.membership import history
from router.membership.agreement import MembershipPart
from serving.credentials import TokenKey, TokenTrust
from tests.fakes.kubernetes import KINDS, FakeKubernetes
from tests.fakes.object_rules import split

NOW = 1_800_000_000.0
HOME = "/api/v1/namespaces/scoring"
ENDPOINTS = "/apis/scorefront.io/v1alpha1/namespaces/scoring/scoringendpoints"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/scoring/leases"


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


ROUTER = {"scorefront.io/component": "router"}
CONTROL = {"scorefront.io/component": "control"}
MODEL = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}


def membership() -> dict[str, str]:
    records = {
        f"router-{number}": history.PodRecord(
            f"g{number}", f"uid{number}", MembershipPart((Member(f"w{number}", f"10.0.0.{number}:4000{number}", True),))
        )
        for number in (1, 2)
    }
    return history.encoded(history.ViewHistory(7, records))


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
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    """`get` or `watch`, path, query."""
    caller: str = "admin"
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource) that no service account may."""
    reviews: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    """Plural of the review, body."""
    _api: FakeKubernetes = field(default_factory=lambda: FakeKubernetes("scoring", controllers=False))

    def __post_init__(self) -> None:
        routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
        models = [pod(f"iris-blue-{number}", MODEL, f"10.0.1.{number}") for number in (1, 2)]
        controls = [pod(f"control-{number}", CONTROL, f"10.0.2.{number}") for number in (1, 2)]
        self.lists = {f"{HOME}/pods": [*routers, *models, *controls], ENDPOINTS: [endpoint()], **self.lists}
        self.objects = {
            f"{HOME}/configmaps/scorefront-routers": {"data": membership()},
            f"{HOME}/configmaps/scorefront-trust": trust("k1"),
            f"{LEASE}/scorefront-control": lease(),
            **self.objects,
        }
        for path, items in self.lists.items():
            collection, namespace, _, _ = split(path)
            for item in items:
                self._put(collection, namespace, item)
        for path, found in self.objects.items():
            collection, namespace, name, _ = split(path)
            self._put(collection, namespace, {**found, "metadata": {"name": name, **found.get("metadata", {})}})

    def _put(self, collection: str, namespace: str | None, found: dict[str, Any]) -> None:
        self._api.put(KINDS[collection], {**found, "metadata": {"namespace": namespace, **found["metadata"]}})

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
        self.asked.append(("get", path, query))
        self._refuse(path)
        return self._api.get_now(path, query)

    async def review(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        kind = path.rpartition("/")[2]
        self.reviews.append((kind, body))
        self._refuse(f"/{kind}")
        if kind == "selfsubjectreviews":
            return {"status": {"userInfo": {"username": self.caller}}}
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.forbidden}}

    async def watch(self, path: str, query: Mapping[str, str]) -> None:
        self.asked.append(("watch", path, query))
        assert query["resourceVersion"] == str(self._api.newest_version)
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
