"""What the control plane needs kept, and the face of the state directory that fits it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from controlplane.state import InstallationState, StoredEndpoint
from controlplane.statedir import StateDirectory
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey


class Store(Protocol):
    """Where declared endpoints, keys and numbers are kept. Every method raises StoreError; then nothing has changed.

    The control plane changes its own memory only after the write has succeeded.
    """

    remedy: str
    """What people do about a damaged endpoint, to be read after "; "."""

    async def open(self) -> InstallationState:
        """Everything that is kept; what cannot be read keeps nothing else from being read."""

    async def close(self) -> None:
        """Give back what `open` took. Harmless without it."""

    async def save_endpoint(self, name: str, stored: StoredEndpoint) -> StoredEndpoint:
        """Keep an endpoint: what is kept now. A new one may have found its keys there already."""

    async def delete_endpoint(self, name: str) -> None:
        """Forget an endpoint and its keys."""

    async def set_endpoint_aside(self, name: str) -> str:
        """Make room where something damaged is kept: where that is now, '' if nothing was in the way."""

    async def delete_damaged(self, name: str) -> str:
        """Forget a damaged endpoint: where what was kept of it is now, '' if it is nowhere any more."""

    async def save_desired(self, wanted: Mapping[VersionKey, int]) -> None:
        """Keep all wanted numbers."""

    async def save_keyring(self, keyring: Keyring) -> None:
        """Keep the token signing keys."""

    def place(self, name: str) -> str:
        """Where people find what is kept of an endpoint."""


class FileStore:
    """A state directory: what is blocking there happens in threads here."""

    remedy = "mend the file and start again, or declare it anew"

    def __init__(self, directory: Path) -> None:
        self._files = StateDirectory(directory)

    async def open(self) -> InstallationState:
        """Take the lock and read everything."""
        return await asyncio.to_thread(self._files.open)

    async def close(self) -> None:
        """Give the lock back."""
        self._files.close()

    async def save_endpoint(self, name: str, stored: StoredEndpoint) -> StoredEndpoint:
        """Keep an endpoint: just what was given."""
        await asyncio.to_thread(self._files.save_endpoint, name, stored)
        return stored

    async def delete_endpoint(self, name: str) -> None:
        """Forget an endpoint and its keys."""
        await asyncio.to_thread(self._files.delete_endpoint, name)

    async def set_endpoint_aside(self, name: str) -> str:
        """Rename its damaged file."""
        aside = await asyncio.to_thread(self._files.set_endpoint_aside, name)
        return str(aside or "")

    async def delete_damaged(self, name: str) -> str:
        """Rename its damaged file: somebody may want to know what was in it."""
        return await self.set_endpoint_aside(name)

    async def save_desired(self, wanted: Mapping[VersionKey, int]) -> None:
        """Keep all wanted numbers."""
        await asyncio.to_thread(self._files.save_desired, wanted)

    async def save_keyring(self, keyring: Keyring) -> None:
        """Keep the token signing keys."""
        await asyncio.to_thread(self._files.save_keyring, keyring)

    async def control_token(self, entropy: bytes) -> str:
        """The token of the REST API; made from `entropy` (32 bytes) the first time."""
        return await asyncio.to_thread(self._files.control_token, entropy)

    def place(self, name: str) -> str:
        """The file, relative to the state directory."""
        return f"endpoints/{name}.json in the state directory"
