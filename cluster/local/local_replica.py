"""One replica: its state machine and timers, and for a child its process."""

import asyncio
import hashlib
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cluster.local import command, lifecycle
from cluster.local.child_process import ChildProcess
from cluster.local.health_prober import probe_child, probe_static
from cluster.local.inherited_environment import WITHHELD, withheld_note
from cluster.local.lifecycle import LifecycleEvent, LifecycleState, Table
from cluster.local.machine import LOOPBACK, LocalMachine, is_taken
from cluster.local.replica_environments import EnvironmentFailure
from serving.endpoint import ReplicaKind, Version, VersionKey
from serving.replica import Replica

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""Time between SIGTERM and SIGKILL."""
PORT_RETRIES = 3
REASON_LINES = 20
SIGNALS = {int(number): number.name for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class Lineage:
    """Inheritance of a replacement from the failed replica."""

    failures: int = 0
    """Failures in a row."""
    failed_starts: int = 0
    """Failures in a row before the first readiness."""
    port_retries: int = 0
    reason: str = ""


def digest(template: tuple[Any, ...]) -> str:
    """A short text for a replica template, equal for equal ones."""
    return hashlib.sha256(repr(template).encode()).hexdigest()[:10]


class LocalReplica:
    """State and reporting of a replica, child or static. Only `handle` changes its state."""

    table: ClassVar[Table]

    def __init__(
        self,
        machine: LocalMachine,
        key: VersionKey,
        version: Version,
        template: tuple[Any, ...],
        replica_id: str,
        on_change: "Callable[[LocalReplica], None]",
    ) -> None:
        """A replica that starts.

        machine: shared objects.
        key, version: the version of the replica.
        template: the replica template it starts from.
        replica_id: unique for ever.
        on_change: called after every reported change.
        """
        self.id = replica_id
        self.host = LOOPBACK
        self.port = 0
        self.key = key
        self.version = version
        self.template = template
        self.state = LifecycleState.STARTING
        self.reason = ""
        self.successor: Lineage | None = None
        """Inheritance of its replacement; None if there shall be none."""
        self.interpreter: str | None = None
        """Python of its own environment, once it is there; None: that of scorefront, or none."""
        self._machine = machine
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None

    @property
    def subreaper(self) -> int | None:
        """The process that all its processes descend from, if this provider runs them and they run."""
        return None

    @property
    def served(self) -> bool:
        """True once it has been ready."""
        return True

    def record(self) -> Replica:
        """The replica as reported; not for GONE ones."""
        return Replica(
            id=self.id,
            endpoint=self.key.endpoint,
            version=self.key.version,
            host=self.host,
            port=self.port,
            state=lifecycle.OUTWARD[self.state],
            slots=self.version.slots_per_replica,
            static=isinstance(self, StaticReplica),
            reason=self.reason,
            template=digest(self.template),
            failures=self.failed_starts,
        )

    @property
    def failed_starts(self) -> int:
        """Starts in a row that failed before this one."""
        return 0

    def handle(self, event: LifecycleEvent, reason: str = "") -> None:
        """Apply an event: change the state, act on the change, report it."""
        before, self.state = self.state, self.table[self.state, event]
        if self.state is not before:
            self.reason = reason
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._entered()
            self._on_change(self)
        elif self.state is LifecycleState.STARTING and reason not in ("", self.reason):
            self.reason = reason
            self._on_change(self)

    def _entered(self) -> None:
        if self.state is LifecycleState.DRAINING:
            self._after(self.version.longest_request_s, lambda: self.handle(LifecycleEvent.DRAINED))

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, act)


class StaticReplica(LocalReplica):
    """A replica at a declared `address`, run by others and probed here."""

    table = lifecycle.STATIC

    def __init__(
        self,
        machine: LocalMachine,
        key: VersionKey,
        version: Version,
        template: tuple[Any, ...],
        replica_id: str,
        on_change: Callable[[LocalReplica], None],
        address: str,
    ) -> None:
        super().__init__(machine, key, version, template, replica_id, on_change)
        self.address = address
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self._probing = machine.tasks.spawn(probe_static(self, machine), name=f"probe {self.id}")
        machine.static_replicas += 1

    def _entered(self) -> None:
        super()._entered()
        if self.state is LifecycleState.GONE:
            self._machine.static_replicas -= 1
            self._probing.cancel()


class ChildReplica(LocalReplica):
    """A replica that is a child process."""

    table = lifecycle.PROCESS

    def __init__(
        self,
        machine: LocalMachine,
        key: VersionKey,
        version: Version,
        template: tuple[Any, ...],
        replica_id: str,
        on_change: Callable[[LocalReplica], None],
        lineage: Lineage,
    ) -> None:
        super().__init__(machine, key, version, template, replica_id, on_change)
        self._listener: socket.socket | None = None
        if version.replica.kind is ReplicaKind.ENTRY_SCRIPT:
            self._listener = machine.ports.listen()
            self.port = int(self._listener.getsockname()[1])
        else:
            self.port = machine.ports.acquire()
        machine.own.put(replica_id, self.host, self.port)
        self.reason = f"replaces one that failed: {lineage.reason}" if lineage.reason else ""
        self._lineage = lineage
        self._log = machine.logs.open(key, replica_id)
        self._devices = machine.room.acquire(replica_id, version.resources)
        self._child: ChildProcess | None = None
        self._build: asyncio.Task[str] | None = None
        self._ready_at: float | None = None
        self._wait_s = 0.0
        machine.lives.spawn(self._run(), name=f"replica {self.id}")

    @property
    def served(self) -> bool:
        """True once it has been ready."""
        return self._ready_at is not None

    @property
    def subreaper(self) -> int | None:
        """The process that all its processes descend from, while they run."""
        return self._child.subreaper if self._runs() and self._child else None

    @property
    def failed_starts(self) -> int:
        """Starts in a row that failed before this one, of the replicas that it replaces."""
        return self._lineage.failed_starts

    def kill(self) -> None:
        """Kill the process."""
        if self._child is not None:
            self._child.kill()

    def handle(self, event: LifecycleEvent, reason: str = "") -> None:
        """Apply an event. After a failure the backoff starts with the end of the process."""
        before = self.state
        if reason and self.table[before, event] is LifecycleState.FAILED and before is not LifecycleState.FAILED:
            reason = self._with_last_lines(reason)
        super().handle(event, reason)
        if event is LifecycleEvent.EXITED and before is self.state is LifecycleState.FAILED:
            self._wait_backoff()

    async def _run(self) -> None:
        """Run the process from its start to the removal of its last trace."""
        child = None
        try:
            if not await self._has_environment():
                return
            # One start per turn of the loop: each blocks the loop until the new process has called exec.
            async with self._machine.starting:
                await asyncio.sleep(0)
                if self.state is not LifecycleState.STARTING:
                    return
                try:
                    child = self._child = self._spawn()
                except OSError as error:
                    self.handle(LifecycleEvent.EXITED, f"cannot be started: {error}")
                    return
            probing = self._machine.tasks.spawn(probe_child(self, self._machine), name=f"probe {self.id}")
            try:
                ending = self._ending(await asyncio.shield(child.exited))
            except OSError as error:
                ending = f"cannot be started: {error}"
            finally:
                probing.cancel()
            self._machine.logs.close(self.key, self.id)
            self.handle(LifecycleEvent.EXITED, ending)
        finally:
            await self._clear_up(child)

    async def _has_environment(self) -> bool:
        """Find or build the declared environment; False if it cannot be had, or the replica is not wanted any more."""
        declared = self.version.replica.environment
        if declared is None:
            return True
        self.reason = f"building environment: {declared}"
        self._on_change(self)
        building = self._machine.environments.interpreter(declared, self._log_line)
        build = self._build = asyncio.ensure_future(building)
        try:
            await asyncio.wait([build])
        finally:
            build.cancel()  # no effect on a completed one
        try:
            self.interpreter = build.result()
        except asyncio.CancelledError:
            return False
        except (EnvironmentFailure, OSError) as error:
            self.handle(LifecycleEvent.EXITED, f"environment: {error}")
            return False
        if self.state is LifecycleState.STARTING:
            self.reason = ""
            self._on_change(self)
        return True

    def _log_line(self, line: str) -> None:
        self._log.write(f"{line}\n".encode())

    def _spawn(self) -> ChildProcess:
        machine, version, listener = self._machine, self.version, self._listener
        host = machine.host if self.interpreter is None else replace(machine.host, python=self.interpreter)
        inherited = listener.fileno() if listener is not None else None
        launch = command.launch(version, self.key.endpoint, self.id, self.port, host, inherited, self._devices)
        if listener is not None:  # scripts; a command logs what it writes and nothing else
            self._log.write(withheld_note(machine.host.environ, launch.env))
        cores = machine.cores.acquire(self.id, command.cores_needed(version.resources))
        try:
            return ChildProcess(
                launch, machine.host.python, self._log.write, machine.guardian.add_session, cores or (), listener
            )
        finally:
            self._close_listener()

    def _close_listener(self) -> None:
        """Close our descriptor; the port then closes with the replica's own descriptors."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _clear_up(self, child: ChildProcess | None) -> None:
        if child is not None:
            child.kill()
            await child.wait_reaped()
            if child.session is not None:
                self._machine.guardian.remove_session(child.session)
        self._close_listener()
        self._machine.logs.close(self.key, self.id)
        self._machine.cores.release(self.id)
        self._machine.room.release(self.id)
        self._machine.ports.release(self.port)
        self._machine.own.drop(self.id)

    def _runs(self) -> bool:
        return self._child is not None and not self._child.exited.done()

    def _entered(self) -> None:
        super()._entered()
        if self._build is not None and self.state is not LifecycleState.STARTING:
            self._build.cancel()
        if self.state is LifecycleState.READY:
            self._ready_at = self._machine.clock()
        elif self.state is LifecycleState.STOPPING:
            self.successor = None
            self._stop()
        elif self.state is LifecycleState.FAILED:
            self._fail()

    def _stop(self) -> None:
        if self._child is not None and self._runs():
            self._child.terminate()
            self._after(GRACE_S, self.kill)
        else:
            self._after(0.0, lambda: self.handle(LifecycleEvent.EXITED))

    def _fail(self) -> None:
        now = self._machine.clock()
        ready_s = None if self._ready_at is None else now - self._ready_at
        failures, self._wait_s = lifecycle.backoff(self._lineage.failures, ready_s)
        failed_starts = self._lineage.failed_starts + 1 if ready_s is None else 0
        successor = Lineage(failures, failed_starts, reason=self.reason)
        if ready_s is None and self._lineage.port_retries < PORT_RETRIES and self._lost_port():
            self._wait_s, successor = 0.0, replace(self._lineage, port_retries=self._lineage.port_retries + 1)
        self.successor = successor
        self._log_failure(failures)
        if self._runs():
            self.kill()
        else:
            self._wait_backoff()

    def _lost_port(self) -> bool:
        """True if another process took the chosen port first, which is no failure of the model.

        An entry script inherits its listening socket, so nothing can.
        """
        chosen = self.version.replica.kind is ReplicaKind.COMMAND
        return chosen and not self._runs() and is_taken(self.port)

    def _log_failure(self, failures: int) -> None:
        """Log the reason with the last lines of the replica; one line if its predecessor failed in the same way."""
        wait_s, reason = self._wait_s, self.reason
        if lifecycle.gist(reason) != lifecycle.gist(self._lineage.reason):
            logger.warning("replica %s: failed, replacement starts in %g s: %s", self.id, wait_s, reason)
        else:
            again = f"failed as before, {failures} times in a row"
            logger.warning(
                "replica %s: %s, replacement starts in %g s: %s", self.id, again, wait_s, reason.partition(";")[0]
            )

    def _wait_backoff(self) -> None:
        self._after(self._wait_s, lambda: self.handle(LifecycleEvent.DUE))

    def _ending(self, code: int) -> str:
        text = lifecycle.exit_text(code, SIGNALS)
        return f"{text} before it was ready" if self._ready_at is None else text

    def _with_last_lines(self, reason: str) -> str:
        last = self._log.last(REASON_LINES, besides=WITHHELD)
        return f"{reason}; its last lines:\n{last}" if last else reason
