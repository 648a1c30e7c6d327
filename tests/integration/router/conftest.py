import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from router.proxy.request_observer import ObserverFactory
from router.settings import RouterSettings
from tests.integration.router.rig import Rig


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Workers run on uvloop. A module with ON_EVERY_LOOP shows that its tests hold on asyncio's loop, too."""
    module = item.getparent(pytest.Module)
    if module is not None and getattr(module.obj, "ON_EVERY_LOOP", False):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def rigs() -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Routers with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(
            send_buffer: int | None = None,
            host: str = "127.0.0.1",
            observers: ObserverFactory | None = None,
            **changed: Any,
        ) -> Rig:
            rig = Rig(RouterSettings(**changed), send_buffer, host, observers)
            await rig.start()
            stack.push_async_callback(rig.stop)
            return rig

        yield start


@pytest.fixture
async def rig(rigs: Callable[..., Awaitable[Rig]]) -> Rig:
    """A router with the endpoint `iris`; its version `blue` has no replica yet."""
    return await rigs()
