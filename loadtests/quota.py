"""A limit on the share of a core that a process may use (control groups, version 1 or 2); needs root."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PERIOD_US = 5_000
"""Short, so that a worker that has used its share is soon there again."""
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


class NoQuota(Exception):
    """This machine offers no way, or not to this user."""


def settings(share: float, version: int) -> dict[str, str]:
    """File -> its new content."""
    quota_us = int(share * PERIOD_US)
    if version == 2:
        return {"cpu.max": f"{quota_us} {PERIOD_US}"}
    return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}


@contextlib.contextmanager
def limited(pid: int, share: float) -> Iterator[None]:
    """Meanwhile the process has at most this share of a core. Raises NoQuota."""
    version, root = (1, _V1) if (_V1 / "cgroup.procs").exists() else (2, _V2)
    group = root / f"loadtest-{os.getpid()}-{pid}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoQuota(f"{group}: {error.strerror}") from error
    try:
        home = _home(pid, version, root)
        try:
            for name, value in settings(share, version).items():
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise NoQuota(f"{group}: {error.strerror}") from error
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                (home / "cgroup.procs").write_text(str(pid))
    finally:
        group.rmdir()


def _home(pid: int, version: int, root: Path) -> Path:
    """The group that it is in now."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (version == 2 and not controllers) or (version == 1 and "cpu" in controllers.split(",")):
            return root / path.lstrip("/")
    return root
