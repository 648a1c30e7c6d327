"""The fingerprint of the files that replicas start from."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.local import fingerprint as module
from cluster.local.fingerprint import fingerprint
from serving.endpoint import AutoscalePolicy, ReplicaKind, ReplicaSource, Version, VersionType


def version(**source: object) -> Version:
    kind = ReplicaKind.COMMAND if "command" in source else ReplicaKind.ENTRY_SCRIPT
    replica = replace(ReplicaSource(kind), **source)  # type: ignore[arg-type]
    return Version("blue", 1.0, True, VersionType.CONTROL, replica, AutoscalePolicy())


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "pkg").mkdir(parents=True)
    (folder / "score.py").write_text("def init(): pass")
    (folder / "pkg/part.py").write_text("x = 1")
    (folder / "weights.bin").write_bytes(b"w" * 10)
    return folder


def of(code: Path, **source: object) -> str:
    return fingerprint(
        version(source_directory=str(code), entry_script=str(code / "score.py"), **source), code / "state"
    )


@pytest.mark.parametrize("name", ["score.py", "pkg/part.py", "weights.bin", "new.txt"])
def test_a_changed_or_new_file_changes_it(code: Path, name: str) -> None:
    before = of(code)
    (code / name).write_text("something else")
    assert of(code) != before


def test_a_removed_or_renamed_file_changes_it(code: Path) -> None:
    before = of(code)
    (code / "weights.bin").rename(code / "weights2.bin")
    renamed = of(code)
    (code / "weights2.bin").unlink()
    assert len({before, renamed, of(code)}) == 3


def test_the_same_contents_at_another_time_do_not(code: Path) -> None:
    before = of(code)
    (code / "score.py").write_text("def init(): pass")
    os.utime(code / "score.py", (1, 1))
    assert of(code) == before


@pytest.mark.parametrize(
    "name",
    ["__pycache__/score.pyc", ".git/HEAD", ".venv/x.py", "env/lib/x.py", "state/keys.json", "up.log", "data/big.csv"],
)
def test_caches_environments_logs_state_and_ignored_files_do_not_count(code: Path, name: str) -> None:
    (code / "env").mkdir()
    (code / "env/pyvenv.cfg").touch()
    (code / ".amlignore").write_text("# data\ndata/\n")
    before = of(code)
    (code / name).parent.mkdir(parents=True, exist_ok=True)
    (code / name).write_text("changed")
    assert of(code) == before


def test_gitignore_counts_without_amlignore_only(code: Path) -> None:
    (code / ".gitignore").write_text("*.bin\n")
    before = of(code)
    (code / "weights.bin").write_text("changed")
    assert of(code) == before
    (code / ".amlignore").write_text("pkg/\n")
    assert of(code) != before


def test_the_manifest_beside_the_code_does_not_count(code: Path) -> None:
    before = of(code)
    (code / "endpoint.yaml").write_text("apiVersion: scorefront.io/v1alpha1\nkind: ScoringEndpoint\n")
    assert of(code) == before


def test_without_a_source_directory_the_script_and_the_modules_beside_it_count(code: Path) -> None:
    alone = version(entry_script=str(code / "score.py"))
    before = fingerprint(alone, code)
    (code / "weights.bin").write_text("changed")
    assert fingerprint(alone, code) == before
    (code / "pkg/part.py").write_text("x = 2")
    assert fingerprint(alone, code) != before


def test_the_model_directory_and_the_scripts_of_a_command_count(code: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("1")
    with_model = version(entry_script=str(code / "score.py"), model_dir=str(tmp_path / "model"))
    command = version(command=("python", str(code / "score.py"), "--port", "{port}"))
    before = fingerprint(with_model, code), fingerprint(command, code)
    (tmp_path / "model/weights").write_text("2")
    assert fingerprint(with_model, code) != before[0]
    (code / "score.py").write_text("edited")
    assert fingerprint(command, code) != before[1]


@pytest.mark.parametrize("argument", ["x" * 5000, "import os\n" * 40, "a\0b", "/etc", "{port}", ""])
def test_an_argument_that_is_no_file_does_not_count(code: Path, argument: str) -> None:
    told = {fingerprint(version(command=("python", "-c", each)), code) for each in (argument, "pass")}
    assert len(told) == 1


def test_large_files_count_by_size_and_time_of_change(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 5)
    before = of(code)
    os.utime(code / "weights.bin", (1, 1))
    assert of(code) != before


def test_the_number_of_files_is_bounded(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    before = of(code)
    (code / "pkg/part.py").write_text("beyond the first two: the script and the next in the order of names")
    assert of(code) == before


def test_files_that_cannot_be_read_are_no_error(code: Path) -> None:
    (code / "dangling").symlink_to(code / "nowhere")
    (code / "pipe.fifo").touch()
    (code / "pipe.fifo").unlink()
    os.mkfifo(code / "pipe.fifo")
    (code / "loop").symlink_to(code / "loop")
    assert of(code) == of(code)
