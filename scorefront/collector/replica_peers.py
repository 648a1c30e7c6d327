"""Processes at the other end of connections to the port for the data of scripts: their user, and their version."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster.local import socket_owner
from serving.endpoint import VersionKey

ENDPOINT: Final = b"SCOREFRONT_ENDPOINT="
VERSION: Final = b"SCOREFRONT_VERSION="
_ENTRY: Final = re.compile(r"^\s*\d+: ([0-9A-F]{8}):([0-9A-F]{4}) \S+ \S+ \S+ \S+ \S+\s+\d+\s+\d+ (\d+)", re.MULTILINE)


class ReplicaPeers:
    """Facts from the kernel; implements `telemetry.script_listener.ScriptPeers`."""

    def __init__(self) -> None:
        self._uids = socket_owner.trusted_uids()

    def is_trusted(self, client: tuple[str, int], own: tuple[str, int]) -> bool:
        """True for this user and root, and where the kernel cannot be asked: then the users are those of a pod."""
        with contextlib.suppress(socket_owner.Unanswerable, OSError):
            return socket_owner.connection_uid(client, own) in self._uids
        return True

    def version(self, client: tuple[str, int]) -> VersionKey | None:
        """The version named in the environment of the process that has the socket; None: unknown."""
        with contextlib.suppress(OSError, ValueError):
            inode = _inode(client[1])
            for process in _processes() if inode else ():
                if _has_socket(process, inode):
                    return _version(process)
        return None


def _inode(port: int) -> str:
    """Inode of the loopback socket with a local port; "" if there is none. Raises OSError."""
    for address, hexadecimal, inode in _ENTRY.findall(Path("/proc/net/tcp").read_text()):
        if int(hexadecimal, 16) == port and address.endswith("7F"):
            return str(inode)
    return ""


def _processes() -> Iterator[Path]:
    uid = os.geteuid()
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and (uid == 0 or path.stat().st_uid == uid):
                yield path


def _has_socket(process: Path, inode: str) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return True
    return False


def _version(process: Path) -> VersionKey | None:
    found = {ENDPOINT: "", VERSION: ""}
    for entry in (process / "environ").read_bytes().split(b"\0"):
        for name in found:
            if entry.startswith(name):
                found[name] = entry.removeprefix(name).decode()
    return VersionKey(found[ENDPOINT], found[VERSION]) if all(found.values()) else None
