"""The place of the workers' sockets."""

import os
import signal
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from router.supervisor.socket_folder import MAX_PATH_BYTES, PREFIX, SocketFolder, SocketFolderError


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path, as XDG_RUNTIME_DIR is."""
    return tmp_path_factory.mktemp("run")


def made_in(runtime: Path) -> SocketFolder:
    return SocketFolder({"XDG_RUNTIME_DIR": str(runtime)})


def socket_at(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    return sock


def test_only_its_owner_may_enter(runtime: Path) -> None:
    folder = made_in(runtime)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.close()


def test_it_goes_with_all_sockets_and_closing_twice_is_harmless(runtime: Path) -> None:
    folder = made_in(runtime)
    for serial in (1, 2):
        socket_at(folder.address(serial).removeprefix("unix:")).close()
    folder.close()
    folder.close()
    assert list(runtime.iterdir()) == []


def test_a_worker_that_was_killed_leaves_no_socket(runtime: Path) -> None:
    folder = made_in(runtime)
    path = folder.address(1).removeprefix("unix:")
    for name in (path, f"{path}.handoff"):
        socket_at(name).close()
    folder.forget(folder.address(1))
    folder.forget(folder.address(2))
    assert list(folder.path.iterdir()) == []
    folder.close()


def test_addresses_fit_into_the_address_of_a_socket(runtime: Path) -> None:
    folder = made_in(runtime)
    path = folder.address(99_999_999).removeprefix("unix:") + ".handoff"
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES
    socket_at(path).close()
    folder.close()


def test_for_long_paths_the_temporary_folder_is_used(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    long = tmp_path / ("x" * 90)
    long.mkdir()
    folder = made_in(long)
    assert folder.path.parent == runtime
    folder.close()


def test_without_a_short_enough_place_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(SocketFolderError, match=r"^TMPDIR: must be .* at most \d+ bytes"):
        SocketFolder({})


def test_sockets_of_a_killed_supervisor_are_removed_and_those_of_a_live_one_are_not(runtime: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        folder = made_in(runtime)
        socket_at(folder.address(1).removeprefix("unix:"))
        os.write(writer, os.fsencode(folder.path))
        signal.pause()
        os._exit(0)
    left = os.read(reader, 4096).decode()
    live = made_in(runtime)
    assert os.path.exists(left)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    foreign = runtime / f"{PREFIX}somebody"
    foreign.mkdir()
    (foreign / "letter").write_text("not a socket")
    folder = made_in(runtime)
    assert not os.path.exists(left)
    assert (foreign / "letter").exists()
    assert live.path.exists()
    for each in (live, folder):
        each.close()
    os.close(reader)
    os.close(writer)
