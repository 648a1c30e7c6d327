"""The builder of one machine: a virtual environment per key, made by uv, shared by all its users."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.local.inherited_environment import inherited
from workspace.builders import interpreters, pip_settings, uv_output
from workspace.builders.build_process import run_build_process
from workspace.builders.environment_folders import PART, EnvironmentFolders
from workspace.builders.interface import BuildError, BuiltEnvironment, Log
from workspace.builders.interpreters import Interpreter
from workspace.environments.install_plan import InstallPlan, install_plan
from workspace.environments.spec import EnvironmentSpec

AT_ONCE = 2
"""Builds at the same time."""
LIST_LIMIT_S = 30.0
OWN_VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME")
"""Variables of the environment of scorefront that a build must not see."""


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """Limits of builds."""

    time_s: float = 1800.0
    """Longest time of one build."""
    kept_bytes: int = 20_000_000_000
    """Bytes of all environments above which unused ones are removed."""


class VenvBuilder:
    """Builds virtual environments under one root; implements `EnvironmentBuilder`."""

    def __init__(self, root: Path, environ: Mapping[str, str], limits: BuildLimits) -> None:
        """A builder that is not started.

        root: folder of the environments, of one builder at a time.
        environ: of this process; settings of pip and uv count.
        limits: of time and bytes.
        """
        self.folders = EnvironmentFolders(root.absolute())
        self._environ = environ
        self._limits = limits
        self._locks: dict[str, asyncio.Lock] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._users: list[Callable[[], Collection[str]]] = []

    async def begin(self) -> None:
        """Remove what an interrupted run has left. Raises OSError."""
        await asyncio.to_thread(self.folders.prepare)

    def ask_users(self, users: Callable[[], Collection[str]]) -> None:
        """Never remove environments with the keys that `users` returns."""
        self._users.append(users)

    async def build(self, spec: EnvironmentSpec, log: Log) -> BuiltEnvironment:
        """Find or build an environment.

        spec: the definition.
        log: takes the lines of the build.
        Raises BuildError, OSError. A cancelled build leaves neither processes nor files.
        """
        key = spec.key
        if spec.user_managed:
            return BuiltEnvironment(key, _user_managed(spec, log), found=True)
        lock = self._locks.setdefault(key, asyncio.Lock())
        if lock.locked():
            log(f"environment {key[:12]}: waiting for the build in progress")
        async with lock:
            if (python := await asyncio.to_thread(self.folders.find, key)) is not None:
                log(f"environment {spec.label}: found {key[:12]}")
                return BuiltEnvironment(key, python, found=True)
            async with self._gate:
                python = await self._build(spec, log)
        await self.collect(log)
        return BuiltEnvironment(key, python, found=False)

    async def collect(self, log: Log) -> None:
        """Remove unused environments above the limit. `log`: takes a line for each."""
        used = {key for users in self._users for key in users()}
        used |= {key for key, lock in self._locks.items() if lock.locked()}
        for key in await asyncio.to_thread(self.folders.collect, used, self._limits.kept_bytes):
            log(f"environment {key[:12]}: removed: not in use, and all are larger than {self._limits.kept_bytes} bytes")

    # ---- internal

    async def _build(self, spec: EnvironmentSpec, log: Log) -> Path:
        plan, uv = install_plan(spec), find_uv()
        log(f"environment {spec.label}: building {spec.key[:12]}")
        for note in plan.notes:
            log(note)
        await self.begin_if_absent()
        part = self.folders.new_part()
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._limits.time_s):
                chosen, warning = interpreters.choose(plan.python, await self._interpreters(uv, plan.python), _own())
                log(warning or f"Python {chosen}")
                await self._make(uv, chosen, part, log)
                await self._install(uv, plan, part, log)
            record = {**asdict(spec), "interpreter": str(chosen)}
            python = await asyncio.to_thread(self.folders.complete, part, spec.key, record)
        except TimeoutError:
            raise BuildError("", f"the build took longer than {self._limits.time_s:g} s") from None
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, part, ignore_errors=True))
        log(f"environment {spec.label}: built in {asyncio.get_running_loop().time() - began_s:.1f} s")
        return python

    async def begin_if_absent(self) -> None:
        """Make the root again if it was removed."""
        await asyncio.to_thread(self.folders.root.mkdir, 0o700, True, True)

    async def _interpreters(self, uv: str, wanted: str) -> list[Interpreter]:
        """The interpreters of this machine, if the own one is not the wanted release."""
        if not wanted or ".".join(map(str, _own().release)).startswith(f"{wanted}."):
            return []
        lines: list[str] = []
        command = (uv, "python", "list", "--only-installed", "--no-python-downloads", "--output-format", "json")
        with contextlib.suppress(TimeoutError, OSError):
            await run_build_process(command, self._variables(), self.folders.root, lines.append, LIST_LIMIT_S)
        text = next((line for line in lines if line.startswith("[")), "")
        return [*interpreters.listed(text), *interpreters.of_pyenv(self._environ)]

    async def _make(self, uv: str, python: Interpreter, part: Path, log: Log) -> None:
        """Make an empty environment. Its scripts may move with it."""
        command = (uv, "venv", "--relocatable", "--no-project", "--no-python-downloads")
        output = await self._run((*command, "--python", str(python.path), str(part)), log)
        if output is not None:
            raise BuildError("python", uv_output.failure(output.lines)[1])

    async def _install(self, uv: str, plan: InstallPlan, part: Path, log: Log) -> None:
        pip = pip_settings.index_settings(pip_settings.read_pip_settings(self._environ))
        own_index = any(line.startswith(("--index-url", "--no-index")) for line in plan.lines)
        lines = [line for line in pip.lines if not (own_index and line.startswith("--index-url"))]
        hosts = [line.partition(" ")[2] for line in plan.lines if line.startswith("--trusted-host")]
        lines += (line for line in plan.lines if not line.startswith("--trusted-host"))
        arguments = [*pip.arguments, *(part for host in hosts for part in ("--allow-insecure-host", host))]
        if plan.allow_prereleases:
            arguments += ("--prerelease", "allow")
        if any(line.startswith("--extra-index-url") for line in plan.lines) and not pip.arguments:
            arguments += ("--index-strategy", "unsafe-best-match")
        with tempfile.TemporaryDirectory(prefix=PART, dir=self.folders.root) as folder:
            file = os.path.join(folder, "requirements.txt")
            _write_private(file, "".join(f"{line}\n" for line in lines))
            command = [uv, "pip", "install", "-v", "--color", "never", "--python", str(part / "bin" / "python")]
            command += ["--system-certs", *arguments, "--requirement", file]
            failed = await self._run(command, log)
            if failed is not None and uv_output.is_network_failure(failed.lines):
                log("an index cannot be reached: taking what is cached")
                online, failed = failed, await self._run([*command, "--offline"], log)
                if failed is not None:
                    package = uv_output.failure(failed.lines)[0] or uv_output.failure(online.lines)[0]
                    reason = uv_output.network_reason(online.lines)
                    raise BuildError(package, f"is not cached, and an index cannot be reached: {reason}")
        if failed is not None:
            raise BuildError(*uv_output.failure(failed.lines))

    async def _run(self, command: Collection[str], log: Log) -> uv_output.UvOutput | None:
        """Run uv; its output if it has failed."""
        output = uv_output.UvOutput()

        def take(line: str) -> None:
            if (shown := output.feed(line)) is not None:
                log(shown)

        code = await run_build_process(tuple(command), self._variables(), self.folders.root, take, self._limits.time_s)
        if code < 0:
            output.feed(f"error: uv was killed by signal {-code}")
        return output if code else None

    def _variables(self) -> dict[str, str]:
        """The environment of uv: what replicas inherit, and settings of uv and pip; no keys."""
        env = {name: value for name, value in inherited(self._environ).items() if name not in OWN_VARIABLES}
        pip = dict(pip_settings.index_settings(pip_settings.read_pip_settings(self._environ)).variables)
        return {"UV_HTTP_RETRIES": "1", **env, **pip, **pip_settings.uv_variables(self._environ), "UV_NO_PROGRESS": "1"}


def _write_private(file: str, text: str) -> None:
    """Write a file that only this user can read: the address of an index may have a password."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)


def find_uv() -> str:
    """The path of uv: that of scorefront's own environment first. Raises BuildError."""
    own = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    if (found := shutil.which("uv", path=own)) is None:
        raise BuildError("uv", "is not installed, and makes the environments: pip install 'scorefront[builder]'")
    return found


def _own() -> Interpreter:
    return interpreters.own_interpreter()


def _user_managed(spec: EnvironmentSpec, log: Log) -> Path:
    """The interpreter of a user-managed environment. Raises BuildError."""
    if not os.path.isabs(spec.interpreter):
        log("user-managed packages are in an image, which one machine does not run: the Python of scorefront is used")
        return Path(sys.executable)
    if not os.access(spec.interpreter, os.X_OK):
        raise BuildError("python", f"interpreterPath {spec.interpreter} must be a program on this machine")
    log(f"Python of the user: {spec.interpreter}")
    return Path(spec.interpreter)
