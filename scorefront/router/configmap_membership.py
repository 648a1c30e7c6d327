"""Membership of the routers of a cluster, agreed on through one ConfigMap.

`router.membership.router_membership` decides; here it is carried out.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from cluster.kubernetes.client.api import Api, ApiError, NotFound, WriteConflict
from cluster.kubernetes.client.backoff import BackoffSettings
from cluster.kubernetes.client.paths import CONFIGMAPS, PODS, path
from cluster.kubernetes.client.reflector import ObjectPut, ObjectsListed, Reflector, ReflectorSettings
from cluster.kubernetes.container_end import container_ended, pod_ended
from router.core.view import View
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, HistoryError, HistoryWrite
from router.membership.router_membership import RouterMembership, Suspect
from scorefront.router.sole_member import SoleMemberMarker
from serving.clock import Clock

_log = logging.getLogger("scorefront.membership")

TICK_S = 1.0
"""Interval of the checks for outdated entries."""
CHECK_S = 1.0
"""Interval of the requests for pods of other routers, one after the other, however many there are."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Longest pause between attempts to write while the API server is away, thus the longest delay once it is back."""
READ_INTERVAL_S = 5.0
"""Interval of the reads of the object beside its watch: a watch may be silent for a minute before it is known to be
dead, and a router without the newest view keeps the others waiting.
"""
LEAVE_TIMEOUT_S = 3.0
_ENDED = ("Succeeded", "Failed")


