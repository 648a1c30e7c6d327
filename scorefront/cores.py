"""How many cores this process may use: those it is bound to, and no more than its control groups pay for."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_WORKERS = 64
"""More than one for each core is no use; each has a link to every other."""


def allowed_cores(root: Path = Path("/")) -> int:
    """At least 1. A part of a core is not counted: a worker that is held back every 100 ms makes requests wait.

    `root`: where proc and sys are mounted.
    """
    cores = float(len(os.sched_getaffinity(0)))
    for limit in _limits(root):
        cores = min(cores, limit)
    return max(1, int(cores))


def _limits(root: Path) -> Iterator[float]:
    """Cores that each control group (v2) from this process's upwards allows, where one limits them."""
    for group in _groups(root):
        try:
            quota, period = (root / "sys/fs/cgroup" / group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # the topmost group has no such file
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _groups(root: Path) -> Iterator[PurePosixPath]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::/"):  # the one line of version 2
            own = PurePosixPath(line.removeprefix("0::/"))
            yield own
            yield from own.parents
