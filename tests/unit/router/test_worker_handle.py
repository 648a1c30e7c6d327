"""The supervisor's side of a worker process."""

import asyncio
from typing import Any, cast

from cluster.link import Collect, Histogram, Metrics, MetricsPart, VersionMetrics, WorkerMetrics
from router.supervisor.worker_handle import WorkerHandle


class EndedLink:
    """The link of a worker that has died; uvloop raises for a message."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise RuntimeError("the handler is closed")


def test_a_message_to_a_worker_that_has_just_died_is_dropped() -> None:
    link = cast(asyncio.StreamWriter, EndedLink())
    anything = cast(Any, None)
    WorkerHandle("w1", "", anything, anything, anything, link).send_frame(b"view")


class OpenLink:
    """A link that takes every message."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass


def counted(*names: str) -> tuple[VersionMetrics, ...]:
    none = Histogram((), (0,), 0.0)
    return tuple(VersionMetrics("iris", name, {}, none, none, none) for name in names)


async def test_the_parts_of_a_scrape_are_joined_and_those_of_another_are_dropped() -> None:
    anything = cast(Any, None)
    handle = WorkerHandle("w1", "", anything, anything, anything, cast(asyncio.StreamWriter, OpenLink()))
    asking = asyncio.ensure_future(handle.ask(Collect))
    await asyncio.sleep(0)
    handle.answered(MetricsPart(1, counted("a", "b")))
    handle.answered(MetricsPart(2, counted("z")))
    handle.answered(MetricsPart(1, counted("c")))
    assert not asking.done()
    handle.answered(Metrics(1, WorkerMetrics("w1", counted("d"), 5, 0, 0.0, {})))
    answer = await asking
    assert isinstance(answer, Metrics) and answer.metrics.connections == 5
    assert [each.version for each in answer.metrics.versions] == ["a", "b", "c", "d"]
    handle.answered(MetricsPart(1, counted("late")))
