"""One replica: its state machine, its timers, and for a child its process."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from cluster.local import command, lifecycle
from cluster.local import health_prober as nurse
from cluster.local.child_process import Child
from cluster.local.lifecycle import LifecycleEvent, LifecycleState, Table
from cluster.local.machine import LOOPBACK, Site, is_taken
from serving.endpoint import ReplicaKind, Version, VersionKey
from serving.replica import Replica

logger = logging.getLogger(__name__)

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""
PORT_RETRIES = 3
REASON_LINES = 20
SIGNALS = {int(number): number.name for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a replacement inherits from the replica it replaces."""

    failures: int = 0
    """In a row."""
    port_retries: int = 0
    reason: str = ""


class LocalReplica:
    """What children and static replicas have in common. `feed` is the only way to change its state."""

    table: ClassVar[Table]

    def __init__(
        self,
        site: Site,
        key: VersionKey,
        version: Version,
        replica_id: str,
        on_change: "Callable[[LocalReplica], None]",
    ) -> None:
        self.id = replica_id
        self.host = LOOPBACK
        self.port = 0
        self.key = key
        self.version = version
        self.template = command.template(version)
        self.state = LifecycleState.STARTING
        self.reason = ""
        self.heir: Lineage | None = None
        """Set when another is to take its place."""
        self._site = site
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None

    @property
    def subreaper(self) -> int | None:
        """The process that all of its processes descend from, if they are ours and running."""
        return None

    def record(self) -> Replica:
        """As it is reported; not for one that is GONE."""
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
        )

    def feed(self, event: LifecycleEvent, reason: str = "") -> None:
        """Something happened: move, do what goes with it, and report."""
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
            self._after(self.version.scoring_timeout_s, lambda: self.feed(LifecycleEvent.RELEASED))

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, act)


class StaticReplica(LocalReplica):
    """One that runs already at `address` and is only looked after."""

    table = lifecycle.STATIC

    def __init__(
        self,
        site: Site,
        key: VersionKey,
        version: Version,
        replica_id: str,
        on_change: Callable[[LocalReplica], None],
        address: str,
    ) -> None:
        super().__init__(site, key, version, replica_id, on_change)
        self.address = address
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self._nurse = site.tasks.spawn(nurse.tend_static(self, site), name=f"probe {self.id}")
        site.static_replicas += 1

    def _entered(self) -> None:
        super()._entered()
        if self.state is LifecycleState.GONE:
            self._site.static_replicas -= 1
            self._nurse.cancel()


