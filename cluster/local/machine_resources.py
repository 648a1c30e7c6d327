"""Memory and GPUs of this machine, as replicas may use them."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cluster.local.control_groups import control_groups
from cluster.local.room import MachineMemory

GPUS = "SCOREFRONT_GPUS"
"""Setting: the GPUs for replicas, as in CUDA_VISIBLE_DEVICES, or `none`; default: those that are found."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
NO_DEVICE = frozenset({"", "-1", "none", "NoDevFiles"})
LISTING_S = 10.0
"""Longest time of `nvidia-smi -L`."""

_device = re.compile(r"[A-Za-z0-9_/:.-]+")


class NotDevices(ValueError):
    """A setting that is no list of GPUs; the text names variable, value and rule."""


def devices(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, ...]:
    """The GPUs for replicas: declared, else visible to this process, else found. Raises NotDevices.

    `environ`: of this process. `root`: parent of the mount of dev.
    """
    if (declared := environ.get(GPUS)) is not None:
        return _listed(declared)
    if (visible := environ.get(VISIBLE)) is not None:
        with contextlib.suppress(NotDevices):
            return _listed(visible)
        return ()
    # The device files are numbered on the whole machine, CUDA counts those that it may use.
    found = [entry for entry in (root / "dev").glob("nvidia*") if entry.name.removeprefix("nvidia").isdigit()]
    return tuple(str(number) for number in range(len(found) or _counted()))


def _listed(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    if names[0] in NO_DEVICE:
        return ()
    if not all(map(_device.fullmatch, names)) or len(set(names)) < len(names):
        raise NotDevices(f"{GPUS}: must be a list of different GPUs like 0,1 or GPU-8f2a…, or none; got {text!r}")
    return tuple(names)


def _counted() -> int:
    """GPUs by nvidia-smi, where there are no device files (WSL)."""
    if (program := shutil.which("nvidia-smi")) is None:
        return 0
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=LISTING_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def memory(root: Path = Path("/")) -> MachineMemory:
    """Memory of the machine, or of the tightest control group of this process.

    `root`: parent of the mounts of proc and sys.
    """
    found = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found[name] = int(rest.split()[0]) * 1024
    total_bytes, available_bytes = found["MemTotal"], found["MemAvailable"]
    for one, group in control_groups(root, "memory"):
        folder = root / "sys/fs/cgroup" / ("memory" if one else "") / group
        try:
            limit_bytes, used_bytes = _group_memory(folder, one)
        except (OSError, ValueError):
            continue  # no limit; the topmost group of version 2 has no such file
        total_bytes = min(total_bytes, limit_bytes)
        available_bytes = min(available_bytes, limit_bytes - used_bytes)
    return MachineMemory(total_bytes, max(0, available_bytes))


def _group_memory(folder: Path, one: bool) -> tuple[int, int]:
    """(Limit, use without the page cache that can be dropped) in bytes. Raises OSError, ValueError for no limit."""
    limit, usage = ("memory.limit_in_bytes", "memory.usage_in_bytes") if one else ("memory.max", "memory.current")
    limit_bytes = int((folder / limit).read_text())
    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    dropped = int(statistics.get("total_inactive_file" if one else "inactive_file", 0))
    return limit_bytes, int((folder / usage).read_text()) - dropped
