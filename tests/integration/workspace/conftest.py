"""A deployment service with fakes around it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.deployments import DeploymentBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DeploymentBench]:
    one = await DeploymentBench(tmp_path / "state").start()
    yield one
    await one.stop()
