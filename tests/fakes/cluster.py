"""The control plane of a cluster on a Kubernetes in memory, with the routers faked and the clock in the test's hand."""

import random
from collections.abc import Iterable
from typing import Any, Self, cast

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound
from cluster.kubernetes.client.election import Election, ElectionSettings
from cluster.kubernetes.client.paths import ENDPOINTS, LEASES, path
from controlplane.kubernetes.cluster_control import ClusterSettings, cluster_control
from serving.destinations import Destinations, networks
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage
from tests.fakes.clock import VirtualClock, settle
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object
from tests.fakes.routers import WatchingRouters

BLUE = VersionKey("iris", "blue")


def image(name: str = "blue", minimum: int = 1, maximum: int = 10, **fields: Any) -> Object:
    """A version that runs an image."""
    scaler = {} if "numReplicas" in fields else {"autoScaler": {"minReplicas": minimum, "maxReplicas": maximum}}
    return {"name": name, "replica": {"image": "registry/model:1"}, **scaler, **fields}


def scoring_endpoint(
    name: str = "iris", versions: list[Object] | None = None, namespace: str = "home", **spec: Any
) -> Object:
    """A ScoringEndpoint as kubectl would send it."""
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"versions": versions or [image()], **spec},
    }


LEASE = "scorefront-control"


class HeldLease:
    """A leadership by the Lease in `kubernetes`, taken when this is made."""

    def __init__(self, kubernetes: FakeKubernetes, number: int) -> None:
        self._kubernetes = kubernetes
        self._name = f"leader-{number}"
        spec = {"holderIdentity": self._name, "leaseTransitions": number}
        if kubernetes.find(LEASES, LEASE) is None:
            self._lease = kubernetes.put(LEASES, {"metadata": {"name": LEASE}, "spec": spec})
        else:
            self._lease = kubernetes.edit(LEASES, LEASE, {"spec": spec}, self._name)
        self._election = Election(LEASE, kubernetes.home, self._name, {}, ElectionSettings())
        self._election.won(self._lease, 0.0, 0.0)
        self.has_run_out = False

    @property
    def lease_uid(self) -> str:
        return str(self._lease["metadata"]["uid"])

    def leads(self) -> bool:
        return not self.has_run_out

    async def confirmed(self) -> bool:
        try:
            lease = await self._kubernetes.get(path(LEASES, self._kubernetes.home, LEASE))
        except NotFound:
            return False
        return self._election.names_me(lease)


class Leadership:
    """One leader."""

    def __init__(
        self,
        kubernetes: FakeKubernetes | None = None,
        clock: VirtualClock | None = None,
        fence: int = 1,
        namespaces: tuple[str, ...] = ("home",),
    ) -> None:
        self.kubernetes = kubernetes or FakeKubernetes()
        self.clock = clock or VirtualClock()
        self.routers = WatchingRouters()
        static = Destinations(networks("10.9.0.0/16"), in_cluster=True)
        settings = ClusterSettings(namespaces, "http://scorefront", static=static)
        self.lease = HeldLease(self.kubernetes, fence)
        chance = random.Random(1)
        self.control = cluster_control(
            cast(Api, self.kubernetes),
            self.routers,
            fence,
            self.clock,
            self.clock.wall,
            chance.random,
            settings,
            self.lease,
        )
        self.plane = self.control.plane
        self.routers.seen = self.plane.sources.view.replicas
        self.provider = self.control._parts.provider
        self._integral = 0.0

    async def start(self) -> Self:
        await self.control.start()
        await self.settle()
        return self

    @property
    def fence(self) -> str:
        """The fencing token of this leadership."""
        return self.control._parts.fence.mark

    async def stop(self) -> None:
        await self.control.stop()

    async def settle(self, seconds: float = 0.0) -> None:
        """Let this much time pass, in steps, with all tasks run in each."""
        end = self.clock.now() + seconds
        while True:
            for _ in range(2):
                await settle()
            if self.clock.now() >= end:
                return
            await self.clock.advance(min(0.2, end - self.clock.now()))

    async def declare(self, document: Object, settle_s: float = 1.0) -> None:
        """As `kubectl apply` does."""
        self.kubernetes.put(ENDPOINTS, document)
        await self.settle(settle_s)

    def has_endpoint(self, name: str = "iris", namespace: str = "home") -> bool:
        return self.kubernetes.find(ENDPOINTS, name, namespace) is not None

    def endpoint(self, name: str = "iris", namespace: str = "home") -> Object:
        return self.kubernetes.must_find(ENDPOINTS, name, namespace)

    def conditions(self, name: str = "iris", namespace: str = "home") -> dict[str, tuple[str, str, str]]:
        """Type -> (status, reason, message)."""
        status = self.endpoint(name, namespace).get("status") or {}
        return {each["type"]: (each["status"], each["reason"], each["message"]) for each in status["conditions"]}

    def usage(
        self,
        busy: int,
        waiting: int = 0,
        total: int = 0,
        key: VersionKey = BLUE,
        starved: bool = False,
        by: Iterable[str] = (),
    ) -> None:
        """Send the usage report of the one worker."""
        row = VersionUsage(key.endpoint, key.version, busy, total, waiting, self._integral, dict.fromkeys(by, 1))
        self.plane.reports.usage_reported(UsageReport("w1", self.clock.now(), (row,), (key,) if starved else ()))

    async def load(self, seconds: float, busy: int, waiting: int = 0, total: int = 0, key: VersionKey = BLUE) -> None:
        """Just so much, for so long."""
        for _ in range(round(seconds / 0.2)):
            await self.settle(0.2)
            self._integral += busy * 0.2
            self.usage(busy, waiting, total, key)
