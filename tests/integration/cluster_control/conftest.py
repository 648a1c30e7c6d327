from collections.abc import AsyncIterator

import pytest

from tests.fakes.cluster import Leadership


@pytest.fixture
async def leader() -> AsyncIterator[Leadership]:
    made = Leadership()
    await made.start()
    made.plane.reports.workers_expected(["w1"])
    yield made
    await made.stop()
