"""Clients that send anything: mutated requests in arbitrary pieces, many at a time, into one gateway."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import Play, answers, plays
from tests.fuzz.watched import Watched
from tests.integration.router.clients import SCORE, get, request
from tests.integration.router.replicas import answer_bytes, echo

pytestmark = pytest.mark.slow

EXAMPLES = settings().max_examples // 4
_marker = re.compile(rb"<(\d+)>")


def templates(number: int) -> list[bytes]:
    """Valid requests, each with a marker in its body that no other connection has."""
    body = b"<%d>" % number
    chunked = request(None, fields=("Transfer-Encoding: chunked",))
    return [
        request(body),
        request(body) + request(body),
        request(body, fields=("Connection: close",)),
        request(body, fields=("Expect: 100-continue",)),
        request(body, minor=0),
        request(body, "http://front" + SCORE),
        request(body * 200),
        chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        chunked + b"1;x=y\r\n<\r\n%x\r\n%b\r\n0\r\nTrailer: t\r\n\r\n" % (len(body) - 1, body[1:]) + request(body),
        get() + get("/healthz") + request(body),
        request(body, "/api/v1/service/iris/versions/blue/score"),
        get(fields=("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")),
    ]


async def converse(watched: Watched, pieces: list[bytes]) -> tuple[bytes, bool]:
    """All received bytes, and True if the connection was closed properly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", watched.rig.port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        while data := await reader.read(65536):
            received += data
        return received, True
    except ConnectionError:
        return received, False
    finally:
        writer.transport.abort()


def test_for_any_bytes_each_client_gets_its_own_well_formed_answers() -> None:
    with Watched(echo) as watched:

        @settings(max_examples=EXAMPLES)
        @given(st.lists(plays, min_size=1, max_size=12))
        def run(crowd: list[Play]) -> None:
            streams = [play.pieces(templates(number)) for number, play in enumerate(crowd)]
            ended = watched.run(*(converse(watched, pieces) for pieces in streams))
            for number, (received, whole) in enumerate(ended):
                for status, body in answers(received, whole):
                    markers = set(_marker.findall(body)) if status == 200 else set()
                    # A mutation may write other numbers into its own body.
                    mine = {b"%d" % number, *_marker.findall(b"".join(streams[number]))}
                    assert markers <= mine, (status, body)

        run()


def test_the_checker_distinguishes_answers_from_other_bytes() -> None:
    good = answer_bytes(b"hello")
    assert answers(good + good, whole=True) == [(200, b"hello")] * 2
    assert answers(good + good[:-1], whole=False) == [(200, b"hello")]
