"""Runs leader election: campaigns for the Lease, leads while it is held, and stops in time if the API fails.

The rules are in `election`; this module does the I/O. Three tasks run during leadership: the work, the renewals, and a
watchdog without I/O: it ends the leadership once the last successful renewal is too old, even while a request hangs.
Every failed renewal counts as no renewal.
"""

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from cluster.kubernetes.client import api_errors as errors
from cluster.kubernetes.client.election import Election, ElectionSettings, LeaderInfo
from cluster.kubernetes.client.paths import LEASES, path
from serving.clock import Clock

__all__ = ["ElectionSettings", "Elector", "LeaderInfo", "LeadershipLost"]

T = TypeVar("T")
Object = dict[str, Any]

JITTER = 0.2
"""Jitter of standbys' checks, so that they do not bid at the same time."""

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_log = logging.getLogger("scorefront.kubernetes")


class LeadershipLost(Exception):
    """The lease was lost: this process must end at once, without further requests to the API."""


class Leases(Protocol):
    """The part of `cluster.kubernetes.client.api.Api` in use."""

    home: str

    async def get(self, path: str) -> Object:
        """Raises ApiError."""

    async def create(self, path: str, body: Object, *, urgent: bool) -> Object:
        """Raises ApiError."""

    async def replace(self, path: str, body: Object, *, urgent: bool) -> Object:
        """Raises ApiError."""


