"""The interface of builders of environments, and their errors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from controlplane.control_errors import ControlError
from workspace.environments.spec import EnvironmentSpec

Log = Callable[[str], None]
"""Takes one line of the log of a build."""


class BuildError(ControlError):
    """An environment that cannot be built: the package and the reason."""

    status = 422
    code = "BuildFailed"

    def __init__(self, package: str, reason: str) -> None:
        """`package`: name; "": none is to blame. `reason`: on one line."""
        super().__init__(f"{package}: {reason}" if package else reason)
        self.package = package
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """An environment that is ready."""

    key: str
    """Of its definition."""
    interpreter: Path
    """Its Python."""
    found: bool
    """True: it was there already, and nothing was built."""


class EnvironmentBuilder(Protocol):
    """Builds environments; equal definitions share one."""

    async def build(self, spec: EnvironmentSpec, log: Log) -> BuiltEnvironment:
        """Find or build an environment.

        spec: the definition.
        log: takes the lines of the build.
        Raises BuildError. A cancelled build leaves neither processes nor files.
        """
