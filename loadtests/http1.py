"""HTTP/1.1 as the clients of the load tests speak it: one request, one answer with a length, nothing sent again."""

import asyncio
import re
import socket
from dataclasses import dataclass

GREETING = b"GET /healthz HTTP/1.1\r\nHost: front\r\n\r\n"
"""A request that costs no slot: once it is answered, a worker has accepted the connection."""
READ_BYTES = 65_536

_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_close = re.compile(rb"\r\nconnection:[ \t]*close\r\n", re.IGNORECASE)
_retry_after = re.compile(rb"\r\nretry-after:[ \t]*[0-9]+\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, as far as clients care."""

    status: int
    closes: bool
    retry_after: bool


def post(path: str, key: str, body: bytes = b"{}") -> bytes:
    """A POST with a key."""
    return head(path, key, len(body)) + body


def head(path: str, key: str, length: int) -> bytes:
    """The head of a POST with a body of this length."""
    lines = (f"POST {path} HTTP/1.1", "Host: front", f"Authorization: Bearer {key}", f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    """Send a request and read its answer. Raises OSError, IncompleteReadError."""
    writer.write(request)
    data = await reader.readuntil(b"\r\n\r\n")
    length = _length.search(data)
    await reader.readexactly(int(length[1]) if length else 0)
    return Answer(int(data[9:12]), _close.search(data) is not None, _retry_after.search(data) is not None)


def answer_size(data: bytes) -> int | None:
    """Bytes of the answer that `data` begins with, once its head is whole. Raises ValueError without a length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = _length.search(data, 0, end + 2)
    if found is None:
        raise ValueError(f"an answer without Content-Length: {data[: end + 4]!r}")
    return end + 4 + int(found[1])


def exchange_blocking(sock: socket.socket, request: bytes = GREETING) -> None:
    """Send a request. Raises ConnectionError unless it is answered 200."""
    sock.sendall(request)
    read_answer(sock)


def read_answer(sock: socket.socket) -> None:
    """Read the answer to a request. Raises ConnectionError unless it is a 200."""
    data = b""
    while (size := answer_size(data)) is None or len(data) < size:
        piece = sock.recv(READ_BYTES)
        if not piece:
            raise ConnectionError("closed before its answer")
        data += piece
    if not data.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"answered {data[:200]!r}")
