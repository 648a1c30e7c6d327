"""State directory of one installation: small JSON files, each written atomically.

    lock                    locked while this process runs
    endpoints/NAME.json     the declared document and the keys of one endpoint
    wanted.json             desired replicas of each version
    signing.json            token signing keys and the issuer's name
    control-token           credential of the REST API

A damaged file is never overwritten. That of an endpoint stays in place and does not affect other endpoints; the others
are renamed (`…damaged-1`) and start empty.

Blocking: `controlplane.store.StateStore` calls it in threads. Nothing is cached in memory.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cluster import atomic_files
from controlplane.control_errors import DamagedFile, NewerFormat, StoreError
from controlplane.keys import KeyPair, key_from
from controlplane.state import InstallationState, StoredEndpoint
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey

FORMAT = 1

_T = TypeVar("_T")


class _Header(msgspec.Struct):
    format: int


class _EndpointFile(msgspec.Struct):
    format: int
    document: dict[str, Any]
    keys: KeyPair


class _WantedFile(msgspec.Struct):
    format: int
    replicas: dict[str, dict[str, int]]


class _SigningFile(msgspec.Struct):
    format: int
    keyring: Keyring


class StateDirectory:
    """A state directory, locked by one process at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._endpoints = directory / "endpoints"
        self._lock: int | None = None
        self._writing = threading.Lock()

    def open(self) -> InstallationState:
        """Take the lock and read every readable file. Raises StoreError that names the offending file."""
        make_own(self._directory)
        make_own(self._endpoints)
        self._check_logs()
        self._take_lock()
        try:
            return self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock. No effect if it is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save_endpoint(self, name: str, stored: StoredEndpoint) -> None:
        """Store an endpoint. Raises StoreError; then the previous record is intact."""
        self._write(self._endpoints / f"{name}.json", _EndpointFile(FORMAT, stored.document, stored.keys))

    def delete_endpoint(self, name: str) -> None:
        """Delete an endpoint and its keys. Raises StoreError."""
        path = self._endpoints / f"{name}.json"
        with _naming(path, "remove"):
            atomic_files.remove_durably(path)

    def set_endpoint_aside(self, name: str) -> Path | None:
        """Rename its damaged file and return the new path; None if there is no file. Raises StoreError."""
        path = self._endpoints / f"{name}.json"
        with _naming(path, "rename"):
            return atomic_files.set_aside(path) if path.exists() else None

    def save_desired(self, desired: Mapping[VersionKey, int]) -> None:
        """Store all desired replicas. Raises StoreError."""
        replicas: dict[str, dict[str, int]] = {}
        for key, number in desired.items():
            replicas.setdefault(key.endpoint, {})[key.version] = number
        self._write(self._directory / "wanted.json", _WantedFile(FORMAT, replicas))

    def save_keyring(self, keyring: Keyring) -> None:
        """Store the token signing keys. Raises StoreError."""
        self._write(self._directory / "signing.json", _SigningFile(FORMAT, keyring))

    def control_token(self, entropy: bytes) -> str:
        """The token of the REST API; created from `entropy` (32 bytes) if absent. Raises StoreError."""
        path = self._directory / "control-token"
        with _naming(path, "read or write"):
            if path.exists():
                token = atomic_files.read_own(path).decode("ascii").strip()
                if not token:
                    raise StoreError(f"{path} is empty; remove it to create a new control token")
                return token
            token = key_from(entropy)
            atomic_files.write_atomically(path, token.encode() + b"\n")
            return token

    def _check_logs(self) -> None:
        """Check what is in the folder of logs: files are written and removed there. Raises StoreError."""
        logs = self._directory / "logs"
        for path in (logs, *logs.glob("*"), *logs.glob("*/*"), *logs.glob("*/*/*")):
            with _naming(path, "use"):
                atomic_files.check_own(path)

    def _take_lock(self) -> None:
        path = self._directory / "lock"
        with _naming(path, "open"):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise StoreError(
                f"the state directory {self._directory} is in use by another scorefront (process {holder or '?'});"
                " stop it first, or choose another --state-dir"
            ) from error
        self._lock = lock
        with _naming(path, "write"):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _read(self) -> InstallationState:
        with _naming(self._directory, "tidy"):
            for directory in (self._directory, self._endpoints):
                atomic_files.sweep(directory)
            paths = sorted(self._endpoints.glob("*.json"))
        endpoints, damaged = {}, {}
        for path in paths:
            try:
                kept = _read_file(path, _EndpointFile)
            except NewerFormat:
                raise
            except StoreError as error:
                damaged[path.stem] = str(error)
            else:
                endpoints[path.stem] = StoredEndpoint(kept.document, kept.keys)
        lost: list[str] = []
        wanted = self._read_or_set_aside("wanted.json", _read_wanted, "replicas start at their minimum", lost)
        keyring = self._read_or_set_aside("signing.json", _read_keyring, "earlier tokens are invalid", lost)
        return InstallationState(endpoints, wanted or {}, keyring, damaged, lost=tuple(lost))

    def _read_or_set_aside(self, name: str, read: Callable[[Path], _T], so_now: str, lost: list[str]) -> _T | None:
        """Content of one file; None if it is absent or damaged. A damaged file is renamed and noted in `lost`.

        name: of the file.
        read: reads it; raises DamagedFile, StoreError.
        so_now: consequence of the loss, as text.
        lost: receives the note.
        """
        path = self._directory / name
        if not path.exists():
            return None
        try:
            return read(path)
        except DamagedFile as error:
            with _naming(path, "rename"):
                aside = atomic_files.set_aside(path)
            lost.append(f"{error}; renamed to {aside.name}, and {so_now}")
            return None

    def _write(self, path: Path, content: msgspec.Struct) -> None:
        with self._writing, _naming(path, "write"):
            atomic_files.write_atomically(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def make_own(directory: Path) -> None:
    """Create a directory with access for this user only. Raises StoreError."""
    try:
        atomic_files.make_private_directory(directory)
    except OSError as error:
        raise StoreError(f"cannot use the state directory {directory}: {error.strerror}") from error


@contextlib.contextmanager
def _naming(path: Path, verb: str) -> Iterator[None]:
    """Convert operating system errors to a StoreError that names the file. `verb`: the action, e.g. "read"."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreError(f"cannot {verb} {path}: {reason}") from error


def _read_wanted(path: Path) -> dict[VersionKey, int]:
    replicas = _read_file(path, _WantedFile).replicas
    return {VersionKey(name, version): count for name, counts in replicas.items() for version, count in counts.items()}


def _read_keyring(path: Path) -> Keyring:
    keyring = _read_file(path, _SigningFile).keyring
    if not keyring.keys:
        raise DamagedFile(f"{path} is damaged: keyring.keys: must hold at least one signing key")
    return keyring


def _read_file(path: Path, shape: type[_T]) -> _T:
    """Raises DamagedFile, NewerFormat, StoreError."""
    with _naming(path, "read"):
        data = atomic_files.read_own(path)
    try:
        found = msgspec.json.decode(data, type=_Header).format
        if found != FORMAT:
            raise NewerFormat(f"{path} has format {found}; this scorefront reads format {FORMAT}")
        return msgspec.json.decode(data, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
