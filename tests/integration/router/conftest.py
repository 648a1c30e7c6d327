from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.settings import Settings
from tests.integration.router.rig import Rig


@pytest.fixture
async def rigs() -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Routers with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(send_buffer: int | None = None, **changed: Any) -> Rig:
            rig = Rig(Settings(**changed), send_buffer)
            await rig.start()
            stack.push_async_callback(rig.stop)
            return rig

        yield start


@pytest.fixture
async def rig(rigs: Callable[..., Awaitable[Rig]]) -> Rig:
    """A router with the endpoint `iris`, whose version `blue` has no replica yet."""
    return await rigs()
