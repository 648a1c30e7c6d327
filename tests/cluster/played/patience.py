"""Waiting for events of a cluster."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from tests.cluster.played.kube import ApiFailure

LOOK_S = 0.05


async def until(happened: Callable[[], Awaitable[bool]], what: str, within_s: float = 60.0) -> float:
    """Seconds until the condition holds; an unreachable API server is asked again. Raises TimeoutError with `what`."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(ApiFailure):
            if await happened():
                return time.monotonic() - began
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"{what}: not after {within_s:g} s")
        await asyncio.sleep(LOOK_S)


async def until_so(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> float:
    """The same for a condition without requests. Raises TimeoutError."""

    async def happened() -> bool:
        return holds()

    return await until(happened, what, within_s)
