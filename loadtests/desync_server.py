"""Replicas that read request bodies wrongly, late or not at all: `python desync_server.py KIND PORT`. Only the library.

Each answer is `<id of the head> <id of the body that was read>`; a replica that reads no body says `-`.

http10: HTTP/1.0, knows Content-Length only. ignores-chunked: the same over kept HTTP/1.1 connections, so that the
chunks are its next request. reads-late: reads the body after a while. closes-early: answers without reading, and
closes. answers-early: answers, reads the body then, and goes on.
"""

import asyncio
import contextlib
import sys

KINDS = ("http10", "ignores-chunked", "reads-late", "closes-early", "answers-early")
LATE_S = 0.002
ID_FIELD = "x-desync-id"
LIMIT_BYTES = 1 << 20


async def serve(kind: str, port: int, host: str = "127.0.0.1") -> asyncio.Server:
    """Start a server of this kind."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            while await _answered(kind, reader, writer):
                pass
        writer.close()

    return await asyncio.start_server(connected, host, port, limit=LIMIT_BYTES, backlog=1000)


async def _answered(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Serve one request; True if the connection goes on."""
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if not line.endswith(("HTTP/1.1", "HTTP/1.0")):
        await _send(writer, "400 Bad Request", "1.1", "- -", closes=True)
        return False
    fields = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    head_id = fields.get(ID_FIELD, "-")
    if kind == "closes-early":
        await _send(writer, "200 OK", "1.1", f"{head_id} -", closes=True)
        return False
    if kind == "answers-early":
        await _send(writer, "200 OK", "1.1", f"{head_id} -", closes=False)
        await _body(reader, fields, chunks=True)
        return True
    if kind == "reads-late":
        await asyncio.sleep(LATE_S)
    body = await _body(reader, fields, chunks=kind == "reads-late")
    body_id = body.split(b" ", 1)[0].decode("latin-1") or "-"
    old = kind == "http10"
    await _send(writer, "200 OK", "1.0" if old else "1.1", f"{head_id} {body_id}", closes=old)
    return not old


async def _body(reader: asyncio.StreamReader, fields: dict[str, str], chunks: bool) -> bytes:
    if chunks and "transfer-encoding" in fields:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    return await reader.readexactly(int(fields.get("content-length", 0)))


async def _send(writer: asyncio.StreamWriter, status: str, version: str, text: str, closes: bool) -> None:
    close = "Connection: close\r\n" if closes else ""
    writer.write(f"HTTP/{version} {status}\r\n{close}Content-Length: {len(text)}\r\n\r\n{text}".encode())
    await writer.drain()


async def _main(kind: str, port: int) -> None:
    async with await serve(kind, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
