"""Records that the workers of one router keep: arrivals and failed requests."""

import asyncio

from cluster.link import FailedRequest, FailuresRead, ReadFailures, ReadTrace, TraceRead
from router.supervisor.running_workers import RunningWorkers
from serving.endpoint import VersionKey


class WorkerRecords:
    """Reads the records of all workers. Implements `TraceSource` and `FailureSource` of the control plane."""

    def __init__(self, workers: RunningWorkers) -> None:
        self._workers = workers

    async def trace(self, key: VersionKey, since_s: float) -> list[tuple[float, float | None, int]]:
        """Arrivals of a version: (age in seconds, service time in seconds or None, size), oldest first.

        `since_s`: longest age.
        """
        handles = self._workers.handles.values()
        asked = [handle.ask(lambda request: ReadTrace(request, key, since_s)) for handle in handles]
        answers = await asyncio.gather(*asked)
        found = [one for each in answers if isinstance(each, TraceRead) for one in each.requests]
        return sorted(found, key=lambda one: one[0], reverse=True)

    async def failures(self, endpoint: str, last: int) -> list[FailedRequest]:
        """The newest failed requests of an endpoint, newest first. `last`: most of them."""
        handles = self._workers.handles.values()
        asked = [handle.ask(lambda request: ReadFailures(request, endpoint, last)) for handle in handles]
        answers = await asyncio.gather(*asked)
        found = [one for each in answers if isinstance(each, FailuresRead) for one in each.failures]
        return sorted(found, key=lambda one: one.at, reverse=True)[:last]
