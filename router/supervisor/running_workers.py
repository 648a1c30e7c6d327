"""The running worker processes of one supervisor."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import replace

from cluster.link import ToWorker, WorkerMetrics
from router.core.view import View
from router.supervisor.connection_balance import ConnectionMove, balancing_moves
from router.supervisor.roster import Roster, WorkerPhase
from router.supervisor.worker_handle import WorkerHandle
from router.supervisor_messages import Give, Leave, SetView, encode
from serving.usage import Work


class RunningWorkers:
    """Handles of the worker processes, by name, in the order of their start."""

    def __init__(self, roster: Roster) -> None:
        self.handles: dict[str, WorkerHandle] = {}
        self._roster = roster
        self._draining: set[str] = set()
        """Workers to be sent Leave as soon as they own no version."""

    def processes(self) -> dict[str, int]:
        """Name -> process id."""
        return {name: handle.process.pid for name, handle in self.handles.items()}

    def phases(self) -> dict[str, WorkerPhase]:
        """Name -> phase, also of workers that are being spawned."""
        return {each.name: each.phase for each in self._roster.workers.values()}

    def in_phase(self, *phases: WorkerPhase) -> list[str]:
        """Names of the running workers in one of `phases`."""
        return [name for name in self.handles if self._roster.workers[name].phase in phases]

    def work(self) -> dict[str, Work]:
        """Name -> work done so far, of serving workers; read from shared memory."""
        return {name: self.handles[name].row.work for name in self.in_phase(WorkerPhase.SERVING)}

    def beats(self) -> dict[str, int]:
        """Name -> beats of its event loop."""
        return {name: handle.row.beats for name, handle in self.handles.items()}

    # ---- messages

    def publish(self, message: ToWorker) -> None:
        """Send a message of the control plane to every worker."""
        frame = encode(message)
        for handle in self.handles.values():
            handle.send_frame(frame)

    def send_view(self, view: View) -> None:
        """Send a view to its members in this group, with the Unix addresses of this group in it.

        Workers of one machine link without TLS, and can hand connections over.
        """
        local = {name: handle.address for name, handle in self.handles.items()}
        members = tuple(replace(each, address=local.get(each.name, each.address)) for each in view.members)
        frame = encode(SetView(replace(view, members=members)))
        for name in view.names():
            if name in self.handles:
                self.handles[name].send_frame(frame)

    def drain(self, name: str) -> None:
        """Have a worker leave; `send_leave` sends the message."""
        self._draining.add(name)

    def send_leave(self, view: View) -> None:
        """Send Leave to draining workers that own nothing in `view`.

        Peers would wait in vain for a worker that ends while they take it for an owner.
        """
        owners = {member.name for member in view.members if member.eligible}
        for name in self._draining - owners:
            self._draining.discard(name)
            if name in self.handles:
                self.handles[name].send(Leave())

    def ended(self, name: str) -> None:
        """The worker has ended."""
        self._draining.discard(name)

    async def metrics(self) -> Sequence[WorkerMetrics]:
        """Metrics of every member; the last known ones without an answer."""
        members = [handle for name, handle in self.handles.items() if self._roster.workers[name].joined]
        found = await asyncio.gather(*(handle.metrics() for handle in members))
        return [metrics for metrics in found if metrics]

    # ---- connections

    def is_even(self) -> bool:
        """True if every serving worker has about its share of the connections."""
        return not self._moves()

    def balance(self) -> None:
        """Order the hand-offs that even out the connections."""
        for move in self._moves():
            self.handles[move.source].send(Give(move.target, move.count))

    def _moves(self) -> list[ConnectionMove]:
        serving = self.in_phase(WorkerPhase.SERVING)
        return balancing_moves({name: self.handles[name].row.connections for name in serving})

    # ---- the end

    def terminate(self) -> None:
        """Send SIGTERM to every worker."""
        for handle in self.handles.values():
            with contextlib.suppress(ProcessLookupError):
                handle.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill every worker."""
        for handle in self.handles.values():
            handle.kill()
