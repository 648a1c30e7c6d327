from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.plane import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Any]:
    made = Bench(tmp_path / "state")
    await made.start()
    yield made
    await made.plane.stop()
