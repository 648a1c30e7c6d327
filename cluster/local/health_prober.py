"""Tends one replica: probes it while it starts and while it serves, and says what it found."""

import asyncio
import zlib
from typing import Protocol

from cluster.local import lifecycle
from cluster.local import process_guard as guard
from cluster.local import socket_owner as socketowner
from cluster.local.lifecycle import LifecycleEvent, LifecycleState
from cluster.local.machine import Site
from cluster.local.probe import Outcome, Sign, has_clients
from cluster.lookup import AddressRefused, permitted
from serving.endpoint import Version

STATIC_PERIOD_S = 1.0
STATIC_PROBES_PER_S = 200.0
"""With more static replicas than this, each is probed less often: probing must stay cheap."""


class ProbedReplica(Protocol):
    """A replica as its nurse sees it."""

    id: str
    host: str
    port: int
    version: Version
    state: LifecycleState

    @property
    def subreaper(self) -> int | None:
        """The process that all of its processes descend from, if they are ours."""

    def feed(self, event: LifecycleEvent, reason: str = "") -> None:
        """Tell it what happened."""


async def tend_child(patient: ProbedReplica, site: Site) -> None:
    """From the start of a process to its readiness, then its liveness."""
    await _until_ready(patient, site)
    await _while_ready(patient, site)


async def _until_ready(patient: ProbedReplica, site: Site) -> None:
    begun, successes = site.clock(), 0
    while patient.state is LifecycleState.STARTING:
        liveness = patient.version.liveness
        outcome = await _probe(patient, site, liveness.timeout_s)
        successes = successes + 1 if outcome.sign is Sign.WELL else 0
        waited = site.clock() - begun
        if successes >= liveness.success_threshold:
            stranger = await asyncio.to_thread(foreign_listener, patient.host, patient.port)
            if stranger is None:
                patient.feed(LifecycleEvent.HEALTHY)
            else:
                patient.feed(LifecycleEvent.SICK, f"uid {stranger}, another user, listens on port {patient.port}")
        elif waited >= lifecycle.start_deadline_s(liveness):
            patient.feed(LifecycleEvent.SICK, f"not ready after {waited:.0f} s: {outcome.text}")
        else:
            await asyncio.sleep(lifecycle.start_poll_s(waited))


def foreign_listener(host: str, port: int) -> int | None:
    """The uid that answers on a port where a replica should, if it is neither this user nor root.

    None also where the kernel cannot be asked. Another user can take the port of a `command` replica before its server
    binds it.
    """
    try:
        uid = socketowner.listener_uid((host, port))
    except socketowner.Unanswerable:
        return None
    return uid if uid is not None and uid not in socketowner.trusted_uids() else None


async def _while_ready(patient: ProbedReplica, site: Site) -> None:
    # From READY on, without the initial delay: that is there for slow starts, which the start deadline provides for.
    failures = 0
    while patient.state is LifecycleState.READY:
        liveness = patient.version.liveness
        await asyncio.sleep(liveness.period_s)
        outcome = await _probe(patient, site, liveness.timeout_s)
        failures = 0 if outcome.sign is Sign.WELL else failures + 1
        if failures < liveness.failure_threshold:
            continue
        if outcome.sign is Sign.SILENT and await _is_busy(patient):
            # A replica with one slot cannot answer while it scores, and killing it would lose that request. So it may
            # be silent for as long as a request may take; this probe stands in its queue and is next.
            outcome = await _probe(patient, site, max(liveness.timeout_s, patient.version.scoring_timeout_s))
            if outcome.sign is Sign.WELL:
                failures = 0
                continue
        patient.feed(LifecycleEvent.SICK, f"liveness probe failed {failures} times in a row: {outcome.text}")


async def tend_static(patient: ProbedReplica, site: Site) -> None:
    """Probe a replica that somebody else runs about every second, until it is gone."""
    answered_at = site.clock()
    # Replicas declared together would else be probed together for ever.
    phase = zlib.crc32(patient.id.encode()) / 2**32
    while patient.state is not LifecycleState.GONE:
        async with site.static_gate:
            outcome = await _probe_static(patient, site, patient.version.liveness.timeout_s)
        if outcome.sign is Sign.WELL:
            answered_at = site.clock()
            patient.feed(LifecycleEvent.HEALTHY)
        elif not await _is_excused(patient, outcome, site.clock() - answered_at):
            patient.feed(LifecycleEvent.SICK, outcome.text)
        period = max(STATIC_PERIOD_S, site.static_replicas / STATIC_PROBES_PER_S)
        await asyncio.sleep(period * (0.5 + phase))
        phase = 0.5


async def _is_excused(patient: ProbedReplica, outcome: Outcome, silent_s: float) -> bool:
    """A static replica that is silent because it scores keeps its place, for as long as a request may take."""
    return (
        patient.state is LifecycleState.READY
        and outcome.sign is Sign.SILENT
        and silent_s < patient.version.scoring_timeout_s
        and await asyncio.to_thread(has_clients, patient.port)
    )


async def _is_busy(patient: ProbedReplica) -> bool:
    if not await asyncio.to_thread(has_clients, patient.port):
        return False
    return not await asyncio.to_thread(_is_stopped, patient.subreaper)


def _is_stopped(subreaper: int | None) -> bool:
    """Is a process of it stopped (SIGSTOP)? Then its silence has nothing to do with its work."""
    ancestors = set() if subreaper is None else {subreaper}
    return any(process.state == "T" for _, process in guard.descendants(guard.processes(), ancestors))


async def _probe_static(patient: ProbedReplica, site: Site, timeout_s: float) -> Outcome:
    """At an address that has been judged, as routers connect to it."""
    try:
        async with asyncio.timeout(timeout_s):
            address, *_ = await permitted(patient.host, patient.port, site.allowed, site.own)
    except TimeoutError:
        return Outcome(Sign.SILENT, f"{patient.host} was not resolved within {timeout_s:g} s")
    except AddressRefused as error:
        return Outcome(Sign.BAD, str(error))
    except OSError as error:
        return Outcome(Sign.REFUSED, f"cannot resolve {patient.host}: {error.strerror or error}")
    path = patient.version.replica.health_path
    return await site.prober.get(address, patient.port, path, timeout_s, named=patient.host)


async def _probe(patient: ProbedReplica, site: Site, timeout_s: float) -> Outcome:
    return await site.prober.get(patient.host, patient.port, patient.version.replica.health_path, timeout_s)
