"""A control plane with fakes around it, and documents to feed it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from controlplane.plane import ControlPlane, PlaneSettings
from controlplane.store import StateStore
from tests.fakes.clock import VirtualClock, eventually
from tests.fakes.provider import FakeProvider
from tests.fakes.routers import FakeRouters


def manifest(name: str = "iris", versions: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    """A document as a user would declare it; by default one version `blue`, one slot a replica, 1 to 6 replicas."""
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": name},
        "spec": {"versions": versions or [version()], **spec},
    }


def version(name: str = "blue", minimum: int = 1, maximum: int = 6, **fields: Any) -> dict[str, Any]:
    """One version of such a document."""
    scaler = {"autoScaler": {"minReplicas": minimum, "maxReplicas": maximum}}
    fixed = "numReplicas" in fields or "static" in fields.get("replica", {})
    return {
        "name": name,
        "replica": {"command": ["/bin/model", "{port}"]},
        **({} if fixed else scaler),
        **fields,
    }


class Bench:
    """A control plane on a state directory, with everything around it faked."""

    def __init__(self, directory: Path, telemetry_note: str = "") -> None:
        """`telemetry_note`: on endpoints with telemetry; default: it is exported."""
        self.directory = directory
        self.clock = VirtualClock()
        self.provider = FakeProvider()
        self.routers = FakeRouters()
        self.store = StateStore(directory)
        settings = PlaneSettings(scoring_url="http://127.0.0.1:8080", telemetry_note=telemetry_note)
        self.plane = ControlPlane(
            self.store, self.provider, self.routers, self.clock, self.clock.wall, settings, self.routers
        )

    async def start(self) -> Self:
        await self.plane.start()
        return self

    async def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        view, _ = await self.plane.endpoints.apply(document)
        await self.clock.advance(0)
        return view

    async def again(self) -> "Bench":
        """Stop, and start anew on the same state."""
        await self.plane.stop()
        after = Bench(self.directory)
        after.provider.replicas = dict(self.provider.replicas)
        return await after.start()

    async def until(self, predicate: Callable[[], object]) -> None:
        await eventually(predicate)
