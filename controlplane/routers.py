"""What the control plane asks of the router workers beside it. `scorefront` composes the two."""

from collections.abc import Sequence
from typing import Protocol

from cluster.link import ToWorker, WorkerMetrics
from serving.endpoint import VersionKey


class RouterControl(Protocol):
    """The group of router workers that this control plane feeds."""

    def publish(self, message: ToWorker) -> None:
        """Tell every worker, in order; a worker that (re)starts gets a ResetAll first."""

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Withdraw `count` READY replicas of a version from service, idle ones first: their ids (maybe fewer)."""

    async def collect(self) -> Sequence[WorkerMetrics]:
        """What every worker has counted; a worker that does not answer within a second gives its last known counts."""
