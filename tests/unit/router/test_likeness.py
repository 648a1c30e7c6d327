"""A head recognised by its predecessor has the same meaning as if it were parsed, or is not recognised at all."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.router_errors import ReplicaFailed, RouterError
from router.proxy.request_head import RequestHead, parse_request
from router.proxy.response_head import ResponseHead, parse_response
from router.settings import RouterSettings

SETTINGS = RouterSettings()
MAX = SETTINGS.max_body_bytes
REQUEST = b"\r\n".join(
    [
        b"POST /score?a=1 HTTP/1.1",
        b"Host: x",
        b"Authorization: Bearer k",
        b"traceparent: 00-1",
        b"X-Ms-Client-Request-Id:  one",
        b"Accept: */*",
        b"X-Twice: a",
        b"X-Twice: b",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Empty:",
        b"Content-Length: 5\r\n\r\n",
    ]
)
ANSWER = b"\r\n".join(
    [
        b"HTTP/1.1 200 OK",
        b"Server: model",
        b"Date: Sun, 22 Nov 2026 18:00:00 GMT",
        b"X-Time:  12",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        b"Content-Length: 5\r\n\r\n",
    ]
)
PIECES = st.sampled_from(
    [
        *(
            b"",
            b"0",
            b"7",
            b"12",
            b"-1",
            b"+1",
            b"1,1",
            b" ",
            b"\t",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n ",
            b"\x00",
            b"\x7f",
            b"\xe9",
        ),
        *(
            b"close",
            b"chunked",
            b"\r\nTransfer-Encoding: chunked",
            b"\r\nX: y",
            b"Content-Length",
            b"100-continue",
            b":",
        ),
        b"99999999999",
    ]
)


def said(head: RequestHead | ResponseHead) -> dict[str, object]:
    """All values of a head for its users."""
    own = ("plan", "lines", "names")
    return {name: getattr(head, name) for name in type(head).__slots__ if name[0] != "_" and name not in own}


def replaced(raw: bytes, *pairs: tuple[bytes, bytes]) -> bytes:
    for old, new in pairs:
        assert raw.count(old) == 1
        raw = raw.replace(old, new)
    return raw


def mutated(raw: bytes, begin: int, size: int, piece: bytes) -> bytes:
    """Some bytes before the empty line replaced by others."""
    begin %= len(raw) - 4
    return raw[:begin] + piece + raw[min(begin + size, len(raw) - 4) :]


def test_ids_traces_and_lengths_may_differ() -> None:
    last = parse_request(REQUEST, SETTINGS)
    raw = replaced(
        REQUEST, (b"00-1", b"00-22"), (b"one", b"two-3"), (b"10.0.0.1", b"10.0.0.22"), (b"Length: 5", b"Length: 17")
    )
    head = last.varied(raw, MAX)
    assert head is not None and said(head) == said(parse_request(raw, SETTINGS))
    assert (head.client_request_id, head.content_length) == (b"two-3", 17)
    again = head.varied(REQUEST, MAX)
    assert again is not None and said(again) == said(last)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/score", b"/other"),
        (b"Host: x", b"Host: y"),
        (b"Bearer k", b"Bearer l"),
        (b"traceparent: 00-1", b"traceparent : 00-1"),
        (b"traceparent", b"Traceparent"),
        (b"00-1", b""),
        (b"00-1", b" 00-1"),
        (b"00-1", b"00-1 "),
        (b"00-1", b"00\n-1"),
        (b"00-1", b"00\r-1"),
        (b"00-1", b"00\x00-1"),
        (b"X-Twice: a", b"X-Twice: c"),
        (b"X-Empty:", b"X-Empty: a"),
        (b"Length: 5", b"Length: 0"),
        (b"Length: 5", b"Length: +5"),
        (b"Length: 5", b"Length: 5, 5"),
        (b"Length: 5", b"Length: 100000000000"),
        (b"Accept: */*\r\n", b""),
        (b"Accept: */*", b"Accept: */*\r\nX-New: 1"),
    ],
)
def test_fields_that_decide_about_a_request_may_not_differ(old: bytes, new: bytes) -> None:
    assert parse_request(REQUEST, SETTINGS).varied(replaced(REQUEST, (old, new)), MAX) is None


def test_an_answer_may_differ_in_date_length_and_fields_of_the_model() -> None:
    last = parse_response(ANSWER)
    raw = replaced(ANSWER, (b"18:00:00", b"18:00:01"), (b"12", b"3.5"), (b"Length: 5", b"Length: 0"))
    head = last.varied(raw)
    assert head is not None and said(head) == said(parse_response(raw)) and head.lines == b""
    assert list(head.names) == list(parse_response(raw).names)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"200 OK", b"201 OK"), (b"Cookie: a", b"Cookie: c"), (b"Length: 5", b"Length: x"), (b"Time:  12", b"Time: \x00")],
)
def test_fields_that_decide_about_an_answer_may_not_differ(old: bytes, new: bytes) -> None:
    assert parse_response(ANSWER).varied(replaced(ANSWER, (old, new))) is None


@given(st.integers(0, 400), st.integers(0, 12), PIECES, st.integers(0, 400), st.integers(0, 3), PIECES)
@example(REQUEST.index(b"00-1"), 4, b"12", 0, 0, b"")
def test_for_any_change_a_request_is_recognised_only_as_its_parsed_meaning(
    b1: int, s1: int, p1: bytes, b2: int, s2: int, p2: bytes
) -> None:
    raw = mutated(mutated(REQUEST, b1, s1, p1), b2, s2, p2)
    head = parse_request(REQUEST, SETTINGS).varied(raw, MAX)
    if head is not None:
        assert said(head) == said(parse_request(raw, SETTINGS))


@given(st.integers(0, 400), st.integers(0, 12), PIECES, st.integers(0, 400), st.integers(0, 3), PIECES)
@example(ANSWER.index(b"18:00"), 2, b"12", 0, 0, b"")
def test_for_any_change_an_answer_is_recognised_only_as_its_parsed_meaning(
    b1: int, s1: int, p1: bytes, b2: int, s2: int, p2: bytes
) -> None:
    raw = mutated(mutated(ANSWER, b1, s1, p1), b2, s2, p2)
    head = parse_response(ANSWER).varied(raw)
    if head is not None:
        assert said(head) == said(parse_response(raw))


def test_a_good_part_of_such_changes_is_known() -> None:
    chance, last, known = random.Random(1), parse_request(REQUEST, SETTINGS), 0
    for _ in range(1000):
        begin = REQUEST.index(b"traceparent") + 13 + chance.randrange(4)
        raw = mutated(REQUEST, begin, chance.randrange(1, 4), b"%x" % chance.randrange(1, 1 << 20))
        try:
            parsed = parse_request(raw, SETTINGS)
        except RouterError:
            continue
        head = last.varied(raw, MAX)
        known += head is not None and said(head) == said(parsed)
    assert known > 500


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"103 Early Hints"])
def test_the_length_of_an_answer_without_a_body_is_not_taken_for_one(status: bytes) -> None:
    before = replaced(ANSWER, (b"200 OK", status))
    raw = replaced(before, (b"Length: 5", b"Length: 7"))
    assert parse_response(before).varied(raw) is None and parse_response(raw).content_length == 0


def test_a_refused_answer_is_never_known() -> None:
    raw = replaced(ANSWER, (b"Time:  12", b"Time: \x01"))
    with pytest.raises(ReplicaFailed):
        parse_response(raw)
    assert parse_response(ANSWER).varied(raw) is None
