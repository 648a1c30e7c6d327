"""A real supervisor with real worker processes on a port the system chose, fed with snapshots made by hand."""

import asyncio
import os
from collections import defaultdict
from pathlib import Path

import psutil

from cluster.link import ResetAll, ToWorker, WorkerMetrics
from router.supervisor.listening import listening_socket
from router.supervisor.worker_supervisor import Supervisor, worker_command
from serving.credentials import TokenTrust
from serving.replica import Replica as DeclaredReplica
from serving.usage import UsageReport, VersionUsage
from tests.fakes.router_reports import RecordedReports
from tests.integration.router.clients import Client
from tests.integration.router.rig import endpoint

ROOT = Path(__file__).parents[3]


def snapshot(*replicas: DeclaredReplica) -> ResetAll:
    """The endpoint `iris` with these replicas."""
    return ResetAll((endpoint(),), (), TokenTrust("https://issuer.test"), replicas)


def environment(**settings: float) -> dict[str, str]:
    """A worker's environment; its imports come from this checkout, installed or not."""
    chosen = {f"SCOREFRONT_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": str(ROOT), **chosen}


class Group(RecordedReports):
    """One router, and its reports to the control plane."""

    def __init__(self, told: ResetAll, workers: int = 1, **settings: float) -> None:
        super().__init__()
        self.told = told
        self.timed: list[tuple[float, UsageReport]] = []
        """(seconds on the clock of the loop, report)."""
        self._listen = listening_socket("127.0.0.1", 0)
        self.port: int = self._listen.getsockname()[1]
        self._clients: list[Client] = []
        self.supervisor = Supervisor(self._listen, workers, worker_command(), environment(**settings))

    async def start(self) -> None:
        async with asyncio.timeout(20):
            await self.supervisor.start(lambda: self.told, self)

    async def stop(self) -> None:
        """Also shows that no slot was ever given twice."""
        metrics = await self.collect()
        for client in self._clients:
            client.leave()
        await self.supervisor.close(5)
        self._listen.close()
        assert [each.slot_violations for each in metrics] == [0] * len(metrics)
        assert [each.counters["double_releases"] for each in metrics] == [0] * len(metrics)

    def usage_reported(self, report: UsageReport) -> None:
        self.timed.append((asyncio.get_running_loop().time(), report))

    def tell(self, message: ToWorker) -> None:
        self.supervisor.publish(message)

    def processes(self) -> list[psutil.Process]:
        """The worker processes that live now."""
        return [child for child in psutil.Process().children() if "router-worker" in child.cmdline()]

    async def client(self) -> Client:
        client = await Client.connect(self.port)
        self._clients.append(client)
        return client

    async def collect(self) -> list[WorkerMetrics]:
        """The counters of every worker."""
        found = await self.supervisor.collect()
        return [each for each in found if not each.worker.startswith("supervisor-")]

    async def metrics(self) -> WorkerMetrics:
        """The counters of the only worker."""
        (metrics,) = await self.collect()
        return metrics

    def usages(self) -> dict[str, list[tuple[float, VersionUsage]]]:
        """Worker -> its report of `iris/blue`: (its clock, usage)."""
        found = defaultdict(list)
        for _, report in self.timed:
            for usage in report.versions:
                if usage.key == ("iris", "blue"):
                    found[report.worker].append((report.at_s, usage))
        return found
