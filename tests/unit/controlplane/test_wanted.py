import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from controlplane.control_errors import StoreError
from controlplane.desired_counts import WRITE_EVERY_S, DesiredCounts
from serving.endpoint import VersionKey
from tests.fakes.clock import VirtualClock, eventually

BLUE = VersionKey("iris", "blue")


class Disk:
    def __init__(self) -> None:
        self.writes: list[dict[VersionKey, int]] = []
        self.full = False

    async def write(self, numbers: Mapping[VersionKey, int]) -> None:
        if self.full:
            raise StoreError("cannot write wanted.json: No space left on device")
        self.writes.append(dict(numbers))


@pytest.fixture
async def kept() -> AsyncIterator[tuple[DesiredCounts, Disk, VirtualClock]]:
    disk, clock = Disk(), VirtualClock()
    wanted = DesiredCounts(disk.write, clock)
    task = asyncio.create_task(wanted.run(), name="write wanted numbers")
    yield wanted, disk, clock
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_burst_of_changes_is_one_write_a_second(kept: tuple[DesiredCounts, Disk, VirtualClock]) -> None:
    wanted, disk, clock = kept
    wanted.set(BLUE, 1)
    await eventually(lambda: len(disk.writes) == 1)
    for number in range(2, 9):
        wanted.set(BLUE, number)
        await clock.advance(0.1)
    assert len(disk.writes) == 1
    await clock.advance(WRITE_EVERY_S)
    await eventually(lambda: len(disk.writes) == 2)
    assert disk.writes[-1] == {BLUE: 8}


async def test_a_number_that_does_not_change_is_not_written(kept: tuple[DesiredCounts, Disk, VirtualClock]) -> None:
    wanted, disk, clock = kept
    wanted.load({BLUE: 3})
    wanted.set(BLUE, 3)
    wanted.forget(VersionKey("iris", "never"))
    await clock.advance(5)
    await wanted.flush()
    assert disk.writes == []


async def test_a_full_disk_stops_no_scaling_and_is_tried_again(
    kept: tuple[DesiredCounts, Disk, VirtualClock], caplog: pytest.LogCaptureFixture
) -> None:
    wanted, disk, clock = kept
    disk.full = True
    wanted.set(BLUE, 5)
    await eventually(lambda: "not stored yet" in caplog.text)
    assert wanted.get(BLUE) == 5
    disk.full = False
    await clock.advance(WRITE_EVERY_S)
    await eventually(lambda: disk.writes == [{BLUE: 5}])


async def test_flush_writes_pending_numbers_now() -> None:
    disk = Disk()
    wanted = DesiredCounts(disk.write, VirtualClock())
    wanted.set(BLUE, 2)
    wanted.forget(BLUE)
    await wanted.flush()
    await wanted.flush()
    assert disk.writes == [{}]
