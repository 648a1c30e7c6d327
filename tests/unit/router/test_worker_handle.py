"""The supervisor's side of a worker process."""

import asyncio
from typing import Any, cast

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
