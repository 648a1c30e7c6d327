"""The archive of a source directory."""

import io
import zipfile
from pathlib import Path

import pytest

from scorefront.sdk import snapshot as module
from scorefront.sdk.exceptions import UserErrorException
from scorefront.sdk.snapshot import snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("score.py", "pack/helper.py", "data/big.csv", ".git/config", "__pycache__/score.pyc", "v/pyvenv.cfg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def names(archive: bytes) -> list[str]:
    return sorted(zipfile.ZipFile(io.BytesIO(archive)).namelist())


def test_a_snapshot_leaves_out_caches_environments_and_history(source: Path) -> None:
    archive, script = snapshot(source, Path("score.py"))
    assert names(archive) == ["data/big.csv", "pack/helper.py", "score.py"] and script == "score.py"


def test_amlignore_comes_before_gitignore(source: Path) -> None:
    (source / ".gitignore").write_text("pack/\n")
    assert names(snapshot(source, Path("score.py"))[0]) == [".gitignore", "data/big.csv", "score.py"]
    (source / ".amlignore").write_text("data/\n.*ignore\n")
    assert names(snapshot(source, Path("score.py"))[0]) == ["pack/helper.py", "score.py"]


def test_equal_files_make_equal_archives(source: Path) -> None:
    before = snapshot(source, Path("score.py"))
    (source / "score.py").touch()
    assert snapshot(source, Path("score.py")) == before


def test_a_script_without_a_source_directory_is_sent_alone(source: Path) -> None:
    archive, script = snapshot(None, source / "pack" / "helper.py")
    assert names(archive) == ["helper.py"] and script == "helper.py"


def test_an_ignored_entry_script_is_refused(source: Path) -> None:
    (source / ".amlignore").write_text("*.py\n")
    with pytest.raises(UserErrorException, match=r"entry_script: 'score\.py' is left out"):
        snapshot(source, Path("score.py"))


@pytest.mark.parametrize("name", ["link.txt", "folder"])
def test_a_link_out_of_the_source_directory_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "outside"
    target.mkdir() if name == "folder" else target.write_text("secret")
    (source / name).symlink_to(target)
    with pytest.raises(UserErrorException, match=f"{name}' is a link to .*outside the source directory"):
        snapshot(source, Path("score.py"))


def test_a_link_within_the_source_directory_is_followed(source: Path) -> None:
    (source / "copy.py").symlink_to("score.py")
    assert "copy.py" in names(snapshot(source, Path("score.py"))[0])


def test_too_large_a_source_directory_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(UserErrorException, match="source_directory: must have at most"):
        snapshot(source, Path("score.py"))
