"""Arrivals that are fixed in advance, answers cut out of a stream, and the generator against a scripted server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

import pytest

from loadtests.bench.figures import poisson
from loadtests.bench.traffic import BODY
from loadtests.http1 import answer_size
from loadtests.openloop import Generator, Measured, Outcomes, added_s, promises
from loadtests.peers.rig import Target

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_arrivals_are_the_same_for_a_seed_and_have_the_rate_asked_for() -> None:
    arrivals = poisson(100, 20_000, 7)
    assert arrivals == poisson(100, 20_000, 7) != poisson(100, 20_000, 8)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(200, rel=0.05)
    gaps = [later - earlier for earlier, later in zip([0.0, *arrivals], arrivals, strict=False)]
    assert fmean(gap * gap for gap in gaps) == pytest.approx(2 / 100**2, rel=0.1)  # exponential: twice the mean squared


def test_the_size_of_an_answer_is_known_once_its_head_is_whole() -> None:
    whole = ANSWER + b"HTTP/1.1 500"
    for cut in range(len(ANSWER) - 2):
        assert answer_size(whole[:cut]) is None
    assert answer_size(whole) == len(ANSWER)
    assert answer_size(ANSWER.replace(b"Content-Length: 2", b"content-length:17")) == len(ANSWER) - 2 + 17


def test_a_length_in_the_body_is_not_the_length_of_the_answer() -> None:
    with pytest.raises(ValueError, match="without Content-Length"):
        answer_size(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n\r\nContent-Length: 2\r\n")


def test_latency_runs_from_the_intended_moment_and_only_answers_of_200_count() -> None:
    outcomes = Outcomes([1.0, 2.0, 3.0])
    for index, (sent, done, status) in enumerate([(1.5, 2.0, 200), (2.0, 2.5, 503), (3.0, 0.0, 0)]):
        outcomes.sent_s[index], outcomes.done_s[index], outcomes.status[index] = sent, done, status
    assert outcomes.latencies_s == [1.0]
    assert outcomes.failed == 2
    assert outcomes.lateness_s == [0.5, 0.0, 0.0]


def test_the_added_latency_is_less_the_backend_in_the_same_round() -> None:
    direct = Measured(Target("direct", 1), [0.001, 0.005], [0.002, 0.009])
    ours = Measured(Target("scorefront", 2), [0.0011, 0.0051], [0.0025, 0.0095])
    p50_s, p99_s = added_s([direct, ours])["scorefront"]
    assert p50_s == pytest.approx(0.0001)
    assert p99_s == pytest.approx(0.0005)
    assert all(promise.kept for promise in promises([direct, ours]))
    ours.failed = 1
    assert not all(promise.kept for promise in promises([direct, ours]))


def test_a_polling_router_has_the_same_promises_if_measured() -> None:
    direct = Measured(Target("direct", 1), [0.001], [0.002])
    ours, polling = (Measured(Target(name, 2), [0.0011], [0.0025]) for name in ("scorefront", "scorefront polling"))
    assert all(promise.kept for promise in promises([direct, ours, polling]))
    polling.failed = 1
    assert [promise.what for promise in promises([direct, ours, polling]) if not promise.kept] == [
        "scorefront polling: requests that failed"
    ]


@contextmanager
def served(serve: Callable[[socket.socket], None], clients: int) -> Iterator[int]:
    """A server in threads of the test, for this many connections; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listen:
        listen.settimeout(10)

        def accept() -> None:
            for _ in range(clients):
                sock, _ = listen.accept()
                sock.settimeout(10)
                with sock:
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listen.getsockname()[1])
        thread.join(10)
        assert not thread.is_alive()


def read_request(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(BODY):
        piece = sock.recv(4096)
        if not piece:
            return b""
        data += piece
    return data


def requests(port: int, count: int) -> list[bytes]:
    return [Target("t", port).post(BODY)] * count


def test_a_connection_is_used_again_and_answers_in_pieces_are_whole() -> None:
    def serve(sock: socket.socket) -> None:
        while read_request(sock):
            for piece in (ANSWER[:5], ANSWER[5:20], ANSWER[20:-1], ANSWER[-1:]):
                sock.sendall(piece)

    with served(serve, clients=1) as port:
        outcomes = Generator(port, requests(port, 5), [0.0, 0.05, 0.1, 0.15, 0.2]).run()
    assert outcomes.failed == 0
    assert all(0 < latency < 5 for latency in outcomes.latencies_s)


def test_a_slow_answer_does_not_slow_the_arrivals() -> None:
    release = threading.Event()
    seen = []

    def serve(sock: socket.socket) -> None:
        threading.Thread(target=answer, args=(sock.dup(),)).start()

    def answer(sock: socket.socket) -> None:
        with sock:
            read_request(sock)
            seen.append(1)
            if len(seen) == 3:
                release.set()  # the first is answered only when the last has come
            release.wait(10)
            sock.sendall(ANSWER)

    with served(serve, clients=3) as port:
        outcomes = Generator(port, requests(port, 3), [0.0, 0.01, 0.02]).run()
    assert outcomes.failed == 0


def test_an_answer_that_is_broken_off_has_failed_and_so_has_another_status() -> None:
    answers = iter([ANSWER[:-1], ANSWER.replace(b"200", b"503")])

    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(next(answers))

    with served(serve, clients=2) as port:
        outcomes = Generator(port, requests(port, 2), [0.0, 0.1]).run()
    assert list(outcomes.status) == [0, 503]
    assert outcomes.failed == 2


def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(ANSWER)

    with served(serve, clients=2) as port:
        outcomes = Generator(port, requests(port, 2), [0.0, 0.3]).run()
    assert outcomes.failed == 0
