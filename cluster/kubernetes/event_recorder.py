"""Kubernetes Events of an endpoint, for `kubectl describe`: each at most once a minute."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, WriteConflict
from cluster.kubernetes.client.paths import EVENTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.objects.event import EventType, event, repeated
from serving.clock import Clock

EVERY_S = 60.0
MAX_PENDING = 100
"""Events beyond this backlog are dropped, e.g. while the API server is away."""

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class EventRecorder:
    """`rfc3339()` is the time now, in UTC. `instance` names this process."""

    def __init__(
        self,
        api: Api,
        objects: EndpointObjects,
        clock: Clock,
        rfc3339: Callable[[], str],
        instance: str = "scorefront-control",
    ) -> None:
        self._api = api
        self._objects = objects
        self._clock = clock
        self._rfc3339 = rfc3339
        self._instance = instance
        self._pending: asyncio.Queue[Object] = asyncio.Queue(MAX_PENDING)
        self._recorded_at_s: dict[tuple[str, str], float] = {}

    def __call__(self, endpoint: str, reason: str, note: str, warning: bool = False) -> None:
        """Record an Event of the object that owns the name `endpoint`; does not block."""
        found = self._objects.owner(endpoint)
        if found is not None:
            self.record(found, reason, note, warning)

    def record(self, regarding: Object, reason: str, note: str, warning: bool = False) -> None:
        """Record an Event of an object, unless one with this reason was recorded within the last minute; does not
        block.
        """
        now = self._clock.now()
        self._recorded_at_s = {subject: at_s for subject, at_s in self._recorded_at_s.items() if now < at_s + EVERY_S}
        subject = regarding["metadata"]["uid"], reason
        if subject in self._recorded_at_s or self._pending.full():
            return
        self._recorded_at_s[subject] = now
        kind = EventType.WARNING if warning else EventType.NORMAL
        self._pending.put_nowait(event(regarding, kind, reason, note, self._rfc3339(), instance=self._instance))

    async def run(self) -> None:
        """Send recorded events until cancelled."""
        while True:
            each = await self._pending.get()
            try:
                await self._send(each)
            except ApiError as error:
                _log.debug("event not written: %s", error)

    async def _send(self, each: Object) -> None:
        metadata = each["metadata"]
        try:
            await self._api.create(path(EVENTS, metadata["namespace"]), each)
        except WriteConflict:
            where = path(EVENTS, metadata["namespace"], metadata["name"])
            await self._api.merge(where, repeated(await self._api.get(where), self._rfc3339()))
