"""Limits available to an ordinary user on one machine: cores by affinity, memory by observation."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from cluster.local.process_guard import Process, descendants


def choose_cores(load: Mapping[int, int], needed: int) -> tuple[int, ...]:
    """The `needed` cores with the fewest replicas. `load`: core -> replicas, for every core."""
    return tuple(sorted(sorted(load, key=lambda core: (load[core], core))[:needed]))


def memory_by_ancestor(table: Iterable[Process], ancestors: Collection[int]) -> dict[int, int]:
    """Pid -> resident bytes of all its descendants. Shared pages count once for each."""
    total: Counter[int] = Counter()
    for ancestor, process in descendants(table, ancestors):
        total[ancestor] += process.rss_bytes
    return dict(total)


def over_memory(rss_bytes: int, limit_bytes: int | None) -> str:
    """The reason to kill a replica above its memory limit, as a cluster's OOM killer would; "" if it is below.

    The kernel would enforce RLIMIT_AS, but that counts address space, not memory: numpy, CUDA and every thread's stack
    reserve many times what they use, so that a model well within its limit would fail in malloc.
    """
    if limit_bytes is None or rss_bytes <= limit_bytes:
        return ""
    return f"memory limit exceeded: {rss_bytes / 1e6:.0f} MB > {limit_bytes / 1e6:.0f} MB"


class Cores:
    """Assignment of cores to replicas. Holders are replica ids; releasing twice is harmless."""

    def __init__(self, cores: Collection[int]) -> None:
        self._load = dict.fromkeys(cores, 0)
        self._held: dict[str, tuple[int, ...]] = {}

    def acquire(self, holder: str, needed: int | None) -> tuple[int, ...] | None:
        """Cores for a replica; None: all."""
        if needed is None or needed >= len(self._load):
            return None
        chosen = self._held[holder] = choose_cores(self._load, needed)
        for core in chosen:
            self._load[core] += 1
        return chosen

    def release(self, holder: str) -> None:
        """Release the cores of a replica."""
        for core in self._held.pop(holder, ()):
            self._load[core] -= 1
