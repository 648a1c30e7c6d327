"""Limits available to an ordinary user on one machine: cores by affinity, memory by observation."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cluster.local.process_guard import Process, descendants


def choose_cores(load: Mapping[int, int], needed: int) -> tuple[int, ...]:
    """The `needed` cores with the fewest replicas. `load`: core -> replicas, for every core."""
    return tuple(sorted(sorted(load, key=lambda core: (load[core], core))[:needed]))


def memory_by_ancestor(
    table: Iterable[Process], limits: Mapping[int, int], pss_bytes: Callable[[int], int | None]
) -> dict[int, int]:
    """Pid -> bytes of memory of all its descendants, for the pids in `limits`.

    table: all processes.
    limits: pid -> limit in bytes.
    pss_bytes: pid -> resident bytes with each shared page divided by the number of its processes; None: unknown.

    Resident bytes (RSS) count a shared page once per process, so they are never too low. They are enough below the
    limit; only above it the exact value is read, for which the kernel walks the pages of the process.
    """
    families: dict[int, list[Process]] = {}
    for ancestor, process in descendants(table, limits):
        families.setdefault(ancestor, []).append(process)
    return {ancestor: _family_bytes(family, limits[ancestor], pss_bytes) for ancestor, family in families.items()}


def _family_bytes(family: Sequence[Process], limit_bytes: int, pss_bytes: Callable[[int], int | None]) -> int:
    total_bytes = sum(process.rss_bytes for process in family)
    for process in family:
        if total_bytes <= limit_bytes:
            break
        if (exact_bytes := pss_bytes(process.pid)) is not None:
            total_bytes -= max(0, process.rss_bytes - exact_bytes)
    return total_bytes


def over_memory(used_bytes: int, limit_bytes: int | None) -> str:
    """The reason to kill a replica above its memory limit, as a cluster's OOM killer would; "" if it is below.

    The kernel would enforce RLIMIT_AS, but that counts address space, not memory: numpy, CUDA and every thread's stack
    reserve many times what they use, so that a model well within its limit would fail in malloc.
    """
    if limit_bytes is None or used_bytes <= limit_bytes:
        return ""
    return f"memory limit exceeded: {used_bytes / 1e6:.0f} MB > {limit_bytes / 1e6:.0f} MB"


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