class ChildReplica(LocalReplica):
    """One that runs as a child process of ours."""

    table = lifecycle.PROCESS

    def __init__(
        self,
        site: Site,
        key: VersionKey,
        version: Version,
        replica_id: str,
        on_change: Callable[[LocalReplica], None],
        lineage: Lineage,
    ) -> None:
        super().__init__(site, key, version, replica_id, on_change)
        self._listener: socket.socket | None = None
        if version.replica.kind is ReplicaKind.ENTRY_SCRIPT:
            self._listener = site.ports.listen()
            self.port = int(self._listener.getsockname()[1])
        else:
            self.port = site.ports.take()
        site.own.put(replica_id, self.host, self.port)
        self.reason = f"replaces one that failed: {lineage.reason}" if lineage.reason else ""
        self._lineage = lineage
        self._log = site.logs.open(key, replica_id)
        self._child: Child | None = None
        self._ready_at: float | None = None
        self._wait_s = 0.0
        site.lives.spawn(self._live(), name=f"replica {self.id}")

    @property
    def subreaper(self) -> int | None:
        """The process that all of its processes descend from, while they run."""
        return self._child.subreaper if self._runs() and self._child else None

    def kill(self) -> None:
        """End it now, whatever it does."""
        if self._child is not None:
            self._child.kill()

    def feed(self, event: LifecycleEvent, reason: str = "") -> None:
        """As for every member; a failed one waits for its backoff from the end of its process on."""
        before = self.state
        if reason and self.table[before, event] is LifecycleState.FAILED and before is not LifecycleState.FAILED:
            reason = self._with_last_lines(reason)
        super().feed(event, reason)
        if event is LifecycleEvent.EXITED and before is self.state is LifecycleState.FAILED:
            self._await_turn()

    async def _live(self) -> None:
        """The process from its start to the removal of its last trace."""
        child = None
        try:
            # One start per turn of the loop: each holds the loop up until the new process has called exec.
            async with self._site.starting:
                await asyncio.sleep(0)
                if self.state is not LifecycleState.STARTING:
                    return
                try:
                    child = self._child = self._spawn()
                except OSError as error:
                    self.feed(LifecycleEvent.EXITED, f"cannot be started: {error}")
                    return
            tending = self._site.tasks.spawn(nurse.tend_child(self, self._site), name=f"probe {self.id}")
            try:
                ending = self._ending(await asyncio.shield(child.exited))
            except OSError as error:
                ending = f"cannot be started: {error}"
            finally:
                tending.cancel()
            self._site.logs.close(self.key, self.id)
            self.feed(LifecycleEvent.EXITED, ending)
        finally:
            await self._clear_up(child)

    def _spawn(self) -> Child:
        site, version, listener = self._site, self.version, self._listener
        inherited = listener.fileno() if listener is not None else None
        launch = command.launch(version, self.key.endpoint, self.id, self.port, site.host, inherited)
        cores = site.cores.take(self.id, command.cores_needed(version.resources))
        try:
            return Child(launch, site.host.python, self._log.write, site.guardian.began, cores or (), listener)
        finally:
            self._close_listener()

    def _close_listener(self) -> None:
        """With the replica's own descriptors of it ends the port."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _clear_up(self, child: Child | None) -> None:
        if child is not None:
            child.kill()
            await child.bury()
            if child.session is not None:
                self._site.guardian.ended(child.session)
        self._close_listener()
        self._site.logs.close(self.key, self.id)
        self._site.cores.give_back(self.id)
        self._site.ports.give_back(self.port)
        self._site.own.drop(self.id)

    def _runs(self) -> bool:
        return self._child is not None and not self._child.exited.done()

    def _entered(self) -> None:
        super()._entered()
        if self.state is LifecycleState.READY:
            self._ready_at = self._site.clock()
        elif self.state is LifecycleState.STOPPING:
            self.heir = None
            self._stop()
        elif self.state is LifecycleState.FAILED:
            self._fail()

    def _stop(self) -> None:
        if self._child is not None and self._runs():
            self._child.terminate()
            self._after(GRACE_S, self.kill)
        else:
            self._after(0.0, lambda: self.feed(LifecycleEvent.EXITED))

    def _fail(self) -> None:
        now = self._site.clock()
        ready_s = None if self._ready_at is None else now - self._ready_at
        failures, self._wait_s = lifecycle.backoff(self._lineage.failures, ready_s)
        heir = Lineage(failures, reason=self.reason)
        if ready_s is None and self._lineage.port_retries < PORT_RETRIES and not self._runs() and is_taken(self.port):
            # Somebody was quicker than the replica on the port we had found: no fault of the model.
            self._wait_s, heir = 0.0, replace(self._lineage, port_retries=self._lineage.port_retries + 1)
        self.heir = heir
        logger.warning("%s failed, the next starts in %g s: %s", self.id, self._wait_s, self.reason)
        if self._runs():
            self.kill()
        else:
            self._await_turn()

    def _await_turn(self) -> None:
        self._after(self._wait_s, lambda: self.feed(LifecycleEvent.DUE))

    def _ending(self, code: int) -> str:
        text = lifecycle.exit_text(code, SIGNALS)
        return f"{text} before it was ready" if self._ready_at is None else text

    def _with_last_lines(self, reason: str) -> str:
        last = self._log.last(REASON_LINES)
        return f"{reason}; its last lines:\n{last}" if last else reason
