"""Interface of the durable store, and its implementation by a state directory."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from controlplane.state import InstallationState, StoredEndpoint
from controlplane.statedir import StateDirectory
from controlplane.tokens import Keyring
from serving.endpoint import VersionKey


class Store(Protocol):
    """Durable store of endpoints, keys and desired replicas. Every method raises StoreError; then nothing has changed.

    The control plane changes its own memory only after a successful write.
    """

    remedy: str
    """Advice for a damaged endpoint, appended after "; "."""

    async def open(self) -> InstallationState:
        """The stored state; an unreadable part does not affect the others."""

    async def close(self) -> None:
        """Release the store. No effect if it is not open."""

    async def save_endpoint(self, name: str, stored: StoredEndpoint) -> StoredEndpoint:
        """Store an endpoint; returns the stored record, which may have existing keys."""

    async def delete_endpoint(self, name: str) -> None:
        """Delete an endpoint and its keys."""

    async def set_endpoint_aside(self, name: str) -> str:
        """Move a damaged record away; returns its new location, '' if none was moved."""

    async def delete_damaged(self, name: str) -> str:
        """Delete a damaged endpoint; returns the location of the preserved record, '' if none is preserved."""

    async def save_desired(self, desired: Mapping[VersionKey, int]) -> None:
        """Store all desired replicas."""

    async def save_keyring(self, keyring: Keyring) -> None:
        """Store the token signing keys."""

    def place(self, name: str) -> str:
        """Location of the record of an endpoint, as text for people."""


class StateStore:
    """Store in a state directory; its blocking calls run in threads."""

    remedy = "repair the file and restart, or declare the endpoint again"

    def __init__(self, directory: Path) -> None:
        self._files = StateDirectory(directory)

    async def open(self) -> InstallationState:
        """Take the lock and read all files."""
        return await asyncio.to_thread(self._files.open)

    async def close(self) -> None:
        """Release the lock."""
        self._files.close()

    async def save_endpoint(self, name: str, stored: StoredEndpoint) -> StoredEndpoint:
        """Store an endpoint as given."""
        await asyncio.to_thread(self._files.save_endpoint, name, stored)
        return stored

    async def delete_endpoint(self, name: str) -> None:
        """Delete an endpoint and its keys."""
        await asyncio.to_thread(self._files.delete_endpoint, name)

    async def set_endpoint_aside(self, name: str) -> str:
        """Rename its damaged file."""
        aside = await asyncio.to_thread(self._files.set_endpoint_aside, name)
        return str(aside or "")

    async def delete_damaged(self, name: str) -> str:
        """Rename its damaged file, which preserves the content."""
        return await self.set_endpoint_aside(name)

    async def save_desired(self, desired: Mapping[VersionKey, int]) -> None:
        """Store all desired replicas."""
        await asyncio.to_thread(self._files.save_desired, desired)

    async def save_keyring(self, keyring: Keyring) -> None:
        """Store the token signing keys."""
        await asyncio.to_thread(self._files.save_keyring, keyring)

    async def control_token(self, entropy: bytes) -> str:
        """The token of the REST API; created from `entropy` (32 bytes) if absent."""
        return await asyncio.to_thread(self._files.control_token, entropy)

    def place(self, name: str) -> str:
        """Path of the file in the state directory."""
        return f"endpoints/{name}.json in the state directory"
