"""Detection of drift: Deployments that others changed or deleted after our apply. Pure."""

from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.client.cache import ObjectGone, ObjectPut
from cluster.kubernetes.ownership import WorkloadClaim
from serving.endpoint import VersionKey

Place = tuple[str, str, str]
"""(kind, namespace, name)."""


class DriftDetector:
    """The Deployments as applied, and the endpoints to apply again."""

    def __init__(self) -> None:
        self._applied: dict[Place, object] = {}
        """Deployment -> its spec without the number of replicas, after our last apply."""
        self._drifted: set[str] = set()

    def applied(self, claim: WorkloadClaim, deployment: Mapping[str, Any]) -> None:
        """Record a Deployment after an apply."""
        self._applied[claim.place] = _without_number(deployment)

    def forget(self, claim: WorkloadClaim) -> None:
        """Stop comparing a Deployment that is being removed."""
        self._applied.pop(claim.place, None)

    def changed(self, key: VersionKey, change: ObjectPut | ObjectGone) -> None:
        """Compare a Deployment of a version, changed or deleted, with the one applied."""
        metadata = change.object["metadata"]
        known = self._applied.get(("Deployment", metadata["namespace"], metadata["name"]))
        if known is not None and (isinstance(change, ObjectGone) or known != _without_number(change.object)):
            self.report(key.endpoint)

    def report(self, endpoint: str) -> None:
        """Request another apply of an endpoint."""
        self._drifted.add(endpoint)

    def drifted(self) -> set[str]:
        """The endpoints to apply again, each reported once."""
        drifted, self._drifted = self._drifted, set()
        return drifted


def _without_number(deployment: Mapping[str, Any]) -> object:
    return {name: value for name, value in deployment["spec"].items() if name != "replicas"}
