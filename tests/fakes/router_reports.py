"""The reports of router workers, recorded."""

from collections.abc import Collection

from serving.usage import UsageReport


class RecordedReports:
    """Satisfies `cluster.router_reports.RouterReports`."""

    def __init__(self) -> None:
        self.reports: list[UsageReport] = []
        self.drained: list[str] = []
        self.workers: Collection[str] = ()
        """The workers expected last."""
        self.gone: list[str] = []

    def usage_reported(self, report: UsageReport) -> None:
        self.reports.append(report)

    def replica_drained(self, replica_id: str) -> None:
        self.drained.append(replica_id)

    def workers_expected(self, workers: Collection[str]) -> None:
        self.workers = workers

    def worker_ended(self, worker: str) -> None:
        self.gone.append(worker)
