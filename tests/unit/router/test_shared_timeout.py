"""One timer ends the tasks that take longer than the limit, and no other."""

import asyncio
from collections.abc import Awaitable, Callable

from router.proxy.shared_timeout import SharedTimeout

LONG_S = 20.0


async def outcome(timeout: SharedTimeout, work: Callable[[], Awaitable[object]]) -> str:
    timeout.begin()
    try:
        await work()
    except asyncio.CancelledError:
        return "late" if timeout.end() else "cancelled"
    return "late" if timeout.end() else "done"


async def test_a_task_that_takes_too_long_is_cancelled_and_knows_why() -> None:
    timeout = SharedTimeout(0.01)
    never = asyncio.get_running_loop().create_future
    async with asyncio.timeout(LONG_S):
        ends = await asyncio.gather(*(asyncio.create_task(outcome(timeout, never)) for _ in range(3)))
    assert ends == ["late"] * 3


async def test_each_task_has_the_whole_limit() -> None:
    timeout, loop = SharedTimeout(0.05), asyncio.get_running_loop()
    began = loop.time()
    first = asyncio.create_task(outcome(timeout, loop.create_future))
    await asyncio.sleep(0.02)
    later_at = loop.time()
    async with asyncio.timeout(LONG_S):
        assert await asyncio.create_task(outcome(timeout, loop.create_future)) == "late"
        assert loop.time() - later_at >= 0.05
        assert await first == "late" and loop.time() - began >= 0.05


async def test_a_task_within_the_limit_is_left_alone() -> None:
    timeout = SharedTimeout(LONG_S)
    assert await outcome(timeout, lambda: asyncio.sleep(0)) == "done"


async def test_a_task_cancelled_by_another_is_not_late() -> None:
    timeout = SharedTimeout(LONG_S)
    task = asyncio.create_task(outcome(timeout, asyncio.get_running_loop().create_future))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cancelled"
