"""Uploads of large files by blocks, in the order in which they are sent."""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from workspace.azureml.azure_errors import AzureError
from workspace.store.file_store import Blob, BlobWriter, FileStore

MAX_BLOCK_BYTES = 8 * 1024 * 1024
"""A block is held in memory; the client libraries send 4 MB."""
MAX_BLOCKS = 50_000
MAX_UPLOADS = 256
"""Unfinished uploads at one time; the oldest idle one is given up for another."""
IDLE_S = 3600.0
_LISTED = re.compile(r"<(?:Latest|Uncommitted|Committed)>([^<]{1,128})</")


@dataclass(slots=True)
class _Upload:
    writer: BlobWriter
    used: float
    blocks: dict[str, bytes] = field(default_factory=dict)
    """Block id -> digest, in the order of arrival."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class BlockUploads:
    """Unfinished uploads by artifact."""

    def __init__(self, store: FileStore, now: Callable[[], float]) -> None:
        """`store`: gets the blobs. `now`: clock in seconds."""
        self._store = store
        self._now = now
        self._uploads: dict[str, _Upload] = {}

    async def add(self, artifact: str, block: str, content: bytes) -> None:
        """Append a block; one that is sent again is ignored. Raises AzureError, StoreError.

        artifact: its id. block: base64. content: of the block.
        """
        _check(block)
        await self._give_up_idle()
        upload = self._uploads.get(artifact)
        if upload is None:
            upload = self._uploads[artifact] = _Upload(self._store.new_blob(), self._now())
        async with upload.lock:
            upload.used = self._now()
            digest = hashlib.sha256(content).digest()
            if (known := upload.blocks.get(block)) is not None:
                if known != digest:
                    raise _invalid(f"block {block} was sent before with other content; start the upload again")
                return
            if len(upload.blocks) >= MAX_BLOCKS:
                raise _invalid(f"an upload has at most {MAX_BLOCKS} blocks")
            await asyncio.to_thread(upload.writer.write, content)
            upload.blocks[block] = digest

    async def finish(self, artifact: str, block_list: str) -> Blob:
        """The blob of all blocks. Raises AzureError if the list is not that of the blocks sent, in their order.

        artifact: its id. block_list: XML body.
        """
        listed = _LISTED.findall(block_list)
        upload = self._uploads.pop(artifact, None)
        if upload is None:
            raise _invalid("no blocks were sent for this artifact")
        async with upload.lock:
            try:
                if listed != list(upload.blocks):
                    raise _invalid("the list must name every block that was sent, in the order in which they were sent")
                return await asyncio.to_thread(upload.writer.finish)
            finally:
                await asyncio.to_thread(upload.writer.abort)

    async def close(self) -> None:
        """Give up every unfinished upload."""
        for artifact in [*self._uploads]:
            await self._give_up(artifact)

    async def _give_up_idle(self) -> None:
        now = self._now()
        idle = [artifact for artifact, upload in self._uploads.items() if upload.used + IDLE_S < now]
        if len(self._uploads) - len(idle) >= MAX_UPLOADS:
            idle.append(min(self._uploads, key=lambda artifact: self._uploads[artifact].used))
        for artifact in idle:
            await self._give_up(artifact)

    async def _give_up(self, artifact: str) -> None:
        if (upload := self._uploads.pop(artifact, None)) is not None:
            async with upload.lock:
                await asyncio.to_thread(upload.writer.abort)


def _check(block: str) -> None:
    try:
        base64.b64decode(block, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(f"blockid: must be base64 (got {block[:80]!r})") from None
    if not 1 <= len(block) <= 128:
        raise _invalid("blockid: must have 1 to 128 characters")


def _invalid(message: str) -> AzureError:
    return AzureError(400, "InvalidBlockList", message)
