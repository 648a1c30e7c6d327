"""A worker that looks on for a while before it sleeps: quicker by two wake-ups per request, and dear.

Waking a process that sleeps costs what waking its core costs: some 50 µs on a virtual machine, and a request wakes its
worker twice, when it comes and when its answer does. That is most of what a worker adds to it. A loop that asks the
system again and again instead of sleeping is never woken (HAProxy has the same as `busy-polling`). It takes a core for
as long as requests come more often than every `poll_s`, so it is off unless a worker is given a core of its own.
"""

from collections.abc import Callable


class BusyPoller:
    """Keeps the loop turning from every `stir` until nothing has stirred it for `poll_s`."""

    __slots__ = (
        "_call_soon",
        "_cpu_s",
        "_give_way",
        "_looked_at_cpu_s",
        "_looking",
        "_now",
        "_poll_s",
        "_stirred",
        "_until",
        "idle_cpu_s",
    )

    def __init__(
        self,
        poll_s: float,
        now: Callable[[], float],
        cpu_s: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        give_way: Callable[[], None],
    ) -> None:
        """`now`: monotonic seconds; `cpu_s`: processor time of the loop's thread; `give_way`: lets others go first."""
        self._poll_s = poll_s
        self._now = now
        self._cpu_s = cpu_s
        self._call_soon = call_soon
        self._give_way = give_way
        self._looking = False
        self._stirred = False
        self._until = 0.0
        self._looked_at_cpu_s = 0.0
        self.idle_cpu_s = 0.0
        """Processor time that went into looking: whoever wants to know how busy the worker is has to take it off."""

    def stir(self) -> None:
        """Something has happened that may soon be followed by more."""
        self._stirred = True
        if not self._looking:
            self._looking = True
            self._call_soon(self._look)

    def _look(self) -> None:
        """Once in every turn of the loop, which does not sleep while this is due again."""
        now, cpu_s = self._now(), self._cpu_s()
        if self._stirred:
            self._stirred = False
            self._until = now + self._poll_s
        else:
            self.idle_cpu_s += cpu_s - self._looked_at_cpu_s
            if now >= self._until:
                self._looking = False
                return
            self._give_way()
        self._looked_at_cpu_s = cpu_s
        self._call_soon(self._look)
