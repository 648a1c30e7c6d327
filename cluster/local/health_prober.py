"""Health probing of one replica, while it starts and while it serves."""

import asyncio
import zlib
from typing import Protocol

from cluster.local import lifecycle
from cluster.local import process_guard as guard
from cluster.local import socket_owner as socketowner
from cluster.local.lifecycle import LifecycleEvent, LifecycleState
from cluster.local.machine import LocalMachine
from cluster.local.probe import ProbeOutcome, ProbeSign, has_clients, has_work
from cluster.lookup import AddressRefused, permitted
from serving.authority import authority
from serving.endpoint import LivenessProbe, Version

STATIC_PERIOD_S = 1.0
STATIC_PROBES_PER_S = 200.0
"""Above this number of static replicas each is probed less often, to bound the cost."""


class ProbedReplica(Protocol):
    """A replica as seen by its health prober."""

    id: str
    host: str
    port: int
    version: Version
    state: LifecycleState

    @property
    def subreaper(self) -> int | None:
        """The process that all its processes descend from, if this provider runs them."""

    def handle(self, event: LifecycleEvent, reason: str = "") -> None:
        """Apply an event to the replica."""


async def probe_child(replica: ProbedReplica, machine: LocalMachine) -> None:
    """Probe a child: readiness from the start of its process, then liveness."""
    started_s = machine.clock()
    await _until_ready(replica, machine, started_s)
    await _while_ready(replica, machine, started_s)


async def _until_ready(replica: ProbedReplica, machine: LocalMachine, started_s: float) -> None:
    successes = 0
    while replica.state is LifecycleState.STARTING:
        liveness = replica.version.liveness
        outcome = await _get(replica, machine, liveness.timeout_s)
        successes = successes + 1 if outcome.sign is ProbeSign.WELL else 0
        waited = machine.clock() - started_s
        if successes >= liveness.success_threshold:
            stranger = await asyncio.to_thread(foreign_listener, replica.host, replica.port)
            if stranger is None:
                replica.handle(LifecycleEvent.HEALTHY)
            else:
                replica.handle(
                    LifecycleEvent.UNHEALTHY, f"uid {stranger}, another user, listens on port {replica.port}"
                )
        elif waited >= lifecycle.start_deadline_s(liveness):
            replica.handle(LifecycleEvent.UNHEALTHY, f"not ready after {waited:.0f} s: {outcome.text}")
        else:
            await asyncio.sleep(lifecycle.start_poll_s(waited))


def foreign_listener(host: str, port: int) -> int | None:
    """The uid that listens on the port of a replica, if it is neither this user nor root.

    None also if the kernel cannot be asked. Another user can take the port of a `command` replica before its server
    binds it.
    """
    try:
        uid = socketowner.listener_uid((host, port))
    except socketowner.Unanswerable:
        return None
    return uid if uid is not None and uid not in socketowner.trusted_uids() else None


async def _while_ready(replica: ProbedReplica, machine: LocalMachine, started_s: float) -> None:
    """Liveness from `started_s` + the initial delay on, as a kubelet counts it."""
    failures, alive_at = 0, machine.clock()
    while replica.state is LifecycleState.READY:
        liveness = replica.version.liveness
        await asyncio.sleep(liveness.period_s)
        if machine.clock() < started_s + liveness.initial_delay_s:
            alive_at = machine.clock()
            continue
        outcome = await _get(replica, machine, liveness.timeout_s)
        if await _is_alive(replica, outcome):
            failures, alive_at = 0, machine.clock()
            continue
        failures += 1
        if failures < liveness.failure_threshold:
            continue
        busy = outcome.sign in (ProbeSign.SILENT, ProbeSign.UNREADY) and await _is_busy(replica)
        if busy and outcome.sign is ProbeSign.SILENT:
            # A replica with one slot cannot answer while it scores, and killing it would lose that request. So it may
            # be silent for as long as a request may take; this probe waits in its queue and is next.
            outcome = await _get(replica, machine, max(liveness.timeout_s, replica.version.longest_request_s))
            if await _is_alive(replica, outcome):
                failures, alive_at = 0, machine.clock()
                continue
        elif busy and machine.clock() - alive_at < failures_s(liveness) + replica.version.longest_request_s:
            continue  # it says that it is not ready while it computes the answer of a client that has left
        replica.handle(LifecycleEvent.UNHEALTHY, f"liveness probe failed {failures} times in a row: {outcome.text}")


