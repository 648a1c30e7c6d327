"""The backend for large bodies, and the results of runs with bodies and with idle connections."""

import math
import socket
import threading

import pytest

from loadtests import bodies, idle
from loadtests.bench.wrk import Run
from loadtests.bodies import DIRECTIONS, Measured
from loadtests.peers.bodies import SIZE, serve
from loadtests.peers.rig import Target


def said_by_backend(*sent: bytes) -> bytes:
    """The backend's answer to these pieces on one connection."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    thread = threading.Thread(target=serve, args=(theirs, b"source"))
    thread.start()
    said = b""
    with ours:
        for piece in sent:
            ours.sendall(piece)
        ours.shutdown(socket.SHUT_WR)
        while data := ours.recv(65_536):
            said += data
    thread.join(10)
    return said


@pytest.mark.parametrize(
    ("path", "answer"), [(b"/echo", b"hello"), (b"/sink", b"{}"), (b"/source", b"source"), (b"/", b"{}")]
)
def test_the_backend_takes_a_body_and_answers_by_path(path: bytes, answer: bytes) -> None:
    request = b"POST %b HTTP/1.1\r\nContent-Length: 5\r\n\r\n" % path
    said = said_by_backend(request + b"he", b"llo")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer))


def measured(name: str, rate: int, grown: int) -> Measured:
    runs = {each.name: [Run(rate, 1.0, 0, 0.1)] for each in DIRECTIONS}
    return Measured(Target(name, 1), 40_000_000, 40_000_000 + grown, runs)


def test_both_directions_move_the_body_twice() -> None:
    found = measured("x", 100, 0)
    assert [found.bytes_per_s(each) for each in DIRECTIONS] == [100 * SIZE, 100 * SIZE, 200 * SIZE]


def test_bodies_are_judged_by_the_ratio_to_nginx_and_by_the_growth() -> None:
    half = bodies.promises([measured("scorefront", 50, 8_000_000), measured("nginx", 100, 0)])
    assert all(promise.kept for promise in half)
    worse = bodies.promises([measured("scorefront", 49, 8_100_000), measured("nginx", 100, 0)])
    assert [promise.kept for promise in worse] == [False] * 4 + [True]


def test_idle_connections_are_judged_next_to_envoy() -> None:
    ours = idle.Measured("scorefront", 10_000, [0.001, 0.002], [0.0014, 0.0029])
    envoy = idle.Measured("Envoy", 10_001)
    assert all(promise.kept for promise in idle.promises([ours, envoy]))
    ours.lost = 1
    assert [promise.kept for promise in idle.promises([ours, envoy])] == [True, True, True, False]


def test_without_envoy_there_is_nothing_to_be_next_to() -> None:
    first = idle.promises([idle.Measured("scorefront", 10_000, [0.001], [0.001])])[0]
    assert math.isnan(first.measured) and not first.kept
