"""Transfer of blobs over HTTP with bounded memory: a few batches of each upload or download."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from aiohttp import web

from controlplane.control_errors import InvalidCall
from workspace.store.file_store import Blob, FileStore

BATCH_BYTES = 1024 * 1024
"""Bytes written or read by one call of the store."""


class ByteSource(Protocol):
    """The body of a request: `aiohttp.StreamReader`."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they arrive."""


async def receive_blob(
    store: FileStore, request: web.BaseRequest, expected_sha256: str | None = None, expected_bytes: int | None = None
) -> Blob:
    """Store the body of a request.

    store: of the blob.
    request: its body is read to the end.
    expected_sha256: announced digest; None: any.
    expected_bytes: announced size; None: that of Content-Length, if there is one.
    Raises InvalidUpload, UploadTooLarge, StoreFull, StoreError; ConnectionError if the client disconnects. Then nothing
    is stored.
    """
    length = request.content_length
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidCall("Content-Encoding: must be absent; a blob is stored as it is")
    if length is not None:
        await asyncio.to_thread(store.check_room, length)
    writer = await asyncio.to_thread(store.new_blob)
    try:
        async for batch in _batches(request.content):
            await asyncio.to_thread(writer.write, batch)
        return await asyncio.to_thread(
            writer.finish, expected_sha256, length if expected_bytes is None else expected_bytes
        )
    except web.RequestPayloadError as error:
        raise ConnectionResetError("the body ended early") from error
    finally:
        writer.abort()


async def send_blob(
    store: FileStore, request: web.BaseRequest, blob: Blob, headers: Mapping[str, str] = {}
) -> web.StreamResponse:
    """Answer with a blob.

    store: of the blob.
    request: of the client.
    blob: stored content.
    headers: further fields; default: none.
    Raises NoSuchBlob, StoreError.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "ETag": f'"{blob.sha256}"'})
    response.headers.update(headers)
    response.content_length = blob.size_bytes
    file = await asyncio.to_thread(store.open_blob, blob.sha256)
    with contextlib.closing(file):
        await response.prepare(request)
        if request.method != "HEAD":
            while batch := await asyncio.to_thread(file.read, BATCH_BYTES):
                await response.write(batch)
    return response


async def _batches(source: ByteSource) -> AsyncIterator[bytes]:
    """The pieces, joined to about `BATCH_BYTES`."""
    waiting: list[bytes] = []
    size = 0
    async for piece in source.iter_any():
        waiting.append(piece)
        size += len(piece)
        if size >= BATCH_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