def failures_s(liveness: LivenessProbe) -> float:
    """Longest time of as many failures in a row as the threshold."""
    return liveness.failure_threshold * (liveness.period_s + liveness.timeout_s)


async def probe_static(replica: ProbedReplica, machine: LocalMachine) -> None:
    """Probe a static replica about every second, until it is gone."""
    answered_at = machine.clock()
    # A phase keeps replicas that were declared together from being probed together for ever.
    phase = zlib.crc32(replica.id.encode()) / 2**32
    while replica.state is not LifecycleState.GONE:
        async with machine.static_gate:
            outcome = await _get_static(replica, machine, replica.version.liveness.timeout_s)
        if outcome.sign is ProbeSign.WELL:
            answered_at = machine.clock()
            replica.handle(LifecycleEvent.HEALTHY)
        elif replica.state is LifecycleState.READY and await _is_alive(replica, outcome):
            answered_at = machine.clock()
        elif not await _is_excused(replica, outcome, machine.clock() - answered_at):
            replica.handle(LifecycleEvent.UNHEALTHY, outcome.text)
        period = max(STATIC_PERIOD_S, machine.static_replicas / STATIC_PROBES_PER_S)
        await asyncio.sleep(period * (0.5 + phase))
        phase = 0.5


async def _is_excused(replica: ProbedReplica, outcome: ProbeOutcome, silent_s: float) -> bool:
    """True for a static replica that scores, and is silent or not ready meanwhile, as long as a request may take."""
    return (
        replica.state is LifecycleState.READY
        and outcome.sign in (ProbeSign.SILENT, ProbeSign.UNREADY)
        and silent_s < replica.version.longest_request_s
        and await asyncio.to_thread(has_work, replica.port)
    )


async def _is_alive(replica: ProbedReplica, outcome: ProbeOutcome) -> bool:
    """True on 2xx; while the replica has clients any HTTP answer is a sign of life: many servers say 503 then."""
    if outcome.sign is ProbeSign.UNREADY:
        return await asyncio.to_thread(has_clients, replica.port)
    return outcome.sign is ProbeSign.WELL


async def _is_busy(replica: ProbedReplica) -> bool:
    if not await asyncio.to_thread(has_work, replica.port):
        return False
    return not await asyncio.to_thread(_is_stopped, replica.subreaper)


def _is_stopped(subreaper: int | None) -> bool:
    """True if one of its processes is stopped (SIGSTOP): its silence then has another cause than work."""
    ancestors = set() if subreaper is None else {subreaper}
    return any(process.state == "T" for _, process in guard.descendants(guard.processes(), ancestors))


async def _get_static(replica: ProbedReplica, machine: LocalMachine, timeout_s: float) -> ProbeOutcome:
    """GET at an allowed address, as routers connect to it."""
    try:
        async with asyncio.timeout(timeout_s):
            address, *_ = await permitted(replica.host, replica.port, machine.allowed, machine.own)
    except TimeoutError:
        return ProbeOutcome(ProbeSign.SILENT, f"{replica.host} was not resolved within {timeout_s:g} s")
    except AddressRefused as error:
        return ProbeOutcome(ProbeSign.BAD, str(error))
    except OSError as error:
        return ProbeOutcome(ProbeSign.REFUSED, f"cannot resolve {replica.host}: {error.strerror or error}")
    source = replica.version.replica
    named = source.host_header or authority(replica.host, replica.port)
    return await machine.prober.get(address, replica.port, source.health_path, timeout_s, named=named)


async def _get(replica: ProbedReplica, machine: LocalMachine, timeout_s: float) -> ProbeOutcome:
    return await machine.prober.get(replica.host, replica.port, replica.version.replica.health_path, timeout_s)
