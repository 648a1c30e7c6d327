"""Coverage-guided fuzzing of heads and chunked bodies, by hand: atheris is no dependency of the suite.

    pip install atheris && PYTHONPATH=. python tests/fuzz/atheris_head.py -max_total_time=60 FOLDER

FOLDER keeps the interesting inputs; an empty one begins with valid pieces.

Held: nothing but the router's own errors is ever raised; a head that is accepted says so in one way only, and is
accepted again from its own bytes; a chunked body decodes to the same data at every cut, and has the same end as
in llhttp.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["router"]):
    from router.core.router_errors import RouterError
    from router.proxy.chunked import ChunkedBody, chunk
    from router.proxy.partial_head import PartialRequestHead, PartialResponseHead
    from router.proxy.request_head import parse_request
    from router.proxy.response_head import parse_response
    from router.settings import RouterSettings

SETTINGS = RouterSettings()
SEEDS = (
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Connection: close, x\r\nX: y\r\nExpect: 100-continue",
    b"GET http://front/api/v1/service/iris/score?q HTTP/1.0\r\nHost: front",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked",
    b"5\r\nhello\r\n0\r\n\r\n",
    b'a;x="y"\r\n0123456789\r\n00\r\nTrailer: t\r\n\r\nrest',
)


def request(data: bytes) -> None:
    """A request head, whole and in its beginnings."""
    raw = b"POST /api/v1/service/iris/score HTTP/1.1\r\nHost: front\r\n" + data + b"\r\n\r\n"
    for head in (raw, data + b"\r\n\r\n"):
        try:
            parsed = parse_request(head, SETTINGS)
        except RouterError:
            continue
        assert not (parsed.chunked and parsed.content_length), "two framings"
        assert parsed.path.startswith(b"/") and b"\r" not in head[:-4].replace(b"\r\n", b""), "a bare CR got through"
        again = parse_request(head, SETTINGS)
        assert (again.content_length, again.chunked, again.path) == (parsed.content_length, parsed.chunked, parsed.path)
        PartialRequestHead(head[: len(head) // 2], SETTINGS).find_end()  # a body accepted whole is not refused in part


def answer(data: bytes) -> None:
    """The head of a replica's answer."""
    for head in (b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", data + b"\r\n\r\n"):
        try:
            parsed = parse_response(head)
        except RouterError:
            continue
        assert sum((parsed.chunked, parsed.until_close, parsed.content_length > 0)) <= 1, "two framings"
        PartialResponseHead(head[: len(head) // 2], SETTINGS).find_end()


def body(data: bytes) -> None:
    """A chunked body, at once and cut in two."""
    whole = _decoded(data)
    for at in {1, len(data) // 2, len(data) - 1}:
        if 0 < at < len(data):
            parts = _decoded(data[:at], data[at:])
            assert whole is None or parts is None or parts == whole, (parts, whole)
    own = ChunkedBody()
    framed = chunk(data) + b"0\r\n\r\n"
    assert own.feed(framed) == len(framed) and own.complete and own.pop_data() == data


def _decoded(*pieces: bytes) -> tuple[bytes, int] | None:
    """(data, bytes used) of a body that is complete; None for one that is refused or goes on."""
    decoder, used = ChunkedBody(), 0
    for piece in pieces:
        if not decoder.complete:
            try:
                used += decoder.feed(piece)
            except RouterError:
                return None
    return (decoder.pop_data(), used) if decoder.complete else None


def one(data: bytes) -> None:
    """Entry point for atheris."""
    for part in (request, answer, body):
        part(data)


def plant(folder: Path) -> None:
    """Begin a corpus."""
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        for number, seed in enumerate(SEEDS):
            (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if not argument.startswith("-"):
            plant(Path(argument))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
