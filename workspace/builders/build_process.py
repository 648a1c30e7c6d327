"""A process of a build: niced, without keys in its environment, with a time limit; it leaves no descendant.

It ends with this process, even if that is killed: its parent is a subreaper, as that of a replica.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.local.child_process import ChildProcess
from cluster.local.command import Launch
from cluster.local.replica_logs import LineBuffer

NICE = ("nice", "-n", "5")


async def run_build_process(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, on_line: Callable[[str], None], limit_s: float
) -> int:
    """Run a command to its end; returns its code, negative for a signal.

    argv, env, cwd: the command.
    on_line: takes each line of its output.
    limit_s: seconds after which it is killed; then TimeoutError is raised.
    Raises OSError if it cannot be started. Cancelled, it is killed.
    """
    lines = LineBuffer()

    def take(data: bytes) -> None:
        for line in lines.feed(data):
            on_line(line.decode(errors="replace"))

    niced = NICE if shutil.which(NICE[0], path=env.get("PATH", os.defpath)) else ()
    child = ChildProcess(Launch((*niced, *argv), env, str(cwd)), sys.executable, take)
    try:
        async with asyncio.timeout(limit_s):
            code = await asyncio.shield(child.exited)
        for line in lines.finish():
            on_line(line.decode(errors="replace"))
        return code
    finally:
        child.kill()
        await asyncio.shield(child.wait_reaped())
        if child.exited.done() and not child.exited.cancelled():
            child.exited.exception()
