"""Merged log stream of the replicas of several versions."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from cluster.provider import Provider
from serving.endpoint import VersionKey

MAX_PENDING_LINES = 1000
"""Most lines buffered for a slow client; then reading pauses."""


class LogLine(NamedTuple):
    """One log line of one replica."""

    version: str
    replica: str
    line: str


async def follow(provider: Provider, keys: Sequence[VersionKey]) -> AsyncGenerator[LogLine, None]:
    """New log lines of these versions, without end. Close the iterator to stop."""
    lines: asyncio.Queue[LogLine] = asyncio.Queue(MAX_PENDING_LINES)

    async def pump(key: VersionKey) -> None:
        async for replica, line in provider.follow_logs(key):
            await lines.put(LogLine(key.version, replica, line))

    pumps = [asyncio.create_task(pump(key), name=f"follow the log of {key}") for key in keys]
    try:
        while True:
            yield await lines.get()
    finally:
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
