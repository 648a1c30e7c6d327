"""The access log never blocks, never hides losses, and no client writes its lines."""

import fcntl
import json
import os
from collections.abc import Iterator

import pytest

from router import accesslog
from router.accesslog import FLUSH_AT, SAMPLE_ONE_IN, AccessLog, AccessLogMode


class Pipe:
    """The other end of a log."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def read(self) -> bytes:
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            try:
                os.close(fd)
            except OSError:
                continue


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def wanted(mode: AccessLogMode, statuses: list[int]) -> list[int]:
    log = AccessLog(mode, -1)
    return [status for status in statuses if log.includes(status)]


def test_each_mode_logs_its_requests() -> None:
    statuses = [200, 304, 399, 400, 404, 499, 502, 503]
    assert wanted(AccessLogMode.OFF, statuses) == []
    assert wanted(AccessLogMode.ERRORS, statuses) == [400, 404, 499, 502, 503]
    assert wanted(AccessLogMode.ALL, statuses) == statuses


def test_sampling_takes_every_error_and_one_in_a_hundred_of_the_rest() -> None:
    assert wanted(AccessLogMode.SAMPLED, [200] * 1000 + [503] * 7) == [200] * (1000 // SAMPLE_ONE_IN) + [503] * 7


def test_an_access_record_is_one_line_of_json_for_any_bytes_of_a_client(pipe: Pipe) -> None:
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    forged = 'x"}\n{"status": 200}\r\u2028\x00\x1b[31m\xe9'
    log.add({"path": forged, "status": 404})
    log.flush()
    written = pipe.read()
    assert written.count(b"\n") == 1 and written.endswith(b"\n") and written.isascii()
    assert not set(written[:-1]) & set(range(0x20))
    assert json.loads(written) == {"path": forged, "status": 404}


def test_records_are_written_in_order_and_none_twice(pipe: Pipe) -> None:
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    read = b""
    for number in range(1000):
        log.add({"number": number})
        if number % 50 == 0:
            read += pipe.read()
    for _ in range(100):
        log.flush()
        read += pipe.read()
    assert [json.loads(line)["number"] for line in read.splitlines()] == list(range(1000))
    assert log.dropped == 0


def test_many_records_are_written_without_waiting_for_a_flush(pipe: Pipe) -> None:
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    for number in range(FLUSH_AT):
        log.add({"number": number})
    assert pipe.read()


def test_a_reader_that_is_slow_costs_records_and_no_time(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "MAX_PENDING", 300)
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    for number in range(1000):
        log.add({"number": number, "filling": "x" * 50})
    assert log.dropped > 0
    read = b""
    while piece := pipe.read():
        read += piece
        log.flush()
    numbers = [json.loads(line)["number"] for line in read.splitlines()]
    assert len(numbers) + log.dropped == 1000 and numbers == sorted(set(numbers))


def test_a_full_pipe_has_whole_lines(pipe: Pipe) -> None:
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    for number in range(200):
        log.add({"number": number, "filling": "x" * 50})
    assert pipe.read().endswith(b"}\n")


def test_a_line_that_is_written_in_parts_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written = b""

    def write_seven(fd: int, data: bytes) -> int:
        nonlocal written
        written += data[:7]
        return len(data[:7])

    monkeypatch.setattr(os, "write", write_seven)
    log = AccessLog(AccessLogMode.ALL, 99)
    log.add({"number": 1})
    log.add({"number": 2})
    for _ in range(20):
        log.flush()
    assert written == b'{"number": 1}\n{"number": 2}\n'


def test_a_reader_that_is_gone_costs_records_and_no_exception(pipe: Pipe) -> None:
    log = AccessLog(AccessLogMode.ALL, pipe.writer)
    os.close(pipe.reader)
    for number in range(5):
        log.add({"number": number})
    log.flush()
    assert log.dropped == 5
    log.flush()
    assert log.dropped == 5
