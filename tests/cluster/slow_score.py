"""A model that takes its time, and no processor: 100 ms a request. The server of examples/iris hosts it."""

import time

WORK_S = 0.1


def init() -> None:
    """There is nothing to load."""


def run(data: str) -> dict[str, int]:
    """As many bytes as came in."""
    time.sleep(WORK_S)
    return {"bytes": len(data)}
