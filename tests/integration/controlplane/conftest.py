import pytest

from tests.fakes.plane import Bench


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path / "state")
    await made.start()
    yield made
    await made.plane.stop()