class ClusterMembership:
    """Satisfies `router.membership.agreement.Membership`. Views come as long as `run` does."""

    def __init__(
        self,
        api: Api,
        decisions: RouterMembership,
        marker: SoleMemberMarker,
        clock: Clock,
        u: Callable[[], float],
        on_expelled: Callable[[], None],
    ) -> None:
        """`decisions`: of this group. `marker`: of this pod. `u` draws from [0, 1).

        `on_expelled`: called when the others take this group for dead; it must end at once.
        """
        self._api = api
        self._decisions = decisions
        self._marker = marker
        self._clock = clock
        self._now = clock.now
        self._u = u
        self._on_expelled = on_expelled
        self._on_view: Callable[[View], None] = lambda view: None
        self._sent_epoch = -1
        self._logged = ""
        self._to_write = asyncio.Event()
        self._doubts = asyncio.Event()
        self._doubted: set[str] = set()
        # Names of pods to be checked at once.
        self._path = path(CONFIGMAPS, api.home, NAME)
        self._reflector = Reflector(
            api,
            path(CONFIGMAPS, api.home),
            clock,
            u,
            field_selector=f"metadata.name={NAME}",
            settings=ReflectorSettings(backoff=BackoffSettings(last_s=LONGEST_PAUSE_S)),
        )

    # ---- Membership

    def attach(self, on_view: Callable[[View], None]) -> None:
        """See `Membership`."""
        self._on_view = on_view

    def announce(self, part: MembershipPart) -> None:
        """See `Membership`. Retried while the API server is away."""
        self._decisions.announce(part)
        self._to_write.set()
        self._publish()

    # ---- life

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="watch the membership")
            tasks.create_task(self._write(), name="write the membership")
            tasks.create_task(self._check_others(), name="check the other routers")

    async def leave(self) -> None:
        """Remove this router after the end of its workers and of `run`; gives up after LEAVE_TIMEOUT_S."""
        self._on_expelled = lambda: None
        self._marker.drop()
        with contextlib.suppress(TimeoutError, ApiError, HistoryError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                while draft := self._decisions.departure():
                    try:
                        self._decisions.read(await self._put(draft), self._now())
                    except (WriteConflict, NotFound):
                        await self._read_newest()

    def restore(self) -> None:
        """Start from the marker of the last run in this pod; a version read from the API server takes precedence."""
        known = self._marker.load()
        if known is not None and self._decisions.history is None:
            self._read(known)

    def pod_changed(self, pod: dict[str, Any]) -> None:
        """Take in the newest state of a pod of the installation: its container may have ended."""
        for suspect in self._suspects(pod["metadata"]["name"]):
            if pod["metadata"]["uid"] == suspect.uid and container_ended(pod, suspect.started_at):
                self._remove(suspect, "its container has ended")

    def pod_gone(self, name: str) -> None:
        """Check a pod of the installation now: it was removed by the watch, whose answers may be stale."""
        if any(self._suspects(name)):
            self._doubted.add(name)
            self._doubts.set()

    def age_s(self, now: float) -> float:
        """Seconds since the last word from the API server on the membership."""
        return self._reflector.age_s(now)

    # ---- reading

    async def _watch(self) -> None:
        async for change in self._reflector.changes():
            match change:
                case ObjectsListed(objects):
                    self._read(objects[0] if objects else None)
                case ObjectPut(config_map):
                    self._read(config_map)
                case _:
                    self._read(None)

    async def _read_newest(self) -> None:
        """Read the newest version. Raises ApiError."""
        history = self._decisions.history
        asked_at = history.epoch if history is not None else -1
        try:
            self._read(await self._api.get(self._path), asked_at)
        except NotFound:
            self._read(None)

    def _read(self, config_map: dict[str, Any] | None, asked_at: int = -1) -> None:
        first = self._decisions.history is None
        try:
            self._decisions.read(config_map, self._now(), asked_at)
        except HistoryError as error:
            _log.error("membership: not read, stays as it was: %s", error)
            return
        self._to_write.set()
        if first:
            self._doubted.update(suspect.pod for suspect in self._decisions.suspects())
            self._doubts.set()
        self._publish()

    def _publish(self) -> None:
        """Publish a newer view, or the expulsion of this group."""
        if self._decisions.expelled:
            self._on_expelled()
            return
        self._update_marker()
        view = self._decisions.view(self._now())
        if view is not None and view.epoch > self._sent_epoch:
            self._sent_epoch = view.epoch
            self._on_view(view)

    def _update_marker(self) -> None:
        """Update the marker before a view is published."""
        known = self._decisions.known()
        if known is not None and self._decisions.is_alone():
            self._marker.keep(known)
        elif self._decisions.history is not None:
            self._marker.drop()

    # ---- writing

    async def _write(self) -> None:
        failures = 0
        while True:
            self._to_write.clear()
            draft = self._decisions.draft(self._now())
            if draft is None:
                await self._wait(self._to_write, TICK_S * (0.5 + self._u()))
                continue
            failures = 0 if await self._written(draft) else failures + 1
            if failures:
                pause_s = min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S)
                await self._clock.sleep(pause_s * (0.5 + self._u() / 2))

    async def _written(self, draft: HistoryWrite) -> bool:
        """True if the API server was reached: it accepted the write, or returned a newer version."""
        try:
            try:
                self._read(await self._put(draft))
            except (WriteConflict, NotFound):
                await self._read_newest()
            self._logged = ""
            return True
        except ApiError as error:
            away = error.status == 0 or error.status >= 500
            alone = away and self._decisions.continue_alone()
            self._publish()
            outcome = "no other router, continuing alone" if alone else "new workers wait, the others continue"
            if outcome != self._logged:
                _log.warning("membership: not written: %s; %s", error, outcome)
            self._logged = outcome
            return False

    async def _put(self, draft: HistoryWrite) -> dict[str, Any]:
        if not self._decisions.is_alone():
            self._marker.drop()
        if draft.fresh:
            return await self._api.create(path(CONFIGMAPS, self._api.home), draft.body, urgent=True)
        return await self._api.replace(self._path, draft.body, urgent=True)

    # ---- other routers

    async def _check_others(self) -> None:
        """Check one other router after the other, at once those whose pods have been removed."""
        read_at = self._now() + READ_INTERVAL_S
        while True:
            pause_s = CHECK_S * max(1, len(self._decisions.suspects()))
            await self._wait(self._doubts, pause_s * (0.5 + self._u()))
            self._doubts.clear()
            doubted, self._doubted = self._doubted, set()
            if self._now() >= read_at:
                read_at = self._now() + READ_INTERVAL_S
                with contextlib.suppress(ApiError):
                    await self._read_newest()
            for suspect in self._decisions.suspects():
                if doubted and suspect.pod not in doubted:
                    continue
                if reason := await self._end_of(suspect):
                    self._remove(suspect, reason)

    async def _end_of(self, suspect: Suspect) -> str:
        """Evidence of the end of the group, "" if it may be alive. Read anew: a stale one removes a living group."""
        try:
            pod = await self._api.get(path(PODS, self._api.home, suspect.pod))
        except NotFound:
            return "its pod is gone"
        except ApiError:
            return ""
        if pod_ended(pod, suspect.uid):
            return "its pod has ended"
        return "its container has ended" if container_ended(pod, suspect.started_at) else ""

    def _remove(self, suspect: Suspect, reason: str) -> None:
        _log.warning("router in pod %s: %s: its slots pass to the others", suspect.pod, reason)
        self._decisions.gone(suspect)
        self._to_write.set()

    def _suspects(self, pod: str) -> list[Suspect]:
        return [suspect for suspect in self._decisions.suspects() if suspect.pod == pod]

    async def _wait(self, event: asyncio.Event, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await event.wait()
