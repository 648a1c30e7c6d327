"""One timer per version for waiting requests and one for running ones, never two, and right after a change."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.accesslog import AccessLog, AccessLogMode
from router.core.dispatcher import Dispatcher, Ticket, VersionQueue
from router.core.ids import RequestIds
from router.core.ledger import Lease
from router.core.router_errors import Overloaded, RouterError
from router.proxy.exchange import Exchange
from router.proxy.gateway import Gateway
from router.settings import RouterSettings
from serving.endpoint import VersionKey
from tests.unit.router.records import replica, version


class Request(Exchange):
    """A request without client and replica: it is refused, or runs until it is stopped."""

    def __init__(self, gateway: Gateway) -> None:
        Ticket.__init__(self)
        self._gateway = gateway
        self.ended = asyncio.get_running_loop().create_future()

    __slots__ = ("ended",)

    def ask(self, queue: VersionQueue, later_s: float = 0.0) -> "Request":
        """`later_s`: the request comes as long after now."""
        now = self._gateway.now() + later_s
        lease = queue.enqueue(self, now)
        if lease is None:
            self._gateway.deadlines.watch_waiting(queue)
        else:
            self.granted(lease, now)
        return self

    def granted(self, lease: Lease, now: float) -> None:
        assert self.queue is not None
        self._gateway.watch_running(self.queue)

    def refuse(self, error: RouterError) -> None:
        self.ended.set_result(error)

    def timed_out(self) -> None:
        lease, queue = self.lease, self.queue
        assert lease is not None and queue is not None
        self.lease = None
        self.ended.set_result("timed out")
        self._gateway.effects.carry_out(queue.release(lease, self._gateway.now()))


@pytest.fixture
async def faults() -> AsyncIterator[list[dict[str, Any]]]:
    """Exceptions in callbacks, as reported to the loop."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    yield told
    assert told == []


@pytest.fixture
async def gateway(faults: list[dict[str, Any]]) -> AsyncIterator[Gateway]:
    loop = asyncio.get_running_loop()
    gateway = Gateway(
        RouterSettings(),
        Dispatcher(),
        AccessLog(AccessLogMode.OFF, -1),
        RequestIds(bytes(16)),
        loop.time,
        lambda: 0.0,
        lambda: 0.0,
    )
    yield gateway
    await gateway.close()


def configure(gateway: Gateway, queue_wait_s: float, scoring_timeout_s: float) -> VersionQueue:
    declared = dataclasses.replace(version(), queue_wait_s=queue_wait_s, scoring_timeout_s=scoring_timeout_s)
    gateway.deadlines.configure("iris", declared)
    return gateway.dispatcher.queue(VersionKey("iris", "blue"))


async def test_one_that_runs_too_long_makes_way_for_the_next_each_with_its_own_time(gateway: Gateway) -> None:
    queue = configure(gateway, queue_wait_s=10, scoring_timeout_s=0.02)
    gateway.dispatcher.upsert(replica("a"), gateway.now())
    requests = [Request(gateway).ask(queue) for _ in range(4)]
    async with asyncio.timeout(5):
        assert [await request.ended for request in requests] == ["timed out"] * 4
    await asyncio.sleep(0.03)  # a timer that was armed twice would fire once more
    assert queue.ledger.busy == queue.waiting == 0 and gateway.stats.counters["scoring_timeouts"] == 4


async def test_the_scoring_timeout_is_armed_again_for_each_running_request(gateway: Gateway) -> None:
    queue = configure(gateway, queue_wait_s=10, scoring_timeout_s=0.02)
    gateway.dispatcher.upsert(replica("a", slots=3), gateway.now())
    requests = [Request(gateway).ask(queue, later_s=0.01 * number) for number in range(3)]
    async with asyncio.timeout(5):
        assert [await request.ended for request in requests] == ["timed out"] * 3
    assert queue.ledger.busy == 0


async def test_the_wait_timer_is_armed_again_for_each_waiting_request(gateway: Gateway) -> None:
    queue = configure(gateway, queue_wait_s=0.02, scoring_timeout_s=10)
    gateway.dispatcher.upsert(replica("a"), gateway.now())
    Request(gateway).ask(queue)
    requests = [Request(gateway).ask(queue, later_s=0.01 * number) for number in range(3)]
    async with asyncio.timeout(5):
        assert [type(await request.ended) for request in requests] == [Overloaded] * 3
    assert queue.waiting == 0


async def test_one_that_asks_again_while_waits_end_is_waited_for_by_one_timer(gateway: Gateway) -> None:
    queue = configure(gateway, queue_wait_s=0.02, scoring_timeout_s=10)
    gateway.dispatcher.upsert(replica("a"), gateway.now())
    Request(gateway).ask(queue)
    again: list[Request] = []

    class Persistent(Request):
        def refuse(self, error: RouterError) -> None:
            super().refuse(error)
            again.append(Request(self._gateway).ask(queue))

    first = [Persistent(gateway).ask(queue) for _ in range(2)]
    async with asyncio.timeout(5):
        for request in first:
            assert isinstance(await request.ended, Overloaded)
        for request in again:
            assert isinstance(await request.ended, Overloaded)
    await asyncio.sleep(0.03)
    assert len(again) == 2 and queue.waiting == 0


async def test_a_shorter_wait_and_timeout_hold_at_once(gateway: Gateway) -> None:
    queue = configure(gateway, queue_wait_s=100, scoring_timeout_s=100)
    gateway.dispatcher.upsert(replica("a"), gateway.now())
    runs, waits = Request(gateway).ask(queue), Request(gateway).ask(queue)
    configure(gateway, queue_wait_s=0.01, scoring_timeout_s=0.1)
    async with asyncio.timeout(5):
        assert isinstance(await waits.ended, Overloaded)
        assert await runs.ended == "timed out"
