"""Whole small messages of one iteration of the event loop, written together at its end.

A write wakes its receiver. Sent one by one between the requests of a busy iteration, the writes alternate with the work
of this process, and a receiver that has gone to sleep in between is woken for each: 10 µs of CPU per request. Event
loops differ (uvloop collected writes up to 0.22 and sends them immediately since), so the batch is our own.

Only whole messages: the parts of a stream or of a tunnel go to the transport, whose buffer is their back-pressure.
"""

import asyncio
from typing import Protocol

LARGEST_BYTES = 16_384
"""Largest message that is held back."""


class BatchedWriter(Protocol):
    """A connection with a message in the batch. It must flush before any other use of its transport."""

    def flush_batched(self) -> None:
        """Pass the message to the transport; no effect if there is none."""


class WriteBatch:
    """Connections with a message for the end of the iteration, in order."""

    __slots__ = ("_writers", "limit_bytes")

    def __init__(self, buffer_bytes: int) -> None:
        """`buffer_bytes`: high-water mark of the transports: no message exceeds it, so no flush pauses a writer."""
        self.limit_bytes = min(LARGEST_BYTES, buffer_bytes)
        self._writers: list[BatchedWriter] = []

    def add(self, writer: BatchedWriter) -> None:
        """Flush the connection at the end of the iteration."""
        writers = self._writers
        writers.append(writer)
        if len(writers) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.flush_batched()
