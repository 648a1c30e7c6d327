"""Merged log stream of the replicas of several versions."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from cluster.provider import Provider
from cluster.timed_line import TimedLine, merged
from serving.endpoint import VersionKey

MAX_PENDING_LINES = 1000
"""Most lines buffered for a slow client; then reading pauses."""


class LogLine(NamedTuple):
    """One log line of one replica."""

    version: str
    replica: str
    line: str


Tails = dict[tuple[str, str], list[TimedLine]]
"""(version, replica) -> its last lines."""


async def tails(provider: Provider, keys: Sequence[VersionKey], count: int) -> Tails:
    """The last `count` lines of every replica of these versions."""
    found: Tails = {}
    for key in keys:
        for replica, lines in (await provider.logs(key, count)).items():
            found[key.version, replica] = lines
    return found


def in_order(lines: Tails) -> list[LogLine]:
    """All lines by time."""
    return [LogLine(*source, text) for source, text in merged(list(lines.items()))]


async def follow(provider: Provider, keys: Sequence[VersionKey], count: int) -> AsyncGenerator[LogLine, None]:
    """The last `count` lines of every replica of these versions, then new ones, without end. Close it to stop."""
    new: asyncio.Queue[tuple[tuple[str, str], TimedLine]] = asyncio.Queue(MAX_PENDING_LINES)

    async def pump(key: VersionKey) -> None:
        async for replica, line in provider.follow_logs(key):
            await new.put(((key.version, replica), line))

    pumps = [asyncio.create_task(pump(key), name=f"follow the log of {key}") for key in keys]
    try:
        await asyncio.sleep(0)  # the pumps listen before the tail is read: no line is lost, but some come twice
        past = await tails(provider, keys, count)
        for entry in in_order(past):
            yield entry
        latest_s = {source: lines[-1].at_s for source, lines in past.items() if lines}
        while True:
            source, line = await new.get()
            if line.at_s <= latest_s.get(source, -math.inf):
                continue
            latest_s.pop(source, None)  # from here on each line is new, even after a step back of the clock
            yield LogLine(*source, line.text)
    finally:
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
