"""Unread output must not block its writer."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorefront.process.process_log import Relay, RelayHandler, unblocked

LINE = "x" * 1000


class FullPipe:
    """A pipe that takes nothing more until it is read."""

    def __init__(self) -> None:
        self._source, self.target = os.pipe()
        self._reader: threading.Thread | None = None
        os.set_blocking(self.target, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.target, b"-" * 4096)
        os.set_blocking(self.target, True)

    def read(self) -> None:
        """Start reading."""
        self._reader = threading.Thread(target=read_all, args=(self._source,), name="read the pipe")
        self._reader.start()

    def close(self) -> None:
        """Unblock writers first."""
        if self._reader is None:
            os.close(self._source)
        os.close(self.target)
        if self._reader is not None:
            self._reader.join(5)
            os.close(self._source)


@pytest.fixture
def full_pipe() -> Iterator[FullPipe]:
    pipe = FullPipe()
    yield pipe
    pipe.close()


def records(handler: logging.Handler, count: int) -> None:
    for _ in range(count):
        handler.emit(logging.LogRecord("n", logging.INFO, "f", 1, LINE, None, None))


def read_all(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def test_log_lines_that_do_not_fit_are_dropped_and_counted(full_pipe: FullPipe) -> None:
    relay = Relay(full_pipe.target)
    handler = RelayHandler(relay.fd)
    began = time.monotonic()
    records(handler, 1000)
    assert time.monotonic() - began < 5
    assert (
        1000 - 66 - 66 <= handler.dropped <= 1000 - 60
    )  # one pipe of 64 kB, and the lines taken from it by the thread
    full_pipe.read()
    relay.close(5)


def test_output_within_the_limit_arrives_whole_and_in_order() -> None:
    source, target = os.pipe()
    relay = Relay(target)
    handler = RelayHandler(relay.fd)
    handler.setFormatter(logging.Formatter("%(lineno)d"))
    for number in range(100):
        handler.emit(logging.LogRecord("n", logging.INFO, "f", number, "", None, None))
    relay.close(5)
    os.close(target)
    assert read_all(source).split() == [b"%d" % number for number in range(100)]
    assert handler.dropped == 0
    os.close(source)


def test_lines_for_a_reader_that_is_gone_are_counted() -> None:
    source, target = os.pipe()
    os.close(source)
    relay = Relay(target)
    handler = RelayHandler(relay.fd)
    deadline = time.monotonic() + 5
    while not handler.dropped and time.monotonic() < deadline:
        records(handler, 1)
        time.sleep(0.001)
    assert handler.dropped
    relay.close(5)
    os.close(target)


def test_the_nonblocking_flag_is_not_set_on_a_shared_pipe(full_pipe: FullPipe) -> None:
    relay = Relay(full_pipe.target)
    assert os.get_blocking(full_pipe.target)
    full_pipe.read()
    relay.close(5)


def test_printing_to_a_blocked_stream_returns(full_pipe: FullPipe) -> None:
    with open(full_pipe.target, "w", closefd=False) as stream:
        began = time.monotonic()
        with unblocked(stream) as free:
            for _ in range(1000):
                print(LINE, file=free)
        assert time.monotonic() - began < 5


def test_a_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream, unblocked(stream) as same:
        assert same is stream


def test_a_process_with_unread_output_still_ends() -> None:
    program = (
        "import sys; from scorefront.process.process_log import unblocked\n"
        "with unblocked(sys.stdout) as out:\n"
        "    for _ in range(500): print('x' * 1000, file=out)\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    try:
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