class Elector:
    """One candidate for the Lease `name` in the home namespace; `identity` is new with every start of a process."""

    def __init__(
        self,
        api: Leases,
        name: str,
        identity: str,
        annotations: Mapping[str, str],
        clock: Clock,
        wall: Callable[[], float],
        u: Callable[[], float],
        settings: ElectionSettings | None = None,
    ) -> None:
        """`annotations` go on the Lease with the leadership. `wall` (unix seconds) is for people, not for the rules."""
        self._api = api
        self._clock = clock
        self._wall = wall
        self._u = u
        self._settings = settings or ElectionSettings()
        self._election = Election(name, api.home, identity, annotations, self._settings)
        self._collection = path(LEASES, api.home)
        self._path = path(LEASES, api.home, name)
        self._stamped_us = 0
        self.identity = identity
        self.last_error = ""
        """Why the Lease could not be read or written; "" while it can."""

    @property
    def leader(self) -> LeaderInfo | None:
        """The leader seen last, which may be this process; None without one."""
        return self._election.leader

    def leads(self) -> bool:
        """True if this process may act as leader. Check before every write: the process may have been paused."""
        return self._election.leads(self._clock.now())

    @property
    def lease_uid(self) -> str:
        """Uid of the Lease that is held; "" while none is."""
        tenure = self._election.tenure
        return tenure.lease_uid if tenure is not None else ""

    async def confirmed(self) -> bool:
        """True if the Lease, read now, names this process with its fence. Raises ApiError."""
        if self._election.tenure is None:
            return False
        try:
            lease = await self._within(self._api.get(self._path))
        except errors.NotFound:
            return False
        return self._election.tenure is not None and self._election.names_me(lease)

    async def run(self, lead: Callable[[int], Awaitable[None]]) -> None:
        """Campaign until elected, then run `lead(fence)`.

        Returns or raises with `lead`; both release the lease. Raises LeadershipLost if the lease could not be held:
        `lead` is
        cancelled first, and if it does not end, the process must. If this call is cancelled, `lead` is cancelled and
        may
        finish in order while the lease is still renewed; then the lease is released.
        """
        fence = await self._campaign()
        _log.info("leader election: elected, fence %d", fence)
        leading = asyncio.create_task(_run(lead, fence), name="lead")
        renewing = asyncio.create_task(self._renew(), name="renew the lease")
        watching = asyncio.create_task(self._watchdog(), name="watch the leadership")
        lost = False
        try:
            await asyncio.wait({leading, renewing, watching}, return_when=asyncio.FIRST_COMPLETED)
            lost = not leading.done()
        finally:
            await self._step_down(leading, {renewing, watching}, release=not lost)
        if lost:
            raise LeadershipLost(f"the lease {self._path} is not held any more: {self.last_error or 'another leads'}")
        leading.result()

    # ---- before

    async def _campaign(self) -> int:
        """Returns the fence once elected."""
        while True:
            asked_after_s = 0.0
            try:
                await self._look()
                if self._clock.now() >= self._election.free_at():
                    return await self._bid()
                self.last_error = ""
            except errors.WriteConflict:
                self.last_error = ""  # another was faster
            except Exception as exc:  # a candidate survives every failure of the API
                self._failed(exc)
                asked_after_s = (isinstance(exc, errors.ApiError) and exc.retry_after_s) or 0.0
            await self._clock.sleep(self._next_look_s() + min(asked_after_s, 30.0))

    def _next_look_s(self) -> float:
        """Wait until the next check, at most until the lease may be taken."""
        look_s = self._settings.retry_s * (1.0 + JITTER * self._u())
        left_s = self._election.free_at() - self._clock.now()
        return min(look_s, left_s) if left_s > 0.0 else look_s

    async def _look(self) -> None:
        try:
            lease: Object | None = await self._within(self._api.get(self._path))
        except errors.NotFound:
            lease = None
        self._election.seen(lease, self._clock.now())

    async def _bid(self) -> int:
        asked_at = self._clock.now()
        lease = self._election.bid(self._stamp())
        if "resourceVersion" in lease["metadata"]:
            answer = await self._within(self._api.replace(self._path, lease, urgent=True))
        else:
            answer = await self._within(self._api.create(self._collection, lease, urgent=True))
        return self._election.won(answer, asked_at, self._clock.now()).fence

    # ---- meanwhile

    async def _renew(self) -> None:
        """Returns when the lease is another's."""
        while True:
            await self._clock.sleep(self._settings.retry_s)
            try:
                await self._write_renewal()
                self.last_error = ""
            except errors.NotFound:
                self.last_error = "it was deleted"
                return
            except errors.WriteConflict:
                # another process's write, or an own write that timed out and arrived later
                if not await self._is_still_mine():
                    return
            except Exception as exc:  # any failure counts as no renewal
                self._failed(exc)

    async def _write_renewal(self) -> None:
        asked_at = self._clock.now()
        renewal = self._election.renewal(self._stamp())
        answer = await self._within(self._api.replace(self._path, renewal, urgent=True))
        self._election.renewed(answer, asked_at, self._clock.now())

    async def _is_still_mine(self) -> bool:
        try:
            await self._look()
            if self._election.is_mine():
                await self._write_renewal()
        except Exception as exc:  # the next renewal decides, or the watchdog
            self._failed(exc)
            return True
        return self._election.is_mine()

    async def _watchdog(self) -> None:
        """Returns when the leadership is over, by the clock alone."""
        while (tenure := self._election.tenure) is not None:
            left_s = tenure.ends_at(self._settings) - self._clock.now()
            if left_s <= 0.0:
                return
            await self._clock.sleep(left_s)

    # ---- after

    async def _step_down(self, leading: asyncio.Task[None], held: set[asyncio.Task[None]], release: bool) -> None:
        """First the acts end, then the right to them."""
        try:
            if not leading.done():
                leading.cancel()
                await self._end(leading, held)
        finally:
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
        if release and leading.done():
            await self._release()
        self._election.tenure = None

    async def _end(self, leading: asyncio.Task[None], held: set[asyncio.Task[None]]) -> None:
        """Wait for the work to end as long as the lease is held, then at most until it runs out."""
        while not leading.done() and not any(task.done() for task in held):
            await asyncio.wait({leading, *held}, return_when=asyncio.FIRST_COMPLETED)
        if not leading.done():
            spare_s = self._settings.lease_s - self._settings.renew_deadline_s
            timer = asyncio.create_task(self._clock.sleep(spare_s), name="last moments of the leadership")
            await asyncio.wait({leading, timer}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
        if not leading.done():
            _log.critical("leadership: work still runs after cancellation")
        elif not leading.cancelled() and (error := leading.exception()) is not None:
            _log.error("leadership: work failed", exc_info=error)

    async def _release(self) -> None:
        """Step down, so that another takes over at its next look. Failing is harmless: it will run out."""
        try:
            await self._look()
            if self._election.is_mine():
                released = self._election.release(self._stamp())
                answer = await self._within(self._api.replace(self._path, released, urgent=True))
                self._election.seen(answer, self._clock.now())
        except Exception as exc:
            _log.warning("lease: not released, will expire: %s", exc)

    # ---- requests

    async def _within(self, request: Coroutine[Any, Any, T]) -> T:
        """The request, given up after its share of the time: Unreachable.

        By the clock that was given, not by the loop's, so that all of this candidate stands still together.
        """
        limit_s = self._settings.request_s
        task = asyncio.create_task(request, name="ask for the lease")
        timer = asyncio.create_task(self._clock.sleep(limit_s), name="limit of a request")
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise errors.ApiUnreachable(f"no answer within {limit_s:g} s", reason="Timeout")
        finally:
            task.cancel()
            timer.cancel()
            await asyncio.gather(task, timer, return_exceptions=True)

    def _failed(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if reason != self.last_error:
            _log.warning("lease: %s", reason)
        self.last_error = reason

    def _stamp(self) -> str:
        """The wall clock as Leases have it, but always later than the last: a renewal that changes nothing is none."""
        self._stamped_us = max(round(self._wall() * 1e6), self._stamped_us + 1)
        return (EPOCH + datetime.timedelta(microseconds=self._stamped_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _run(lead: Callable[[int], Awaitable[None]], fence: int) -> None:
    await lead(fence)
