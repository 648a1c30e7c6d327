import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fakes.clock import VirtualClock
from workspace.models.model_records import ModelDraft, ModelFile, ModelResources, RegisteredModel, parsed_id
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore
from workspace.workspace_errors import InvalidModel, ModelInUse, NoSuchBlob, NoSuchModel


class Shelf:
    """A registry on a store in memory, with one blob."""

    def __init__(self, folder: Path) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"
        self.folder = folder
        self.clock = VirtualClock()
        self.store = FileStore(self.url, folder)
        writer = self.store.new_blob()
        writer.write(b"abc")
        self.files = (ModelFile("model.pkl", writer.finish().sha256, 0),)
        self.registry = ModelRegistry(self.store, self.clock.wall)

    def draft(self, name: str = "iris", **fields: Any) -> ModelDraft:
        return ModelDraft(**{"name": name, "files": self.files, **fields})

    async def again(self) -> ModelRegistry:
        """A registry of another process, or after a restart."""
        other = ModelRegistry(FileStore(self.url, self.folder), self.clock.wall)
        await other.start()
        return other


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def ids(models: Sequence[RegisteredModel]) -> list[str]:
    return [model.id for model in models]


async def test_versions_are_counted_up(shelf: Shelf) -> None:
    first, second = await shelf.registry.register(shelf.draft()), await shelf.registry.register(shelf.draft())
    assert ids([first, second, shelf.registry.get("iris"), shelf.registry.get("iris", 1)]) == [
        *("iris:1", "iris:2", "iris:2", "iris:1")
    ]
    assert first.files[0].size_bytes == 3 and first.size_bytes == 3


async def test_registrations_at_the_same_time_get_a_version_each(shelf: Shelf) -> None:
    found = await asyncio.gather(*(shelf.registry.register(shelf.draft()) for _ in range(50)))
    assert sorted(model.version for model in found) == list(range(1, 51))


async def test_two_processes_on_one_store_never_give_a_version_twice(shelf: Shelf) -> None:
    other = await shelf.again()
    both = [shelf.registry, other] * 20
    found = await asyncio.gather(*(each.register(shelf.draft()) for each in both))
    assert sorted(model.version for model in found) == list(range(1, 41))


async def test_a_version_is_not_given_again_after_its_deletion(shelf: Shelf) -> None:
    await shelf.registry.register(shelf.draft())
    await shelf.registry.register(shelf.draft())
    await shelf.registry.delete("iris", 2)
    assert shelf.registry.get("iris").version == 1
    assert (await (await shelf.again()).register(shelf.draft())).version == 3


async def test_a_name_whose_versions_are_all_deleted_is_not_found(shelf: Shelf) -> None:
    await shelf.registry.register(shelf.draft())
    await shelf.registry.delete("iris", 1)
    for registry in (shelf.registry, await shelf.again()):
        assert registry.list() == []
        with pytest.raises(NoSuchModel, match="there is no model 'iris'"):
            registry.get("iris")
        with pytest.raises(NoSuchModel, match="version 1 of model 'iris'"):
            await registry.delete("iris", 1)


async def test_models_survive_a_restart_with_all_fields(shelf: Shelf) -> None:
    draft = shelf.draft(
        tags={"a": "b"},
        properties={"p": "q"},
        description="Flowers",
        framework="ScikitLearn",
        framework_version="1.5",
        sample_input="in",
        sample_output="out",
        resources=ModelResources(1.0, 0.5, 1),
        asset_id="x",
        unpack=True,
    )
    model = await shelf.registry.register(draft)
    await shelf.clock.advance(5)
    changed = await shelf.registry.update("iris", 1, tags={"c": "d"}, properties={"r": "s"}, description="Roses")
    assert (await shelf.again()).get("iris", 1) == changed
    assert changed == msgspec.structs.replace(
        model, tags={"c": "d"}, properties={"p": "q", "r": "s"}, description="Roses", modified=model.modified + 5
    )


async def test_a_property_cannot_be_changed_once_set(shelf: Shelf) -> None:
    await shelf.registry.register(shelf.draft(properties={"p": "q"}))
    assert (await shelf.registry.update("iris", 1, properties={"p": "q"})).properties == {"p": "q"}
    with pytest.raises(InvalidModel, match=r"properties\.p: cannot be changed"):
        await shelf.registry.update("iris", 1, properties={"p": "other"})


