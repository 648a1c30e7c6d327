"""The collector of one machine: a child of `scorefront up`, started once an endpoint needs it."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from cluster import atomic_files
from cluster.provider import Problem
from scorefront.payload_settings import telemetry_note
from scorefront.process.process_hardening import CREDENTIALS
from serving.endpoint import Endpoint, PayloadCollection, VersionKey
from telemetry.collected_versions import write_versions
from telemetry.collector_journal import access_counts, payload_counts
from telemetry.collector_settings import CollectorSettings
from telemetry.dropped_payloads import DroppedPayloads, dropping_problem
from telemetry.ring import PayloadCounts
from workspace.store.file_store import PARTS

_log = logging.getLogger("scorefront.up")

LOOK_S: Final = 0.5
"""Interval of looks at the declared versions."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
PAUSE_GROWTH: Final = 2
"""Factor of the pause after a collector that ends without having worked."""
PROVEN_S: Final = 60.0
"""Age at which an ended collector counts as one that worked, as does one that has stored payloads."""
STOP_S: Final = 1.5
"""Time for the last batch at the end."""
SHARED_MEMORY: Final = Path("/dev/shm")
OWNER_FILE: Final = "state-dir"


class PayloadCollectorChild:
    """Starts the collector, restarts it when it ends, stops it."""

    def __init__(
        self,
        state_dir: Path,
        store_url: str,
        settings: CollectorSettings,
        declared: Callable[[], Iterable[Endpoint]],
        environment: Mapping[str, str],
    ) -> None:
        """A collector that is not started.

        state_dir: of the installation. store_url: of the collected data.
        settings: of the collector. declared: the endpoints. environment: of this process.
        """
        self.rings_dir = rings_folder(state_dir)
        self._state_dir = state_dir
        self._store_url = store_url
        self._settings = settings
        self._declared = declared
        self._environment = environment
        self._telemetry = not telemetry_note(environment)
        self._scripts: socket.socket | None = None
        self._port = 0
        self._listed: Mapping[VersionKey, PayloadCollection] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._pause_s = FIRST_PAUSE_S
        self._dropped = DroppedPayloads()

    def script_port(self) -> int:
        """Port for the data of scripts, listening from the first call on; 0 if there is none."""
        if self._scripts is None and not self._port:
            wanted = self._settings.port
            try:
                self._scripts = _listening(wanted)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._scripts = _listening(0)
                used = self._scripts.getsockname()[1] if self._scripts is not None else 0
                taken = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
                _log.warning(
                    "data of scripts: port %d of 127.0.0.1 is not available (%s): port %d is used; scripts that take"
                    " the port from AZUREML_MDC_PORT are not affected (SCOREFRONT_PAYLOADS_PORT chooses another)",
                    wanted,
                    taken,
                    used,
                )
            self._port = self._scripts.getsockname()[1] if self._scripts is not None else 0
        return self._port

    def counts(self) -> dict[VersionKey, PayloadCounts]:
        """Payloads of every version by result."""
        with contextlib.suppress(OSError):
            return payload_counts(self.rings_dir)
        return {}

    def access_counts(self) -> dict[str, PayloadCounts]:
        """Access records of every endpoint by result."""
        with contextlib.suppress(OSError):
            return access_counts(self.rings_dir)
        return {}

    def _stored(self) -> int:
        """Payloads and access records so far that came to their store or receiver."""
        return sum(each.stored for counts in (self.counts(), self.access_counts()) for each in counts.values())

    def problems(self, key: VersionKey) -> Mapping[Problem, str]:
        """The problem of lost payloads of a version."""
        return dropping_problem(self._dropped.recent(asyncio.get_running_loop().time()).get(key, 0))

    async def run(self) -> None:
        """Keep the collector running from the first endpoint that needs it on; never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            if self._list() or self._exports():
                break
        while True:
            began, stored = loop.time(), self._stored()
            try:
                process = await self._start()
            except OSError as error:
                _log.error("collector: cannot start: %s", error.strerror or error)
            else:
                ended = asyncio.create_task(process.wait(), name="wait for the collector")
                try:
                    while not ended.done():
                        await asyncio.wait({ended}, timeout=LOOK_S)
                        self._list()
                        self._dropped.note(self.counts(), loop.time())
                finally:
                    ended.cancel()
                _log.warning("collector: ended with status %s; starting another one", process.returncode)
            if loop.time() - began > PROVEN_S or self._stored() > stored:
                self._pause_s = FIRST_PAUSE_S
            else:
                self._pause_s = min(PAUSE_GROWTH * self._pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(self._pause_s)

    async def stop(self) -> None:
        """Let the collector write what it has, and end it."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._scripts is not None:
            self._scripts.close()

    def _list(self) -> bool:
        """Write the list of versions that collect, after changes; True if there is one."""
        found = {
            VersionKey(endpoint.name, version.name): version.collection
            for endpoint in self._declared()
            for version in endpoint.versions
            if version.collection is not None
        }
        if found != (self._listed or {}):
            try:
                make_rings_folder(self.rings_dir, self._state_dir)
                write_versions(self.rings_dir, found)
                self._listed = found
            except OSError as error:
                _log.error("%s: payloads are not collected: %s", self.rings_dir, error.strerror or error)
        return bool(found)

    def _exports(self) -> bool:
        """True once an endpoint has telemetry that is exported."""
        if not self._telemetry or not any(endpoint.app_insights for endpoint in self._declared()):
            return False
        try:
            make_rings_folder(self.rings_dir, self._state_dir)
        except OSError as error:
            _log.error("%s: telemetry is not exported: %s", self.rings_dir, error.strerror or error)
            return False
        return True

    async def _start(self) -> asyncio.subprocess.Process:
        """Raises OSError."""
        self.script_port()
        scripts = self._scripts
        arguments = [
            *(sys.executable, "-m", "scorefront", "collector"),
            f"--rings-dir={self.rings_dir}",
            f"--store={self._store_url}",
            f"--parts-dir={self._state_dir / PARTS}",
            f"--instance={instance_of(self._state_dir)}",
            "--with-parent",
            *([f"--scripts-fd={scripts.fileno()}"] if scripts is not None else []),
        ]
        # The store's client reads credentials of its own, such as AWS_SECRET_ACCESS_KEY; ours are left out.
        environment = {
            name: value
            for name, value in self._environment.items()
            if not (name.startswith("SCOREFRONT_") and name.endswith(CREDENTIALS))
        }
        self._process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            env=environment,
            pass_fds=[scripts.fileno()] if scripts is not None else [],
            start_new_session=True,  # Ctrl-C in a terminal is for the parent
        )
        return self._process


