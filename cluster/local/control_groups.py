"""Control groups of this process that may limit it, from its own upwards."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(root: Path, controller: str) -> Iterator[tuple[bool, PurePosixPath]]:
    """(True for cgroup version 1, path) of each control group. Version 1 gives a container its path on the node, but
    mounts its own group as the root.

    `root`: parent of the mounts of proc and sys. `controller`: `cpu` or `memory`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        one = controller in controllers.split(",")
        if (one or number == "0") and path.startswith("/"):
            own = PurePosixPath(path.removeprefix("/"))
            yield one, own
            for each in own.parents:
                yield one, each
