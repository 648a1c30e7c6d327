"""`scorefront report-exits`: reports the sudden end of the router in this pod, with its requests in flight.

It runs in a container of its own beside the router's. The lock of the router's in-flight folder is released when its
last process has ended, which is known here within milliseconds, and a second or more before the kubelet reports it. The
other routers then reserve exactly the slots with a request in flight, instead of every slot that the router owned.
"""

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.kubernetes.client.api import Api, ApiError, NotFound, WriteConflict
from cluster.kubernetes.client.paths import CONFIGMAPS, path
from router.membership.history import NAME, HistoryError, HistoryWrite, InFlight, after_end, decoded, next_version
from router.supervisor import inflight_folder
from scorefront.process import process_main as process

_log = logging.getLogger("scorefront.exits")

SCAN_S = 0.1
"""Interval of the search for a router that has started."""
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 2.0
"""Longest pause between attempts while the API server is away."""


@dataclass(frozen=True, slots=True)
class ReporterOptions:
    """Options of `scorefront report-exits`."""

    inflight_dir: Path
    pod: str


def run(options: ReporterOptions) -> int:
    """Run until SIGTERM, and then until the router has ended; returns the exit status."""
    return process.main(lambda: asyncio.run(_serve(options)), (ApiError,), ())


async def _serve(options: ReporterOptions) -> int:
    stop = process.stop_event()
    api = await Api.connect()
    reporter = ExitReporter(options, api, asyncio.sleep, random.random)  # noqa: TID251 - a shell
    reporting = asyncio.create_task(reporter.run(), name="report ended routers")
    try:
        await process.first_ended(stop, reporting)
        while not reporting.done() and not reporter.is_refused and inflight_folder.groups(options.inflight_dir):
            await asyncio.wait({reporting}, timeout=SCAN_S)  # the pod ends: the router is still draining
        if reporting.done():
            reporting.result()
        return 0
    finally:
        await process.cancelled(reporting)
        await api.close()


class ExitReporter:
    """Waits for the end of one router after the other and removes it from the membership."""

    def __init__(
        self,
        options: ReporterOptions,
        api: Api,
        sleep: Callable[[float], Any],
        u: Callable[[], float],
    ) -> None:
        """`options`: folder and pod. `api`: of the cluster. `sleep`: waits for seconds. `u` draws from [0, 1)."""
        self._root = options.inflight_dir
        self.is_refused = False
        """The API refuses the last report: the rights are gone, as when the installation is deleted."""
        self._pod = options.pod
        self._api = api
        self._sleep = sleep
        self._u = u

    async def run(self) -> None:
        """Run until cancelled. Raises OSError."""
        while True:
            for group in inflight_folder.groups(self._root):
                in_flight = await _in_thread(partial(inflight_folder.wait_ended, self._root, group))
                await self.report(group, in_flight)
                inflight_folder.forget(self._root, group)
            await self._sleep(SCAN_S)

    async def report(self, group: str, in_flight: InFlight) -> None:
        """Remove an ended group from the membership, unless it is removed already; retried until it is written.

        `group`: its id. `in_flight`: requests in flight at its end.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                write = await self._draft(group, in_flight)
                if write is not None:
                    await self._api.replace(path(CONFIGMAPS, self._api.home, NAME), write.body, urgent=True)
                    _log.warning("router %s: ended with %s", group, _total(in_flight))
                return
            except (NotFound, WriteConflict):
                continue
            except HistoryError as error:
                _log.error("router %s: its end is not reported: %s", group, error)
                return
            except ApiError as error:
                self.is_refused = error.status in (401, 403, 404)
                _log.warning("router %s: its end is not reported yet: %s", group, error)
            await self._sleep(pause_s * (0.5 + self._u() / 2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _draft(self, group: str, in_flight: InFlight) -> HistoryWrite | None:
        """The write, None if there is nothing to report. Raises ApiError, HistoryError."""
        try:
            found = await self._api.get(path(CONFIGMAPS, self._api.home, NAME))
        except NotFound:
            return None
        history = decoded(found)
        wanted = after_end(history, self._pod, group, in_flight)
        return next_version(wanted, found, self._api.home) if wanted != history else None


def _total(in_flight: InFlight) -> str:
    known = [sum(held.values()) for held in in_flight.values() if held is not None]
    doubt = f", unknown of {len(in_flight) - len(known)} workers" if len(known) < len(in_flight) else ""
    return f"{sum(known)} requests in flight{doubt}"


async def _in_thread(work: Callable[[], InFlight]) -> InFlight:
    """The result of blocking `work`, in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[InFlight] = loop.create_future()

    def settle(result: InFlight | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result or {})

    def target() -> None:
        result, failure = None, None
        try:
            result = work()
        except OSError as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=target, daemon=True, name="wait for the end of the router").start()
    return await done
