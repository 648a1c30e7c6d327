"""Cores, requests, and the figures of a process."""

import mmap
import os
import sys

import psutil
import pytest

from loadtests.peers import nginx
from loadtests.peers.rig import Cores, Rig, Target, cpu_seconds, first_line_of, forget_peak, peak_resident_bytes


def test_the_proxy_gets_a_core_of_its_own() -> None:
    assert Cores.divided([3, 0, 1]) == Cores(frozenset({3}), frozenset({0, 1}))
    assert Cores.divided([0, 1]) == Cores(frozenset({1}), frozenset({0}))


def test_a_single_core_is_shared() -> None:
    assert Cores.divided([4]) == Cores(frozenset({4}), frozenset({4}))


def test_a_request_has_its_length_and_the_fields_of_its_target() -> None:
    post = Target("t", 80, "/score", (("Authorization", "Bearer k"),)).post(b"{}")
    head, _, body = post.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /score HTTP/1.1"
    assert {b"Host: 127.0.0.1:80", b"Authorization: Bearer k", b"Content-Length: 2"} <= set(head.split(b"\r\n"))
    assert body == b"{}"


def test_a_program_that_is_missing_has_no_version() -> None:
    assert first_line_of("no-such-program-here", "-v") is None
    assert first_line_of(sys.executable, "--version") == f"Python {sys.version.split()[0]}"


def test_cpu_time_that_is_used_is_counted() -> None:
    mine = [os.getpid()]
    before = cpu_seconds(mine)
    while cpu_seconds(mine) - before < 0.05:
        sum(range(10_000))
    assert 0.05 <= cpu_seconds(mine) - before < 1


def test_the_peak_of_memory_is_remembered_until_it_is_forgotten() -> None:
    mine = [os.getpid()]
    forget_peak(mine)
    before = peak_resident_bytes(mine)
    # A mapping of its own: malloc would hand out free memory of the heap that is resident already.
    with mmap.mmap(-1, 50_000_000) as pages:
        pages.write(bytes([1]) * len(pages))
    assert peak_resident_bytes(mine) >= before + 40_000_000
    forget_peak(mine)
    assert peak_resident_bytes(mine) < before + 40_000_000


def test_a_server_that_does_not_listen_is_an_error_with_its_output() -> None:
    with Rig() as rig:
        (port,) = rig.free_ports()
        with pytest.raises(RuntimeError, match="no such luck"):
            rig.start("unlucky", [sys.executable, "-c", "print('no such luck')"], port)


@pytest.mark.skipif(nginx.version() is None, reason="nginx is not installed")
def test_processes_of_a_rig_run_on_its_cores_and_end_with_it() -> None:
    before = os.sched_getaffinity(0)
    with Rig() as rig:
        backend = nginx.start_backend(rig)
        proxy = nginx.start(rig, [backend.port])
        started = [psutil.Process(pid) for pid in (*backend.pids, *proxy.pids)]
        assert [set(process.cpu_affinity()) for process in started] == [rig.cores.load, rig.cores.proxy]
        assert os.sched_getaffinity(0) == rig.cores.load
        directory = rig.directory
    assert not any(process.is_running() for process in started)
    assert os.sched_getaffinity(0) == before and not directory.exists()
