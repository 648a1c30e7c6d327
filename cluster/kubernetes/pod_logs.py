"""Logs of the pods of a version: last lines, and new lines as they are written."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.client.paths import PODS, path
from cluster.kubernetes.objects.pod import replica_id
from cluster.timed_line import TimedLine, timed
from serving.clock import Clock

AT_ONCE = 8
MAX_PODS = 100
"""Most pods per request: a version may have thousands."""
LOOK_EVERY_S = 1.0
SILENT_S = 3600.0
MAX_PENDING_LINES = 1000

Pod = dict[str, Any]

_log = logging.getLogger(__name__)


class PodLogs:
    """Lines of the first container of a pod: the serving one; sidecars follow it."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def tail(self, pods: list[Pod], lines: int) -> dict[str, list[TimedLine]]:
        """Replica -> its last lines. For a container in restart backoff: of its previous run."""
        gate = asyncio.Semaphore(AT_ONCE)
        chosen = [pod for pod in pods if _has_run(pod)][-MAX_PODS:]

        async def read(pod: Pod) -> list[TimedLine]:
            async with gate:
                return await self._read(pod, lines)

        tails = await asyncio.gather(*(read(pod) for pod in chosen))
        return {replica_id(pod): tail for pod, tail in zip(chosen, tails, strict=True)}

    async def _read(self, pod: Pod, lines: int) -> list[TimedLine]:
        metadata = pod["metadata"]
        query = {**_container(pod), "tailLines": str(lines), "timestamps": "true"}
        if _is_waiting(pod):
            query["previous"] = "true"
        try:
            text = await self._api.text(path(PODS, metadata["namespace"], metadata["name"], "log"), query)
        except ApiError as error:
            _log.debug("log of pod %s: not read: %s", metadata["name"], error)
            return []
        # Not splitlines: a form feed or a Unicode separator is part of a line.
        return timed(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")) if text else []

    async def follow(self, pods: Callable[[], list[Pod]]) -> AsyncGenerator[tuple[str, TimedLine], None]:
        """(replica, line) of all that are there and of those that come, for ever. Close it to stop."""
        written: asyncio.Queue[tuple[str, TimedLine]] = asyncio.Queue(MAX_PENDING_LINES)
        looking = asyncio.create_task(self._follow_all(pods, written), name="follow logs of pods")
        try:
            while True:
                yield await written.get()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _follow_all(self, pods: Callable[[], list[Pod]], written: asyncio.Queue[tuple[str, TimedLine]]) -> None:
        first, followed = True, set[str]()
        async with asyncio.TaskGroup() as tasks:
            while True:
                for pod in [pod for pod in pods() if replica_id(pod) not in followed and _has_run(pod)]:
                    followed.add(replica_id(pod))
                    tasks.create_task(self._follow(pod, first, written), name=f"follow log of {replica_id(pod)}")
                first = False
                await self._clock.sleep(LOOK_EVERY_S)

    async def _follow(self, pod: Pod, from_now: bool, written: asyncio.Queue[tuple[str, TimedLine]]) -> None:
        metadata = pod["metadata"]
        query = {**_container(pod), "follow": "true", "timestamps": "true", **({"tailLines": "0"} if from_now else {})}
        where = path(PODS, metadata["namespace"], metadata["name"], "log")
        try:
            async with contextlib.aclosing(self._api.lines(where, query, SILENT_S)) as lines:
                async for line in lines:
                    for entry in timed([line.decode(errors="replace")]):
                        await written.put((replica_id(pod), entry))
        except ApiError as error:
            _log.debug("log of pod %s: follow ended: %s", metadata["name"], error)


def _container(pod: Pod) -> dict[str, str]:
    containers = pod["spec"]["containers"]
    return {"container": containers[0]["name"]} if containers else {}


def _state(pod: Pod) -> dict[str, Any]:
    """Name of the first container."""
    names = [container["name"] for container in pod["spec"]["containers"][:1]]
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status for status in statuses if status.get("name") in names), {})


def _has_run(pod: Pod) -> bool:
    found = _state(pod)
    return bool((found.get("state") or {}).keys() & {"running", "terminated"} or _is_waiting(pod))


def _is_waiting(pod: Pod) -> bool:
    """It has ended, and waits to be started again."""
    found = _state(pod)
    return "waiting" in (found.get("state") or {}) and bool(found.get("restartCount"))