async def test_listing_selects_by_name_tags_and_latest(shelf: Shelf) -> None:
    for name, tags in (("wine", {}), ("iris", {"a": "1"}), ("iris", {"a": "2"})):
        await shelf.registry.register(shelf.draft(name, tags=tags))
    for registry in (shelf.registry, await shelf.again()):
        assert ids(registry.list()) == ["iris:2", "iris:1", "wine:1"]
        assert ids(registry.list("iris")) == ["iris:2", "iris:1"]
        assert ids(registry.list(latest=True)) == ["iris:2", "wine:1"]
        assert ids(registry.list(tags=[("a", None)])) == ["iris:2", "iris:1"]
        assert ids(registry.list(tags=[("a", "1")])) == ["iris:1"]
        assert ids(registry.list(tags=[("a", "1")], latest=True)) == []
        assert registry.list("none") == []


async def test_a_model_in_use_is_not_deleted(shelf: Shelf) -> None:
    await shelf.registry.register(shelf.draft())
    users = ["endpoint iris version blue"]
    shelf.registry.ask_users(lambda name, version: users if (name, version) == ("iris", 1) else ())
    with pytest.raises(ModelInUse, match="iris:1 is in use by endpoint iris version blue"):
        await shelf.registry.delete("iris", 1)
    users.clear()
    await shelf.registry.delete("iris", 1)


async def test_a_model_of_an_absent_blob_is_refused(shelf: Shelf) -> None:
    with pytest.raises(NoSuchBlob):
        await shelf.registry.register(shelf.draft(files=(ModelFile("a", "0" * 64, 1),)))
    assert shelf.registry.list() == [] and (await shelf.registry.register(shelf.draft())).version == 1


async def test_a_damaged_record_hides_its_version_only(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    await shelf.registry.register(shelf.draft())
    await shelf.registry.register(shelf.draft())
    shelf.store.write_file("models/iris/2.json", b'{"model": {"name": 3}}')
    shelf.store.write_file("models/iris/notes.txt", b"")
    shelf.store.write_record("models/rose/1.json", shelf.store.read_record("models/iris/1.json"))
    again = await shelf.again()
    assert ids(again.list()) == ["iris:1"]
    assert "models/iris/2.json: skipped: damaged record" in caplog.text
    assert "models/rose/1.json: skipped: damaged record: name: must be rose:1" in caplog.text
    assert (await again.register(shelf.draft())).version == 3


A = "a" * 64
BAD_DRAFTS: dict[str, dict[str, Any]] = {
    "name: must have 1 to 255": {"name": ".hidden"},
    "name: must have 1 to 255 ": {"name": "a/b"},
    "name: must have 1 to 255 letters": {"name": "a" * 256},
    "files: must be 1 to 10000": {"files": ()},
    r"files\[0\].path: must be a relative path": {"files": (ModelFile("../x", A, 1),)},
    r"files\[1\].path: must be a relative path": {"files": (ModelFile("x", A, 1), ModelFile("/etc/passwd", A, 1))},
    r"files\[0\].path: must have no control": {"files": (ModelFile("a\nb", A, 1),)},
    r"files\[0\].path: must have parts of at most": {"files": (ModelFile("ä" * 200, A, 1),)},
    "files: 'x' occurs twice": {"files": (ModelFile("x", A, 1), ModelFile("x", A, 1))},
    "files: 'x' occurs twice, or is a file and": {"files": (ModelFile("x", A, 1), ModelFile("x/y", A, 1))},
    "description: must have at most": {"description": "x" * 10_001},
    "tags: must be at most 1000": {"tags": {str(number): "" for number in range(1001)}},
    r"properties\.: key and value": {"properties": {"": "x"}},
    r"resources\.gpu: must be a number from 0": {"resources": ModelResources(gpu=-1)},
    "framework: must have at most": {"framework": "x" * 10_001},
}


@pytest.mark.parametrize("text", BAD_DRAFTS)
async def test_a_broken_rule_is_named(shelf: Shelf, text: str) -> None:
    with pytest.raises(InvalidModel, match=text.strip()):
        await shelf.registry.register(shelf.draft(**BAD_DRAFTS[text]))


@pytest.mark.parametrize(("text", "parsed"), [("iris", ("iris", None)), ("i.r-i_s:12", ("i.r-i_s", 12))])
def test_an_id_has_a_name_and_maybe_a_version(text: str, parsed: tuple[str, int | None]) -> None:
    assert parsed_id(text) == parsed


@pytest.mark.parametrize("text", ["", ":1", "iris:", "iris:0", "iris:x", "iris:1:2", "iris:-1", "iris:²", "a b"])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidModel):
        parsed_id(text)
