"""A real local provider, and a watcher of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.local.local_provider import LocalProvider
from tests.integration.cluster_local.local_rig import Watcher


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    one = LocalProvider(tmp_path / "state")
    await one.start()
    yield one
    await one.close()


@pytest.fixture
async def watcher(provider: LocalProvider) -> AsyncIterator[Watcher]:
    one = Watcher(provider)
    task = asyncio.create_task(one.run(), name="watcher")
    await one.until(lambda: one.history)
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
