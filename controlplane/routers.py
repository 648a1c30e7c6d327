"""Interfaces of the router workers to the control plane. `scorefront` composes the two."""

from collections.abc import Sequence
from typing import Protocol

from cluster.link import FailedRequest, ToWorker, WorkerMetrics
from serving.endpoint import VersionKey


class RoutePublisher(Protocol):
    """Sends endpoints and replicas to workers that do not read them from the Kubernetes API."""

    def publish(self, message: ToWorker) -> None:
        """Send to every worker, in order; a (re)started worker receives a ResetAll first."""


class ReplicaRetirer(Protocol):
    """Retires replicas in the workers that own their slots."""

    async def retire(self, key: VersionKey, count: int) -> Sequence[str]:
        """Retire `count` READY replicas of a version, idle ones first; returns their ids, possibly fewer."""


class WorkerMetricsSource(Protocol):
    """Source of the metrics of router workers."""

    async def collect(self) -> Sequence[WorkerMetrics]:
        """Counts of every worker; the last known ones of a worker that does not answer within a second."""


class FailureSource(Protocol):
    """Source of the last failed requests of an endpoint."""

    async def failures(self, endpoint: str, last: int) -> Sequence[FailedRequest]:
        """The newest failed requests, newest first. `last`: most of them."""


class TraceSource(Protocol):
    """Source of the recorded arrivals of a version."""

    async def trace(self, key: VersionKey, since_s: float) -> Sequence[tuple[float, float | None, int]]:
        """(age in seconds, service time in seconds or None, size in bytes) of the requests, oldest first.

        since_s: longest age.
        """
