import os
from pathlib import Path

import pytest

from tests.fakes.clock import VirtualClock
from workspace.artifacts import ArtifactRegistry
from workspace.models.model_records import ModelDraft, ModelFile
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import Blob, FileStore
from workspace.store_sweep import KEPT_S, sweep_store


class Room:
    """A local store with models and artifacts, seven days and a bit after they were made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FileStore(folder / "store")
        self.clock = VirtualClock()
        self.models = ModelRegistry(self.store, self.clock.wall)
        self.artifacts = ArtifactRegistry(self.store, self.clock.wall)

    def put(self, data: bytes) -> Blob:
        writer = self.store.new_blob()
        writer.write(data)
        blob = writer.finish()
        path = self.store.local_path(blob.sha256)
        assert path is not None
        os.utime(path, (self.clock.wall(), self.clock.wall()))
        return blob

    async def register(self, blob: Blob, asset: str = "") -> None:
        file = ModelFile("model.pkl", blob.sha256, 0)
        await self.models.register(ModelDraft(name="iris", files=(file,), asset_id=asset))

    def sweep(self, later_s: float = KEPT_S + 1) -> int:
        now = self.clock.wall() + later_s
        used = self.models.blobs_in_use(), self.models.assets_in_use()
        return sweep_store(self.store, self.artifacts, *used, now)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_content_of_no_model_is_removed_after_a_week(room: Room) -> None:
    kept, gone = room.put(b"kept"), room.put(b"gone")
    await room.register(kept)
    assert room.sweep(KEPT_S - 1) == 0 and room.store.has_blob(gone.sha256)
    assert room.sweep() == 1
    assert room.store.blobs() == [kept.sha256]


async def test_content_of_a_deleted_model_is_removed(room: Room) -> None:
    await room.register(room.put(b"model"))
    await room.models.delete("iris", 1)
    assert room.sweep() == 1 and room.store.blobs() == []


async def test_content_that_a_deployment_has_linked_stays(room: Room) -> None:
    path = room.store.local_path(room.put(b"deployed").sha256)
    assert path is not None
    (room.folder / "model.pkl").hardlink_to(path)
    assert room.sweep() == 0
    (room.folder / "model.pkl").unlink()
    assert room.sweep() == 1


async def test_artifacts_live_as_long_as_the_model_made_of_them(room: Room) -> None:
    model, source = room.put(b"model"), room.put(b"source")
    await room.artifacts.put("LocalUpload", "a", "model.pkl", model)
    await room.artifacts.put("LocalUpload", "b", "score.py", source)
    asset = await room.artifacts.create_asset("iris", ["LocalUpload/a/model.pkl"])
    await room.artifacts.create_asset("code", ["LocalUpload/b/"])
    await room.register(model, asset.id)
    assert room.sweep() == 1 and room.store.blobs() == [model.sha256]
    assert [each.path for each in await room.artifacts.artifacts_of(asset)] == ["model.pkl"]
    assert await room.artifacts.list("LocalUpload/b") == []
    await room.models.delete("iris", 1)
    assert room.sweep() == 1 and room.store.list_records("assets") == []


async def test_an_object_store_is_left_alone(tmp_path: Path) -> None:
    store = FileStore("memory://sweep", tmp_path)
    writer = store.new_blob()
    writer.write(b"x")
    writer.finish()
    artifacts = ArtifactRegistry(store, VirtualClock().wall)
    assert sweep_store(store, artifacts, set(), set(), 1e12) == 0 and len(store.blobs()) == 1


async def test_a_damaged_record_is_told_apart(room: Room) -> None:
    await room.register(room.put(b"model"))
    assert room.models.is_complete
    room.store.write_file("models/iris/1.json", b"{")
    again = ModelRegistry(room.store, room.clock.wall)
    await again.start()
    assert not again.is_complete