def rings_folder(state_dir: Path) -> Path:
    """The folder of the rings of an installation: in shared memory where there is one."""
    if os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return SHARED_MEMORY / f"scorefront-{os.geteuid()}-{_digest(state_dir)}"
    return state_dir / "rings"


def make_rings_folder(rings: Path, state_dir: Path) -> None:
    """Make the folder, and remove those of installations that are gone. Raises OSError."""
    atomic_files.make_private_directory(rings)
    atomic_files.write_atomically(rings / OWNER_FILE, os.fsencode(state_dir.resolve()), durable=False)
    if rings.parent != SHARED_MEMORY:
        return
    for other in SHARED_MEMORY.glob(f"scorefront-{os.geteuid()}-*"):
        with contextlib.suppress(OSError):
            if not Path(os.fsdecode(atomic_files.read_own(other / OWNER_FILE))).exists():
                for file in other.iterdir():
                    file.unlink()
                other.rmdir()


def instance_of(state_dir: Path) -> str:
    """This installation's part of the names of files in the store."""
    return f"{socket.gethostname().partition('.')[0]}-{_digest(state_dir)[:8]}"


def _digest(state_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]


def _listening(port: int) -> socket.socket:
    """A listening socket on loopback. Raises OSError."""
    return socket.create_server(("127.0.0.1", port), backlog=128)
