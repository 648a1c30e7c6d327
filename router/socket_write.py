"""Immediate write to a plain socket, ahead of the event loop."""

import asyncio
import os


def write_at_once(transport: asyncio.Transport, fd: int, data: bytes) -> bytes:
    """Write as much as the socket accepts now; return the rest, for the transport. `fd`: its socket, without TLS.

    For a peer that is idle until it gets these bytes, and for a caller that must know if they left: a transport may
    collect writes until the end of the iteration (uvloop up to 0.22), as `WriteBatch` does to save wake-ups.
    """
    if transport.is_closing() or transport.get_write_buffer_size():
        return data
    try:
        return data[os.write(fd, data) :]
    except OSError:
        return data  # full, or broken: the transport detects that
