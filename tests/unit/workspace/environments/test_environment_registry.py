"""The registry of environments."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from serving.faults import InvalidManifest
from workspace.environments.registry import EnvironmentRegistry, NoSuchEnvironment
from workspace.store.file_store import FileStore


def definition(*packages: str, **keys: Any) -> dict[str, Any]:
    return {"python": {"condaDependencies": {"dependencies": [*packages]}}, **keys}


@pytest.fixture
def registry(tmp_path: Path) -> EnvironmentRegistry:
    ticks = iter(range(1, 1000))
    return EnvironmentRegistry(FileStore(f"memory://{uuid.uuid4().hex}", tmp_path), lambda: float(next(ticks)))


async def test_a_changed_definition_gets_the_next_version(registry: EnvironmentRegistry) -> None:
    first = await registry.register("iris", definition("six"))
    again = await registry.register("iris", definition("SIX"))
    second = await registry.register("iris", definition("six", "attrs"))
    assert [first.version, again.version, second.version] == ["1", "1", "2"]
    assert await registry.get("iris") == second and (await registry.get("iris", "1")).spec.conda == ("six",)
    assert second.definition["name"] == "iris" and second.definition["version"] == "2"
    assert [each.version for each in await registry.list()] == ["1", "2"]


async def test_a_named_version_never_changes(registry: EnvironmentRegistry) -> None:
    kept = await registry.register("iris", definition("six", version="v1.0"))
    assert kept.version == "v1.0" and await registry.register("iris", definition("six", version="v1.0")) == kept
    with pytest.raises(InvalidManifest, match="another definition"):
        await registry.register("iris", definition("attrs", version="v1.0"))


async def test_registrations_at_the_same_time_get_a_version_each(registry: EnvironmentRegistry) -> None:
    made = await asyncio.gather(*(registry.register("iris", definition(f"p{number}")) for number in range(20)))
    assert sorted(int(each.version) for each in made) == list(range(1, 21))


async def test_unknown_environments_are_named(registry: EnvironmentRegistry) -> None:
    for version in (None, "1"):
        with pytest.raises(NoSuchEnvironment, match="iris"):
            await registry.get("iris", version)
    with pytest.raises(NoSuchEnvironment):
        await registry.get("../models")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 256])
async def test_names_that_leave_the_folder_are_refused(registry: EnvironmentRegistry, name: str) -> None:
    with pytest.raises(InvalidManifest, match=r"environment\.name"):
        await registry.register(name, definition("six"))
