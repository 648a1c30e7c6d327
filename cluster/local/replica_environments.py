"""The interface to the environments of entry scripts, and the stand-in where none can be built."""

import os
from collections.abc import Callable
from typing import Protocol


class EnvironmentFailure(Exception):
    """An environment that cannot be had; the text is the reason."""


class ReplicaEnvironments(Protocol):
    """Environments by the path that `replica.environment` declares."""

    def fault(self, path: str) -> str:
        """The rule that the declared file breaks; "": none."""

    async def interpreter(self, path: str, log: Callable[[str], None]) -> str:
        """Find or build the environment; its interpreter.

        path: as declared, absolute.
        log: takes the lines of the build.
        Raises EnvironmentFailure, OSError.
        """


def is_interpreter(path: str) -> bool:
    """True for a program, as opposed to a file of packages."""
    return os.path.isfile(path) and os.access(path, os.X_OK) and not path.endswith((".txt", ".in", ".yml", ".yaml"))


class InterpretersOnly:
    """Environments without a builder: those that exist already."""

    def fault(self, path: str) -> str:
        """The rule that the declared file breaks; "": none."""
        return "" if is_interpreter(path) else "must be an interpreter: this process builds no environments"

    async def interpreter(self, path: str, log: Callable[[str], None]) -> str:
        """The interpreter itself. Raises EnvironmentFailure."""
        if rule := self.fault(path):
            raise EnvironmentFailure(f"{path} {rule}")
        return path
