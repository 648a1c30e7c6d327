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
from router.core.view import View
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, HistoryError
from router.membership.router_membership import HistoryWrite, RouterMembership, Suspect
from scorefront.router.sole_member import SoleMemberMarker
from serving.clock import Clock

_log = logging.getLogger("scorefront.membership")

TICK_S = 1.0
"""Interval of the checks for outdated entries."""
CHECK_S = 1.0
"""One other pod is looked after in this time: each router asks no more than this, however many there are."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Between attempts to write while the API server is away: a router is held up no longer than this once it is back."""
ASK_S = 5.0
"""The object is read this often, too: a watch may be silent for a minute before it is known to be dead, and a router
that knows of no new view keeps the others waiting.
"""
FAREWELL_S = 3.0
_ENDED = ("Succeeded", "Failed")


class ClusterMembership:
    """Satisfies `router.membership.agreement.Membership`. Views come as long as `run` does."""

    def __init__(
        self,
        api: Api,
        seat: RouterMembership,
        solitude: SoleMemberMarker,
        clock: Clock,
        u: Callable[[], float],
        on_expelled: Callable[[], None],
    ) -> None:
        """`u` draws from [0, 1). `on_expelled`: the others take this group for dead; it must end at once."""
        self._api = api
        self._seat = seat
        self._solitude = solitude
        self._clock = clock
        self._now = clock.now
        self._u = u
        self._on_expelled = on_expelled
        self._on_view: Callable[[View], None] = lambda view: None
        self._sent_epoch = -1
        self._complaint = ""
        self._news = asyncio.Event()
        self._doubts = asyncio.Event()
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
        self._seat.announce(part)
        self._news.set()
        self._tell()

    # ---- life

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="watch who takes part")
            tasks.create_task(self._write(), name="say who takes part")
            tasks.create_task(self._look_after(), name="look after other routers")

    async def leave(self) -> None:
        """Remove this router after the end of its workers and of `run`; gives up after FAREWELL_S."""
        self._on_expelled = lambda: None
        self._solitude.drop()
        with contextlib.suppress(TimeoutError, ApiError, HistoryError):
            async with asyncio.timeout(FAREWELL_S):
                while draft := self._seat.departure():
                    try:
                        self._seat.read(await self._put(draft), self._now())
                    except (WriteConflict, NotFound):
                        await self._ask()

    def restore(self) -> None:
        """Start from the marker of the last run in this pod; a version read from the API server takes precedence."""
        known = self._solitude.load()
        if known is not None and self._seat.history is None:
            self._read(known)

    def doubt(self) -> None:
        """Check the other routers now: a router pod has changed."""
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

    async def _ask(self) -> None:
        """Read the newest version. Raises ApiError."""
        history = self._seat.history
        asked_at = history.epoch if history is not None else -1
        try:
            self._read(await self._api.get(self._path), asked_at)
        except NotFound:
            self._read(None)

    def _read(self, config_map: dict[str, Any] | None, asked_at: int = -1) -> None:
        first = self._seat.history is None
        try:
            self._seat.read(config_map, self._now(), asked_at)
        except HistoryError as error:
            _log.error("membership: not read, stays as it was: %s", error)
            return
        self._news.set()
        if first:
            self._doubts.set()
        self._tell()

    def _tell(self) -> None:
        """Publish a newer view, or the expulsion of this group."""
        if self._seat.expelled:
            self._on_expelled()
            return
        self._note_solitude()
        view = self._seat.view(self._now())
        if view is not None and view.epoch > self._sent_epoch:
            self._sent_epoch = view.epoch
            self._on_view(view)

    def _note_solitude(self) -> None:
        """Update the marker before a view is published."""
        known = self._seat.known()
        if known is not None and self._seat.is_alone():
            self._solitude.keep(known)
        elif self._seat.history is not None:
            self._solitude.drop()

    # ---- writing

    async def _write(self) -> None:
        failures = 0
        while True:
            self._news.clear()
            draft = self._seat.draft(self._now())
            if draft is None:
                await self._wait(self._news, TICK_S * (0.5 + self._u()))
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
                await self._ask()
            self._complaint = ""
            return True
        except ApiError as error:
            away = error.status == 0 or error.status >= 500
            alone = away and self._seat.continue_alone()
            self._tell()
            told = "no other router, continuing alone" if alone else "new workers wait, the others continue"
            if told != self._complaint:
                _log.warning("membership: not written: %s; %s", error, told)
            self._complaint = told
            return False

    async def _put(self, draft: HistoryWrite) -> dict[str, Any]:
        if not self._seat.is_alone():
            self._solitude.drop()
        if draft.fresh:
            return await self._api.create(path(CONFIGMAPS, self._api.home), draft.body, urgent=True)
        return await self._api.replace(self._path, draft.body, urgent=True)

    # ---- other routers

    async def _look_after(self) -> None:
        ask_at = self._now() + ASK_S
        while True:
            pause_s = CHECK_S * max(1, len(self._seat.suspects()))
            await self._wait(self._doubts, pause_s * (0.5 + self._u()))
            self._doubts.clear()
            if self._now() >= ask_at:
                ask_at = self._now() + ASK_S
                with contextlib.suppress(ApiError):
                    await self._ask()
            for suspect in self._seat.suspects():
                if await self._is_gone(suspect):
                    _log.warning("router in pod %s: ended: its slots are quarantined", suspect.pod)
                    self._seat.gone(suspect)
                    self._news.set()

    async def _is_gone(self, suspect: Suspect) -> bool:
        """Ask the API server now: a stale answer would end a living group."""
        try:
            pod = await self._api.get(path(PODS, self._api.home, suspect.pod))
        except NotFound:
            return True
        except ApiError:
            return False
        return pod["metadata"]["uid"] != suspect.uid or (pod.get("status") or {}).get("phase") in _ENDED

    async def _wait(self, event: asyncio.Event, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await event.wait()
