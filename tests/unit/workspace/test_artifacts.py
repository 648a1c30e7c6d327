from pathlib import Path

import pytest

from controlplane.control_errors import InvalidCall
from tests.fakes.clock import VirtualClock
from workspace.artifacts import ArtifactRegistry
from workspace.store.file_store import Blob, FileStore
from workspace.workspace_errors import NoSuchArtifact, NoSuchAsset

BLOB = Blob("a" * 64, 3)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactRegistry:
    return ArtifactRegistry(FileStore(tmp_path / "store"), VirtualClock().wall)


async def test_an_artifact_is_a_name_of_a_blob(artifacts: ArtifactRegistry) -> None:
    made = await artifacts.put("LocalUpload", "201128-x", "lib/score.py", BLOB)
    assert made.id == "LocalUpload/201128-x/lib/score.py" and made.sha256 == BLOB.sha256
    assert await artifacts.get("LocalUpload", "201128-x", "lib/score.py") == made
    with pytest.raises(NoSuchArtifact, match="LocalUpload/201128-x/other"):
        await artifacts.get("LocalUpload", "201128-x", "other")
    assert artifacts.blobs_in_use() == {BLOB.sha256}


async def test_an_asset_is_found_with_its_artifacts(artifacts: ArtifactRegistry) -> None:
    for path in ("model/b", "model/a", "score.py"):
        await artifacts.put("LocalUpload", "c", path, BLOB)
    asset = await artifacts.create_asset(
        "iris", ["LocalUpload/c/model/", "LocalUpload/c/model/a", "LocalUpload/none/x"]
    )
    assert await artifacts.asset(asset.id) == asset
    assert [each.path for each in await artifacts.artifacts_of(asset)] == ["model/a", "model/b"]


@pytest.mark.parametrize("identifier", ["none", "", "../models/iris/1", "a/b"])
async def test_an_absent_asset_is_named(artifacts: ArtifactRegistry, identifier: str) -> None:
    with pytest.raises(NoSuchAsset):
        await artifacts.asset(identifier)


@pytest.mark.parametrize(
    ("origin", "container", "path"),
    [
        ("..", "c", "x"),
        ("LocalUpload", "..", "x"),
        ("LocalUpload", "a/b", "x"),
        ("LocalUpload", "c", "../x"),
        ("LocalUpload", "c", "/etc/passwd"),
        ("LocalUpload", "c", ""),
        ("", "c", "x"),
    ],
)
async def test_a_name_out_of_its_folder_is_refused(
    artifacts: ArtifactRegistry, origin: str, container: str, path: str
) -> None:
    with pytest.raises(InvalidCall, match="must"):
        await artifacts.put(origin, container, path, BLOB)
    with pytest.raises(InvalidCall, match="must"):
        await artifacts.get(origin, container, path)
