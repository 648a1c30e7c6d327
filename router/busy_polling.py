"""Optional busy polling: spin the event loop for `poll_s` after the last activity instead of blocking in epoll.

Saves two wake-ups per request (request, response) of some 50 µs each on a virtual machine: most of the latency that a
worker adds. HAProxy has the same as `busy-polling`. Costs a full core while requests come more often than every
`poll_s`: off by default, meant for workers with a core of their own.
"""

from collections.abc import Callable


class BusyPoller:
    """Spins the loop from each `note_activity` until `poll_s` have passed without another."""

    __slots__ = (
        *("_active", "_call_soon", "_cpu_s", "_last_cpu_s", "_now", "_poll_s", "_spinning", "_until", "_yield_cpu"),
        *("idle_cpu_s",),
    )

    def __init__(
        self,
        poll_s: float,
        now: Callable[[], float],
        cpu_s: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        yield_cpu: Callable[[], None],
    ) -> None:
        """`poll_s`: seconds to spin after the last activity. `now`: monotonic seconds. `cpu_s`: processor time of the
        loop's thread. `call_soon`: the loop's. `yield_cpu`: sched_yield.
        """
        self._poll_s = poll_s
        self._now = now
        self._cpu_s = cpu_s
        self._call_soon = call_soon
        self._yield_cpu = yield_cpu
        self._spinning = False
        self._active = False
        self._until = 0.0
        self._last_cpu_s = 0.0
        self.idle_cpu_s = 0.0
        """Processor time spent spinning; subtracted from the worker's load."""

    def note_activity(self) -> None:
        """Start or extend spinning: more events are expected shortly."""
        self._active = True
        if not self._spinning:
            self._spinning = True
            self._call_soon(self._spin)

    def _spin(self) -> None:
        """Runs once per loop iteration; the pending callback keeps the loop from blocking."""
        now, cpu_s = self._now(), self._cpu_s()
        if self._active:
            self._active = False
            self._until = now + self._poll_s
        else:
            self.idle_cpu_s += cpu_s - self._last_cpu_s
            if now >= self._until:
                self._spinning = False
                return
            self._yield_cpu()
        self._last_cpu_s = cpu_s
        self._call_soon(self._spin)
