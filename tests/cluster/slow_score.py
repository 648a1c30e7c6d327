"""A model that takes its time, and no processor: 100 ms, or `work_ms` of the request. The server of examples/iris hosts
it.
"""

import json
import time

WORK_S = 0.1


def init() -> None:
    """There is nothing to load."""


def run(data: str) -> dict[str, int]:
    """As many bytes as came in."""
    time.sleep(json.loads(data or "{}").get("work_ms", 1000 * WORK_S) / 1000)
    return {"bytes": len(data)}
