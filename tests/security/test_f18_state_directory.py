"""F18: only files of this user are read from the state directory, and no link is followed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import atomic_files
from controlplane.control_errors import StoreError
from controlplane.keys import KeyPair
from controlplane.state import StoredEndpoint
from controlplane.statedir import StateDirectory
from loadtests.installation import Installation, manifest, witness_version
from tests.security.other_user import NOBODY, needs_root


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with one endpoint."""
    directory = tmp_path / "state"
    store = StateDirectory(directory)
    store.open()
    document = manifest("iris", [{"name": "blue", "replica": {"command": ["true"]}}])
    store.save_endpoint("iris", StoredEndpoint(document, KeyPair("p" * 43, "s" * 43)))
    store.control_token(bytes(32))
    store.close()
    return directory


def up(state: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scorefront", "up", "--state-dir", str(state)]
    command += ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@needs_root
@pytest.mark.parametrize("part", ["", "endpoints"])
def test_a_directory_of_another_user_is_refused(state: Path, part: str) -> None:
    os.chown(state / part, NOBODY, NOBODY)
    told = up(state)
    assert told.returncode == 1
    assert f"scorefront: cannot use the state directory {state / part if part else state}" in told.stderr
    assert "belongs to uid 65534, not to uid 0" in told.stderr


@pytest.mark.parametrize("part", ["", "endpoints"])
def test_a_link_to_a_directory_is_refused(state: Path, part: str) -> None:
    there = state / part if part else state
    moved = there.rename(state.parent / "elsewhere")
    there.symlink_to(moved)
    told = up(state)
    assert told.returncode == 1 and "is a symbolic link" in told.stderr


@needs_root
def test_an_endpoint_of_another_user_is_skipped_and_named(state: Path) -> None:
    os.chown(state / "endpoints" / "iris.json", NOBODY, NOBODY)
    found = StateDirectory(state).open()
    assert found.endpoints == {}
    assert "belongs to uid 65534" in found.damaged["iris"]


def test_a_link_to_an_endpoint_is_skipped_and_named(state: Path) -> None:
    file = state / "endpoints" / "iris.json"
    file.rename(state / "moved.json")
    file.symlink_to(state / "moved.json")
    found = StateDirectory(state).open()
    assert found.endpoints == {} and "is a symbolic link" in found.damaged["iris"]


@needs_root
@pytest.mark.parametrize("name", ["signing.json", "wanted.json", "control-token"])
def test_another_users_keys_and_numbers_are_refused(state: Path, name: str) -> None:
    (state / name).write_text(json.dumps({"format": 1, "replicas": {}}))
    os.chown(state / name, NOBODY, NOBODY)
    store = StateDirectory(state)

    def read_all() -> None:
        store.open()
        store.control_token(bytes(32))

    with pytest.raises(StoreError, match=f"{name}: belongs to uid 65534"):
        read_all()
    store.close()


@pytest.mark.parametrize("name", ["lock", ".part-wanted.json"])
def test_nothing_is_written_through_a_link(state: Path, name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (state / name).unlink(missing_ok=True)
    (state / name).symlink_to(victim)
    store = StateDirectory(state)
    try:
        store.open()
        store.save_desired({})
    except StoreError:
        pass
    store.close()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("part", ["logs", "logs/iris", "logs/iris/blue", "logs/iris/blue/iris-blue-1.log"])
def test_a_link_in_the_folder_of_logs_is_refused(state: Path, part: str, tmp_path: Path) -> None:
    (state / part).parent.mkdir(parents=True, exist_ok=True)
    (state / part).symlink_to(tmp_path)
    with pytest.raises(StoreError, match=f"{part}: is a symbolic link"):
        StateDirectory(state).open()


@needs_root
@pytest.mark.parametrize("part", ["logs", "logs/iris", "logs/iris/blue"])
def test_a_folder_of_logs_of_another_user_is_refused(state: Path, part: str) -> None:
    (state / part).mkdir(parents=True)
    os.chown(state / part, NOBODY, NOBODY)
    with pytest.raises(StoreError, match=f"{part}: belongs to uid 65534"):
        StateDirectory(state).open()


def test_a_path_that_is_no_file_does_not_block_the_start(state: Path) -> None:
    os.mkfifo(state / "endpoints" / "pipe.json")
    assert "is no regular file" in StateDirectory(state).open().damaged["pipe"]


def test_a_directory_of_this_user_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    atomic_files.make_private_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_up_names_the_restored_endpoints_and_their_place(tmp_path: Path) -> None:
    document = manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)])
    with Installation(tmp_path) as installation:
        installation.start(document)
        assert "restored" not in installation.output.read_text()
        assert installation.stop() == 0
        installation.start()
        assert f"endpoints restored from {tmp_path / 'state'}: echo" in installation.output.read_text()
        assert installation.stop() == 0
