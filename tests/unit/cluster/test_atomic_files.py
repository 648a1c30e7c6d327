import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cluster import atomic_files


def fails(*_args: Path | int | memoryview, **_kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_written_file_is_read_back_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_files.write_atomically(path, b"one")
    atomic_files.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_write_that_fails_at_any_step_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.json"
    atomic_files.write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, fails)
        with pytest.raises(OSError, match="No space left"):
            atomic_files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    atomic_files.write_atomically(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_the_data_is_durable_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    fsync, replace = os.fsync, os.replace

    def fsync_noted(descriptor: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "data")
        fsync(descriptor)

    def replace_noted(source: Path, target: Path) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync_noted)
    monkeypatch.setattr(os, "replace", replace_noted)
    atomic_files.write_atomically(tmp_path / "a", b"x")
    assert order == ["data", "rename", "directory"]


def test_a_directory_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o755)
    atomic_files.make_private_directory(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_sweeping_removes_only_leftovers_of_interrupted_writes(tmp_path: Path) -> None:
    (tmp_path / f"{atomic_files.TEMPORARY_PREFIX}a.json").write_bytes(b"hal")
    (tmp_path / "a.json").write_bytes(b"whole")
    atomic_files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]


def test_removing_a_missing_file_is_harmless(tmp_path: Path) -> None:
    atomic_files.remove_durably(tmp_path / "nothing")
