import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controlplane.control_errors import StoreError
from controlplane.keys import KeyPair
from controlplane.state import InstallationState, StoredEndpoint
from controlplane.statedir import StateDirectory
from controlplane.tokens import TokenAlgorithm, new_keyring
from serving.endpoint import VersionKey

IRIS = StoredEndpoint(
    {"metadata": {"name": "iris"}, "spec": {"versions": [{"name": "blue", "share": 12.5}]}}, KeyPair("p", "s")
)
OTHER = StoredEndpoint({"metadata": {"name": "iris"}, "spec": {}}, KeyPair("q", "t"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def reopened(directory: Path) -> InstallationState:
    store = StateDirectory(directory)
    state = store.open()
    store.close()
    return state


def test_an_empty_directory_is_an_empty_state(directory: Path) -> None:
    state = reopened(directory)
    assert (state.endpoints, state.desired, state.keyring) == ({}, {}, None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_everything_put_is_there_after_a_restart(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    ring = new_keyring("here", TokenAlgorithm.EDDSA, 5.0)
    store.save_endpoint("iris", IRIS)
    store.save_desired({VersionKey("iris", "blue"): 4})
    store.save_keyring(ring)
    store.close()
    state = reopened(directory)
    assert state.endpoints == {"iris": IRIS}
    assert state.desired == {VersionKey("iris", "blue"): 4}
    assert state.keyring == ring


def test_a_dropped_endpoint_stays_dropped(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    store.save_endpoint("iris", IRIS)
    store.delete_endpoint("iris")
    store.delete_endpoint("iris")
    store.close()
    assert reopened(directory).endpoints == {}


def test_files_with_secrets_are_closed_to_other_users(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    store.save_endpoint("iris", IRIS)
    store.save_keyring(new_keyring("here", TokenAlgorithm.EDDSA, 5.0))
    store.control_token(b"x" * 32)
    store.close()
    for path in directory.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_full_disk_is_reported_by_file_and_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = StateDirectory(directory)
    store.open()
    store.save_endpoint("iris", IRIS)

    def full(*_args: Path | int | memoryview, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(StoreError, match=r"cannot write .*iris\.json: No space left"):
            store.save_endpoint("iris", OTHER)
    store.close()
    assert reopened(directory).endpoints == {"iris": IRIS}


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_crash_in_the_middle_of_a_write_leaves_the_old_state(
    directory: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    store = StateDirectory(directory)
    store.open()
    store.save_endpoint("iris", IRIS)
    write = os.write

    class Killed(BaseException):
        pass

    def killed_after(descriptor: int, data: memoryview) -> None:
        write(descriptor, bytes(data[:cut]))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", killed_after)
        with pytest.raises(Killed):
            store.save_endpoint("iris", OTHER)
    store.close()
    assert reopened(directory).endpoints == {"iris": IRIS}


DAMAGES = {
    "empty": b"",
    "cut": b'{"format":1,"document":{"meta',
    "not text": b"\xff\xfe\x00",
    "other shape": b'{"format":1,"document":[],"keys":3}',
    "no format": b'{"document":{},"keys":{"primary":"p","secondary":"s"}}',
}


def stored(directory: Path, name: str = "wine") -> None:
    """A directory with one endpoint that is well."""
    store = StateDirectory(directory)
    store.open()
    store.save_endpoint(name, IRIS)
    store.close()


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_endpoint_is_named_and_left_as_it_is_and_the_others_are_read(directory: Path, content: bytes) -> None:
    stored(directory)
    path = directory / "endpoints" / "iris.json"
    path.write_bytes(content)
    state = reopened(directory)
    assert state.endpoints == {"wine": IRIS}
    assert state.damaged.keys() == {"iris"} and f"{path} is damaged: " in state.damaged["iris"]
    assert path.read_bytes() == content


def test_a_damaged_file_is_named_with_field_and_rule(directory: Path) -> None:
    stored(directory)
    (directory / "endpoints" / "iris.json").write_bytes(b'{"format":1,"document":{},"keys":{"primary":1}}')
    assert reopened(directory).damaged["iris"].endswith("Expected `str`, got `int` - at `$.keys.primary`")


def test_a_file_that_cannot_be_read_costs_its_own_endpoint_only(directory: Path) -> None:
    stored(directory)
    (directory / "endpoints" / "iris.json").mkdir()
    state = reopened(directory)
    assert state.endpoints == {"wine": IRIS}
    assert "cannot read" in state.damaged["iris"] and "Is a directory" in state.damaged["iris"]


def test_a_damaged_endpoint_is_set_aside_under_a_name_of_its_own_each_time(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    folder = directory / "endpoints"
    for content in (b"one", b"two"):
        (folder / "iris.json").write_bytes(content)
        store.set_endpoint_aside("iris")
    assert store.set_endpoint_aside("iris") is None
    store.close()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept == {"iris.json.damaged-1": b"one", "iris.json.damaged-2": b"two"}
    assert reopened(directory).damaged == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wanted.json", b"{"),
        ("wanted.json", b'{"format":1,"replicas":{"iris":{"blue":"many"}}}'),
        ("signing.json", b"\x00"),
        ("signing.json", b'{"format":1,"keyring":{"issuer":"x","keys":[]}}'),
    ],
)
def test_a_fresh_start_is_reported_and_the_damaged_file_is_kept(directory: Path, name: str, content: bytes) -> None:
    stored(directory)
    (directory / name).write_bytes(content)
    state = reopened(directory)
    assert (state.endpoints, state.desired, state.keyring) == ({"wine": IRIS}, {}, None)
    (told,) = state.lost
    assert f"{name} is damaged: " in told and f"renamed to {name}.damaged-1" in told
    assert (directory / f"{name}.damaged-1").read_bytes() == content and not (directory / name).exists()


@pytest.mark.parametrize("name", ["wanted.json", "endpoints/iris.json"])
def test_a_file_of_a_newer_format_is_not_guessed_at(directory: Path, name: str) -> None:
    stored(directory)
    content = b'{"format":2,"replicas":{}}'
    (directory / name).write_bytes(content)
    with pytest.raises(StoreError, match=r"format 2; this scorefront reads format 1"):
        StateDirectory(directory).open()
    assert (directory / name).read_bytes() == content


def test_a_failed_open_gives_the_lock_back(directory: Path) -> None:
    reopened(directory)
    (directory / "wanted.json").write_bytes(b'{"format":2}')
    with pytest.raises(StoreError):
        StateDirectory(directory).open()
    (directory / "wanted.json").unlink()
    reopened(directory)


def test_two_cannot_use_one_directory(directory: Path) -> None:
    first = StateDirectory(directory)
    first.open()
    with pytest.raises(StoreError, match=rf"in use by another scorefront \(process {os.getpid()}\)"):
        StateDirectory(directory).open()
    first.close()
    reopened(directory)


def test_the_lock_dies_with_its_process(directory: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from controlplane.statedir import StateDirectory;"
        "store = StateDirectory(Path(sys.argv[1])); store.open(); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(directory)], timeout=60, check=False)
    assert ended.returncode == -9
    reopened(directory)


def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot use the state directory"):
        StateDirectory(tmp_path / "file").open()


def test_the_control_token_is_made_once(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    first = store.control_token(b"a" * 32)
    assert store.control_token(b"b" * 32) == first
    assert (directory / "control-token").read_text().strip() == first
    store.close()


def test_an_empty_control_token_is_refused(directory: Path) -> None:
    store = StateDirectory(directory)
    store.open()
    (directory / "control-token").write_text("\n")
    with pytest.raises(StoreError, match="control-token is empty"):
        store.control_token(b"a" * 32)
    store.close()
