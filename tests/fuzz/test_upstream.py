"""Replicas that answer anything: mutated answers in arbitrary pieces, to many clients at a time."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import Play, answers, plays
from tests.fuzz.watched import Watched
from tests.integration.router.clients import request
from tests.integration.router.replicas import Request, Wire, answer_bytes

pytestmark = pytest.mark.slow

EXAMPLES = settings().max_examples // 4
_marker = re.compile(rb"<(\d+)>")


def templates(number: int) -> list[bytes]:
    """Valid answers, each with a marker in its body that no other exchange has."""
    body = b"<%d>" % number
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [
        answer_bytes(body),
        answer_bytes(body * 500),
        answer_bytes(body, fields=("Connection: close",)),
        answer_bytes(body, "500 Oops"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + answer_bytes(body),
        chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        chunked + b"%x;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nT: t\r\n\r\n" % (len(body), body, len(body), body),
        b"HTTP/1.1 200 OK\r\n\r\n" + body,
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + body,
    ]


async def converse(watched: Watched, number: int) -> list[tuple[bytes, bool]]:
    """Three requests one after the other; for each the received bytes, and True if the connection was closed
    properly.
    """
    found = []
    for turn in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.rig.port)
        received = b""
        try:
            writer.write(request(b"<%d>" % (3 * number + turn)))
            while data := await reader.read(65536):
                received += data
            found.append((received, True))
        except ConnectionError:
            found.append((received, False))
        finally:
            writer.transport.abort()
    return found


def test_for_any_answer_of_a_replica_no_part_of_it_reaches_another_exchange() -> None:
    crowd: list[tuple[Play, bool]] = []

    async def play(wire: Wire, request: Request) -> None:
        number = int(_marker.findall(request.body)[0])
        one, close = crowd[number % len(crowd)]
        for piece in one.pieces(templates(number)):
            await wire.send(piece)
            await asyncio.sleep(0)
        if close:
            wire.close()

    with Watched(play) as watched:

        @settings(max_examples=EXAMPLES)
        @given(st.lists(st.tuples(plays, st.booleans()), min_size=1, max_size=4))
        def run(drawn: list[tuple[Play, bool]]) -> None:
            crowd[:] = drawn
            ended = watched.run(*(converse(watched, number) for number in range(len(drawn))))
            for number, found in enumerate(ended):
                for turn, (received, whole) in enumerate(found):
                    _judge(3 * number + turn, received, whole, drawn)

        run()


def _judge(number: int, received: bytes, whole: bool, drawn: list[tuple[Play, bool]]) -> None:
    one, _ = drawn[number % len(drawn)]
    mine = {b"%d" % number, *_marker.findall(b"".join(one.pieces(templates(number))))}
    final = answers(received, whole)
    assert len(final) <= 1, (number, final)
    for status, body in final:
        assert set(_marker.findall(body)) <= mine, (number, status, body)
