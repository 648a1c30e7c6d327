"""Kubernetes Events of an endpoint, for `kubectl describe`: at most one in EVERY_S of a subject, the last included."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, RequestRefused, WriteConflict
from cluster.kubernetes.client.paths import EVENTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.objects.event import EventType, event, repeated
from serving.clock import Clock

EVERY_S = 10.0
"""Least time between two Events with one reason about one subject; the last of those in between follows."""
RELEASE_EVERY_S = 1.0
MAX_PENDING = 100
"""Events beyond this backlog are dropped, e.g. while the API server is away."""

Object = dict[str, Any]
Subject = tuple[str, str, str]
"""Uid of the object, reason, part of the object."""

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
        self._recorded_at_s: dict[Subject, float] = {}
        self._held: dict[Subject, Object] = {}
        """The last Event of a subject that had one a moment ago."""
        self._was_refused = False

    def __call__(self, endpoint: str, reason: str, note: str, warning: bool = False, about: str = "") -> None:
        """Record an Event of the object that owns the name `endpoint`; does not block. See `record`."""
        found = self._objects.owner(endpoint)
        if found is not None:
            self.record(found, reason, note, warning, about)

    def record(self, regarding: Object, reason: str, note: str, warning: bool = False, about: str = "") -> None:
        """Record an Event; does not block.

        regarding: the object.
        reason: one CamelCase word.
        note: text for people.
        warning: default: a normal Event.
        about: part of the object, e.g. `blue up`; Events about different ones do not replace each other.
        """
        now = self._clock.now()
        self._recorded_at_s = {subject: at_s for subject, at_s in self._recorded_at_s.items() if now < at_s + EVERY_S}
        kind = EventType.WARNING if warning else EventType.NORMAL
        made = event(regarding, kind, reason, note, self._rfc3339(), instance=self._instance)
        subject = regarding["metadata"]["uid"], reason, about
        if subject not in self._recorded_at_s:
            self._put(subject, made)
        elif len(self._held) < MAX_PENDING or subject in self._held:
            self._held[subject] = made

    async def run(self) -> None:
        """Send recorded events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._release(), name="release held events")
            while True:
                each = await self._pending.get()
                try:
                    await self._send(each)
                except ApiError as error:
                    is_new = isinstance(error, RequestRefused) and not self._was_refused
                    self._was_refused = self._was_refused or is_new
                    _log.log(logging.WARNING if is_new else logging.DEBUG, "event not written: %s", error)
                else:
                    self._was_refused = False

    async def _release(self) -> None:
        while True:
            await self._clock.sleep(RELEASE_EVERY_S)
            now = self._clock.now()
            for subject in [each for each in self._held if now >= self._recorded_at_s.get(each, 0.0) + EVERY_S]:
                self._put(subject, self._held.pop(subject))

    def _put(self, subject: Subject, made: Object) -> None:
        if not self._pending.full():
            self._recorded_at_s[subject] = self._clock.now()
            self._pending.put_nowait(made)

    async def _send(self, each: Object) -> None:
        metadata = each["metadata"]
        try:
            await self._api.create(path(EVENTS, metadata["namespace"]), each)
        except WriteConflict:
            where = path(EVENTS, metadata["namespace"], metadata["name"])
            await self._api.merge(where, repeated(await self._api.get(where), self._rfc3339()))
