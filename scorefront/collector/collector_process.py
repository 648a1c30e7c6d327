"""The process `scorefront collector`: reads the rings beside it, writes to the store, takes the data of scripts."""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cluster import atomic_files
from controlplane.control_errors import StoreError
from router.settings import SettingError
from scorefront import __version__
from scorefront.collector.replica_peers import ReplicaPeers
from scorefront.payload_settings import payload_settings, telemetry_settings
from scorefront.process import process_main as process
from scorefront.process.time_slices import shorten_slices
from serving.endpoint import PayloadCollection, VersionKey
from telemetry.access_exports import AccessExports
from telemetry.collected_versions import CollectedVersions
from telemetry.collector import Collector, CollectorClock
from telemetry.export_settings import ExportSettingError
from telemetry.payload_files import AbsentPayloads, PayloadStore, StoredPayloads
from telemetry.script_listener import ScriptListener
from workspace.store.file_store import FileStore

_log = logging.getLogger("scorefront.collector")


@dataclass(frozen=True, slots=True)
class CollectorOptions:
    """Options of `scorefront collector`."""

    rings_dir: Path
    store: str
    instance: str
    """Part of the names of files; unique among the writers of the store."""
    parts_dir: Path | None = None
    """Folder of files under construction, for a store that is no folder; None: one of the system."""
    scripts_fd: int | None = None
    """A listening socket for the data of scripts; None: none is taken."""
    scripts_port: int | None = None
    """Loopback port for the data of scripts, in place of `scripts_fd`."""
    version: VersionKey | None = None
    """The version whose scripts send data; None: those in the list of the control process."""
    with_parent: bool = False
    """True: end at once when standard input ends, because the parent has ended."""


def run(options: CollectorOptions) -> int:
    """Run until a signal; the exit status: 0 then, 1 if it cannot start or go on, 2 for invalid input."""
    return process.main(lambda: asyncio.run(_run(options)), (StoreError, OSError), (SettingError,))


async def _run(options: CollectorOptions) -> int:
    settings = payload_settings(os.environ)
    atomic_files.make_private_directory(options.rings_dir)
    shorten_slices()  # a woken worker or model then waits at most one of them for the core
    store = await asyncio.to_thread(_store, options)
    stopping = threading.Event()
    wall = time.time  # noqa: TID251 - the shell that reads the wall clock
    clock = CollectorClock(time.monotonic, wall, stopping.wait, stopping)
    exports = await asyncio.to_thread(_exports, options.instance)
    collector = Collector(
        options.rings_dir, store, options.instance, settings, clock, lambda: str(uuid.uuid4()), exports
    )
    stop = process.stop_event()
    if options.with_parent:
        _end_with_parent()
    async with _scripts(options, collector):
        collecting = asyncio.create_task(asyncio.to_thread(collector.run), name="collect payloads")
        try:
            await process.first_ended(stop, collecting)
        finally:
            stopping.set()
        await collecting
    return 0


def _store(options: CollectorOptions) -> PayloadStore:
    """Raises StoreError."""
    if options.store:
        return StoredPayloads(FileStore(options.store, options.parts_dir))
    return AbsentPayloads(options.parts_dir or options.rings_dir)


def _exports(instance: str) -> AccessExports | None:
    """The export of telemetry; None without an exporter. `instance`: this collector."""
    try:
        settings = telemetry_settings(os.environ)
        if not settings:
            return None
        from telemetry.otel_signals import signals  # late: needs a library that is not always installed

        return AccessExports(signals(settings, instance, __version__), settings, time.monotonic)
    except ExportSettingError as error:
        _log.error("telemetry: nothing is exported: %s", error)
        return None


@contextlib.asynccontextmanager
async def _scripts(options: CollectorOptions, collector: Collector) -> AsyncIterator[None]:
    """Take the data of scripts during the block."""
    if options.scripts_fd is not None:
        sock = socket.socket(fileno=options.scripts_fd)
    elif options.scripts_port is not None:
        sock = process.listening("--scripts-port", ("127.0.0.1", options.scripts_port))
    else:
        yield
        return
    listed = CollectedVersions(options.rings_dir)
    only = {options.version: PayloadCollection()} if options.version is not None else None
    wall = time.time  # noqa: TID251 - the shell that reads the wall clock
    listener = ScriptListener(
        collector.scripts, lambda: only or listed.all(), collector.drop_script, ReplicaPeers(), wall
    )
    runner = await listener.serve(sock)
    try:
        yield
    finally:
        await runner.cleanup()


def _end_with_parent() -> None:
    """End this process when standard input ends: the parent holds its other end."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(1)

    threading.Thread(target=watch, name="watch the parent", daemon=True).start()
