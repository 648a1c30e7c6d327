"""The loop that scales the front end, in virtual time: times of its decisions, and their execution."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from autoscaler.frontend_policy import FrontEndDecision
from autoscaler.frontend_settings import ClusterPurpose, FrontEndLoad, FrontEndSettings, RouterLoad, Size, WorkerLoad
from autoscaler.scaling_loop import FrontEndLoop
from tests.unit.autoscaler.conftest import VirtualClock

FAST, SLOW = WorkerLoad(0.0001, 0.1), WorkerLoad(0.008, 1.0)
SETTINGS = FrontEndSettings(min_routers=1, max_routers=2)


class Routers:
    """Fits `FrontEndSource` and `FrontEnd`: has the size that it was last given, after a while."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.size = Size(1, 1)
        self.enough = 1
        """Workers in all that are fast; fewer are slow."""
        self.cores = 2
        self.start_s = 1.0
        self.looks: list[float] = []
        self.asked: list[tuple[float, str, int]] = []
        self.refusing: set[str] = set()
        self.blind = False
        self.cancelled = 0

    async def observe(self, period_s: float) -> FrontEndLoad:
        self.looks.append(self.clock.now() - 1000.0)
        await asyncio.sleep(0)
        if self.blind:
            raise RuntimeError("nothing to see")
        each = FAST if self.size.workers_in_all >= self.enough else SLOW
        router = RouterLoad(self.size.workers, (each,) * self.size.workers)
        return FrontEndLoad((router,) * self.size.routers, self.cores, room=True)

    async def resize(self, workers: int) -> None:
        await self._take("resize", workers)
        self.size = Size(workers, self.size.routers)

    async def scale_out(self, routers: int) -> None:
        await self._take("scale_out", routers)
        self.size = Size(self.size.workers, routers)

    async def _take(self, what: str, number: int) -> None:
        self.asked.append((self.clock.now() - 1000.0, what, number))
        if what in self.refusing:
            raise RuntimeError("no room")
        try:
            await self.clock.sleep(self.start_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def calls(self) -> list[tuple[str, int]]:
        return [(what, number) for _, what, number in self.asked]


@pytest.fixture
def routers(clock: VirtualClock) -> Routers:
    return Routers(clock)


@pytest.fixture
def records() -> list[FrontEndDecision]:
    return []


@pytest.fixture
async def start(
    clock: VirtualClock, routers: Routers, records: list[FrontEndDecision]
) -> AsyncIterator[Callable[..., FrontEndLoop]]:
    tasks: list[asyncio.Task[None]] = []

    def begin(settings: FrontEndSettings = SETTINGS) -> FrontEndLoop:
        loop = FrontEndLoop(routers, routers, clock, settings, routers.size, records.append)
        tasks.append(asyncio.create_task(loop.run(), name="scale the front end"))
        return loop

    yield begin
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_it_decides_once_a_period_and_leaves_a_right_size_alone(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers
) -> None:
    start()
    await clock.advance(10.0)
    assert routers.looks == [step / 2 for step in range(21)]
    assert routers.asked == []


async def test_a_step_of_load_has_a_second_worker_within_3_s_and_its_end_has_one_again(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers, records: list[FrontEndDecision]
) -> None:
    loop = start()
    await clock.advance(5.2)
    routers.enough = 2
    await clock.advance(3.0)
    assert routers.size == loop.desired == Size(2, 1)
    routers.enough = 1
    await clock.advance(65.0)
    assert routers.size == Size(1, 1)
    assert routers.calls() == [("resize", 2), ("resize", 1)]
    changes = [(record.previous, record.desired) for record in records if record.previous != record.desired]
    assert changes == [(Size(1, 1), Size(2, 1)), (Size(2, 1), Size(1, 1))]


async def test_up_then_out_one_step_after_the_other(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers
) -> None:
    start()
    routers.enough = 9
    await clock.advance(30.0)
    assert routers.calls() == [("resize", 2), ("scale_out", 2)]


async def test_the_front_end_of_a_dev_test_cluster_is_left_alone(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers, records: list[FrontEndDecision]
) -> None:
    start(FrontEndSettings(ClusterPurpose.DEV_TEST))
    routers.enough = 9
    await clock.advance(30.0)
    assert routers.asked == []
    assert len(records) == 1  # one that says why nothing ever happens


async def test_a_refused_step_is_repeated_and_logged_once(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    routers.enough = 9
    routers.refusing.add("resize")
    with caplog.at_level(logging.WARNING, logger="scorefront.autoscaler"):
        await clock.advance(3.0)
    assert routers.calls() == [("resize", 2)] * 6
    assert caplog.text.count("no room") == 1
    routers.refusing.clear()
    await clock.advance(2.0)
    assert routers.size.workers == 2


async def test_a_refused_step_that_is_no_longer_wanted_is_taken_back(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers
) -> None:
    start()
    routers.enough = 9
    routers.refusing.add("resize")
    await clock.advance(1.0)
    routers.enough = 1
    await clock.advance(130.0)
    assert routers.calls()[-1] == ("resize", 1)


async def test_workers_that_are_refused_do_not_keep_routers_from_coming(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers
) -> None:
    start()
    routers.enough = 9
    routers.refusing.add("resize")
    await clock.advance(70.0)
    assert ("scale_out", 2) in routers.calls()


async def test_a_failed_observation_changes_nothing_and_is_repeated(
    start: Callable[..., FrontEndLoop], clock: VirtualClock, routers: Routers, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    routers.enough, routers.blind = 9, True
    with caplog.at_level(logging.WARNING, logger="scorefront.autoscaler"):
        await clock.advance(10.0)
    assert routers.asked == []
    assert caplog.text.count("nothing to see") == 1
    routers.blind = False
    await clock.advance(2.0)
    assert routers.size.workers == 2


async def test_it_can_be_stopped_in_the_middle_of_a_step(clock: VirtualClock, routers: Routers) -> None:
    loop = FrontEndLoop(routers, routers, clock, SETTINGS, routers.size, lambda _: None)
    routers.enough, routers.start_s = 9, 20.0
    task = asyncio.create_task(loop.run(), name="scale the front end")
    await clock.advance(2.0)
    assert routers.calls() == [("resize", 2)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert routers.cancelled == 1
