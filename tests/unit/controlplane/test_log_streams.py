"""Followed logs: the tail, then every new line once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

from cluster.local.replica_logs import LogStore
from cluster.provider import Provider
from cluster.timed_line import TimedLine
from controlplane.log_streams import follow
from serving.endpoint import VersionKey
from tests.fakes.iterators import closed

KEY = VersionKey("iris", "blue")


class Writing:
    """Logs of a replica that writes a line whenever they are read."""

    def __init__(self, store: LogStore) -> None:
        self.store = store
        self.log = store.open(KEY, "r1")
        self.number = itertools.count()

    def write(self) -> None:
        self.log.write(b"%d\n" % next(self.number))

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[TimedLine]]:
        self.write()
        found = await self.store.tail(key, tail)
        self.write()
        return found

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        return self.store.follow(key)


async def test_no_line_is_lost_or_repeated_between_the_tail_and_what_follows(tmp_path: Path) -> None:
    ticks = itertools.count(1)
    provider = Writing(LogStore(tmp_path, lambda: next(ticks) / 1000))
    for _ in range(3):
        provider.write()
    lines = follow(cast(Provider, provider), [KEY], 10)
    heard = [await anext(lines) for _ in range(5)]  # three from before, one before the tail was read, one after
    provider.write()
    async with asyncio.timeout(10):
        heard.append(await anext(lines))
    assert [line.line for line in heard] == ["0", "1", "2", "3", "4", "5"]
    assert {(line.version, line.replica) for line in heard} == {("blue", "r1")}
    await closed(lines)
    provider.store.close(KEY, "r1")
