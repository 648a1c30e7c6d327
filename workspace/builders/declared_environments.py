"""Environments that manifests declare by a path: requirements, a conda file, or an interpreter."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from cluster.local.inherited_environment import inherited
from cluster.local.replica_environments import EnvironmentFailure, is_interpreter
from serving.faults import InvalidManifest
from workspace.builders.build_process import run_build_process
from workspace.builders.interface import BuildError
from workspace.builders.venv_builder import OWN_VARIABLES, VenvBuilder
from workspace.environments.environment_files import read_environment_file
from workspace.environments.install_plan import HOST_PACKAGE

PROBE = (
    "import importlib.util as u, sys; print('probed', int(sys.version_info >= (3, 8)),"
    " *[n for n in ('gunicorn', 'azureml_inference_server_http') if u.find_spec(n) is None])"
)
PROBE_LIMIT_S = 30.0


class DeclaredEnvironments:
    """Environments of `replica.environment`; implements `cluster.local.replica_environments.ReplicaEnvironments`."""

    def __init__(self, builder: VenvBuilder) -> None:
        self._builder = builder

    def fault(self, path: str) -> str:
        """The rule that the declared file breaks; "": none."""
        if self._builder.folders.key_of(path) and not os.path.exists(path):
            return "must exist: the environment was removed from the cache; deploy the version again"
        if os.path.isdir(path):
            return "must be a file: requirements (.txt), a conda file (.yml), or a Python, e.g. bin/python in it"
        if is_interpreter(path):
            return ""
        if not os.path.isfile(path):
            return "must be a file that exists: requirements (.txt), a conda file (.yml, .yaml), or a Python"
        try:
            read_environment_file(Path(path))
        except InvalidManifest as refusal:
            return "must be a valid file of packages: " + "; ".join(str(refusal).splitlines())
        except OSError as error:
            return f"must be a readable file: {error.filename}: {error.strerror}"
        return ""

    async def interpreter(self, path: str, log: Callable[[str], None]) -> str:
        """Find or build the environment; its interpreter.

        path: as declared, absolute.
        log: takes the lines of the build.
        Raises EnvironmentFailure, OSError.
        """
        if self._builder.folders.key_of(path):
            if await asyncio.to_thread(self._builder.folders.find, self._builder.folders.key_of(path)) is None:
                raise EnvironmentFailure(self.fault(path) or f"{path} is damaged; deploy the version again")
            return path
        if await asyncio.to_thread(is_interpreter, path):
            await self._probe(path)
            return path
        try:
            spec = await asyncio.to_thread(read_environment_file, Path(path))
            built = await self._builder.build(spec.named(os.path.basename(path), ""), log)
        except (InvalidManifest, BuildError) as error:
            raise EnvironmentFailure("; ".join(str(error).splitlines())) from error
        return str(built.interpreter)

    async def _probe(self, path: str) -> None:
        """Refuse a program that is no Python, or lacks the server that hosts scripts. Raises EnvironmentFailure."""
        env = {name: value for name, value in inherited(os.environ).items() if name not in OWN_VARIABLES}
        lines: list[str] = []
        try:
            await run_build_process((path, "-c", PROBE), env, Path("/"), lines.append, PROBE_LIMIT_S)
        except TimeoutError:
            lines.append(f"no answer within {PROBE_LIMIT_S:g} s")
        answer = next((line.split() for line in lines if line.startswith("probed ")), None)
        if answer is None:
            raise EnvironmentFailure(f"{path} is no Python that runs: {lines[-1] if lines else 'it says nothing'}")
        if answer[1] != "1":
            raise EnvironmentFailure(f"{path} is older than Python 3.8")
        if answer[2:]:
            raise EnvironmentFailure(f"{path} lacks {HOST_PACKAGE}: {path} -m pip install {HOST_PACKAGE}")
