"""The replica of the load tests, run by its path: `python replica.py --port N [--work-ms MS] [--slots N] …`

    /score          answers 200 after the work: --work-ms, or "work_ms" of the body; 500 if more than --slots run
    /reset          reads the request, then resets the connection
    /short, /cut    breaks off in the middle of a body with a length, of a chunked body
    /large          answers with 1 GB, as fast as it is read
    /held           answers with 5 MB
    /slow           reads a body at 1 MB/s
    SIGUSR1         refuses connections from now on, and closes those it has
    SIGUSR2         a black hole from now on: connections are neither taken nor refused; open ones are reset

--witness FILE: a line (start, end, pid, id, running) for each request that has ended, the only judge of whether slots
were exact. The id is "n" of the body, or the request id of the router. --begun: FILE.begun has a line (id, pid) for
each that began, and FILE none for a request that the router gave up. --idle-ms: an idle connection is closed after a
random time between a tenth of it and the whole. --start-ms: before it listens.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import random
import re
import signal
import socket
import struct
import termios
import time
from typing import TextIO

LARGE_BYTES = 1_000_000_000
HELD_BYTES = 5_000_000
SLOW_BYTES_PER_S = 1_000_000
FAULTS = (b"/reset", b"/short", b"/cut", b"/large")
OVERLAP_STATUS = 500
_length = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_request_id = re.compile(rb"(?i)\r\nx-ms-request-id: *([^\r]+)")
_number = re.compile(rb'"n": *(\d+)')


class _Patient(asyncio.StreamReaderProtocol):
    """Closes a connection that is idle for too long; not once a byte of a request is there."""

    _timer: asyncio.TimerHandle | None = None

    def wait(self, idle_s: float, writer: asyncio.StreamWriter) -> None:
        self._timer = asyncio.get_running_loop().call_later(idle_s, _close_idle, writer)

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().data_received(data)


class Replica:
    """Counts the requests that run at the same time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._address = (options.host, options.port)
        self._work_s = options.work_ms / 1000
        self._idle_s = options.idle_ms / 1000
        self._slots = options.slots
        self._keeps_begun = options.begun
        self._running = 0
        self._ended = _append(options.witness)
        self._begun = _append(f"{options.witness}.begun" if options.begun and options.witness else "")
        self._writers: set[asyncio.StreamWriter] = set()
        self._hole: list[socket.socket] = []

    async def run(self) -> None:
        """Listen until killed."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Patient(asyncio.StreamReader(1 << 20), self._serve), *self._address, backlog=1024
        )
        loop.add_signal_handler(signal.SIGUSR1, self._refuse)
        loop.add_signal_handler(signal.SIGUSR2, self._swallow)
        await asyncio.Event().wait()

    def _refuse(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()

    def _swallow(self) -> None:
        """A listener whose backlog is full drops what comes: that is a black hole without a firewall."""
        self._server.close()
        for writer in list(self._writers):
            _reset(writer)
        asyncio.get_running_loop().call_later(0.05, self._open_hole)

    def _open_hole(self) -> None:
        listener = socket.create_server(self._address, backlog=0)
        self._hole.append(listener)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(self._address)
            self._hole.append(filler)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                if self._idle_s:
                    protocol = writer.transport.get_protocol()
                    assert isinstance(protocol, _Patient)
                    protocol.wait(random.uniform(0.1, 1) * self._idle_s, writer)
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ", 2)[1]
        length = _length.search(head)
        left = int(length[1]) if length else 0
        if path == b"/slow":
            await _read_slowly(reader, left)
            left = 0
        body = await reader.readexactly(left)
        if path == b"/held":
            writer.write(_answered(200, bytes(HELD_BYTES)))
            await writer.drain()
            return
        if not path.startswith((b"/score", *FAULTS)):
            writer.write(_answered(200, b"{}"))
            return
        found = _number.search(body) or _request_id.search(head)
        request = found[1].decode() if found else "-"
        _note(self._begun, f"{request} {os.getpid()}\n")
        if path == b"/large":
            await _write_much(writer)
        elif path.startswith(b"/score"):
            await self._score(request, body, reader, writer)
        else:
            await _break_off(path, writer)

    async def _score(
        self, request: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work_s = json.loads(body)["work_ms"] / 1000 if b"work_ms" in body else self._work_s
        self._running += 1
        running, began = self._running, time.monotonic()
        if work_s:
            await asyncio.sleep(work_s)
        self._running -= 1
        if self._keeps_begun and (writer.transport.is_closing() or reader.at_eof()):
            return  # given up by the router: its slot is free since then
        _note(self._ended, f"{began:.6f} {time.monotonic():.6f} {os.getpid()} {request} {running}\n")
        status = OVERLAP_STATUS if 0 < self._slots < running else 200
        told = {"pid": os.getpid(), "running": running, "id": request}
        writer.write(_answered(status, json.dumps(told).encode()))


def _append(path: str) -> TextIO | None:
    return open(path, "a", buffering=1) if path else None


def _note(file: TextIO | None, line: str) -> None:
    if file is not None:
        with contextlib.suppress(OSError):  # the disk may be full on purpose
            file.write(line)


def _answered(status: int, body: bytes) -> bytes:
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _close_idle(writer: asyncio.StreamWriter) -> None:
    """As a good server does: not while a request is there, and then at once, not in the next turn of the loop."""
    sock = writer.get_extra_info("socket")
    if not struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))[0]:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _break_off(path: bytes, writer: asyncio.StreamWriter) -> None:
    if path == b"/reset":
        _reset(writer)
    elif path == b"/short":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n")
    raise ConnectionAbortedError


async def _write_much(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
    piece = bytes(1 << 16)
    for _ in range(LARGE_BYTES // len(piece)):
        writer.write(piece)
        await writer.drain()
    writer.write(bytes(LARGE_BYTES % len(piece)))


async def _read_slowly(reader: asyncio.StreamReader, left: int) -> None:
    while left:
        data = await reader.readexactly(min(left, SLOW_BYTES_PER_S // 20))
        left -= len(data)
        await asyncio.sleep(0.05)


async def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work-ms", type=float, default=100.0)
    parser.add_argument("--slots", type=int, default=1, help="0: any number")
    parser.add_argument("--start-ms", type=float, default=0.0)
    parser.add_argument("--idle-ms", type=float, default=0.0, help="0: idle connections stay")
    parser.add_argument("--witness", default="")
    parser.add_argument("--begun", action="store_true")
    options = parser.parse_args()
    await asyncio.sleep(options.start_ms / 1000)
    await Replica(options).run()


if __name__ == "__main__":
    asyncio.run(main())
