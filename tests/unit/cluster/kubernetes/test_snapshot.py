"""The snapshot of a router on disk."""

from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes.snapshot import Snapshot, SnapshotFile

KNOWN = Snapshot("pod", "uid", {"ns": [{"metadata": {"name": "iris"}}]}, {"": []}, [])


def test_a_snapshot_is_restored_for_the_same_pod(tmp_path: Path) -> None:
    SnapshotFile(tmp_path / "state" / "known.json").write(KNOWN)
    file = SnapshotFile(tmp_path / "state" / "known.json")
    assert file.load("pod", "uid") == KNOWN
    assert file.load("pod", "another") is None
    assert [each.name for each in (tmp_path / "state").iterdir()] == ["known.json"]


def test_a_snapshot_is_private(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    SnapshotFile(path).write(KNOWN)
    assert path.stat().st_mode & 0o077 == 0


def test_a_writer_that_dies_leaves_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SnapshotFile(tmp_path / "known.json")
    file.write(KNOWN)

    def dies(*_: Any) -> None:
        raise OSError("no more")

    monkeypatch.setattr("os.replace", dies)
    with pytest.raises(OSError, match="no more"):
        file.write(Snapshot("pod", "uid", {}, {}, []))
    assert file.load("pod", "uid") == KNOWN


@pytest.mark.parametrize("text", ["", "[]", '{"pod": "pod"}', '{"pod": "pod", "uid": "uid", "endp'])
def test_a_damaged_one_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "known.json").write_text(text)
    assert SnapshotFile(tmp_path / "known.json").load("pod", "uid") is None
    assert SnapshotFile(tmp_path / "absent.json").load("pod", "uid") is None
