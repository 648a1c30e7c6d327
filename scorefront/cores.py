"""Number of cores of this process: its CPU affinity, limited by the quota of its control groups."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cluster.local.control_groups import control_groups

MAX_WORKERS = 64
"""Largest number of workers: each has a link to every other."""


def allowed_cores(root: Path = Path("/")) -> int:
    """At least 1. Fractions are dropped: a worker throttled every 100 ms delays requests.

    `root`: parent of the mounts of proc and sys.
    """
    cores = float(len(os.sched_getaffinity(0)))
    for limit in _limits(root):
        cores = min(cores, limit)
    return max(1, int(cores))


def _limits(root: Path) -> Iterator[float]:
    """Cores allowed by each limiting control group, from this process's upwards."""
    for one, group in control_groups(root, "cpu"):
        try:
            quota, period = _quota(root / "sys/fs/cgroup", one, group)
        except (OSError, ValueError):
            continue  # the topmost group of version 2 has no such file
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _quota(mounted: Path, one: bool, group: PurePosixPath) -> tuple[str, str]:
    """Microseconds of CPU in a period, and the period; no number means no limit. Raises OSError, ValueError."""
    if one:
        files = (mounted / "cpu" / group / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
        quota, period = (file.read_text().strip() for file in files)
    else:
        quota, period = (mounted / group / "cpu.max").read_text().split()
    return quota, period
