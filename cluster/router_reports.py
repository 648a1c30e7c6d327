"""Reports of router workers to the control plane, directly or through the uplink of their router."""

from collections.abc import Collection
from typing import Protocol

from serving.usage import UsageReport


class RouterReports(Protocol):
    """Receiver of reports; called on the event loop."""

    def usage_reported(self, report: UsageReport) -> None:
        """Usage of the versions in one worker."""

    def replica_drained(self, replica_id: str) -> None:
        """A retired replica has no request in flight in any worker, and gets none."""

    def workers_expected(self, workers: Collection[str]) -> None:
        """All workers that serve or drain; usage is incomplete while one of them does not report."""

    def worker_ended(self, worker: str) -> None:
        """A worker process has ended."""
