"""One container of a pod as a process of this machine, in a session of its own, and all that it starts."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from cluster.local import process_guard as guard
from tests.cluster.played.recipe import Recipe

MARK = "PLAYED_CONTAINER"
"""Environment variable of every process of a container: processes outside its session are found by it."""


class Process:
    """One process group, from `start` to the end of its first process; `clear` kills the remaining processes."""

    def __init__(self, recipe: Recipe, mark: str, log: Path, folder: Path) -> None:
        """`mark`: value of MARK. `folder`: working directory."""
        self._recipe = recipe
        self._mark = mark
        self._log = log
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the first process, and of its session."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the command. Raises OSError if it cannot be run."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._recipe.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**self._recipe.env, MARK: self._mark},
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Its exit status, 128 + n for signal n; nothing of its session is left afterwards."""
        assert self._process is not None
        status = await self._process.wait()
        await self.clear()
        return status if status >= 0 else 128 - status

    def signal(self, number: signal.Signals) -> None:
        """To the first process, as a container runtime does."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def clear(self) -> None:
        """Kill all that is left."""
        await asyncio.to_thread(guard.kill_all, {self.pid}, f"{MARK}={self._mark}\0")

    async def run_beside(self, command: tuple[str, ...]) -> int:
        """A command with the container's environment, such as a probe; its exit status."""
        beside = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self._folder,
            env={**self._recipe.env, MARK: self._mark},
        )
        try:
            return await beside.wait()
        finally:
            if beside.returncode is None:
                beside.kill()
                await beside.wait()
