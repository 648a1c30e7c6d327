"""Response heads: permitted ones, and those that must not be passed on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.router_errors import ReplicaFailed
from router.proxy.response_head import ResponseHead, parse_response


def parse(*lines: str, status: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response("".join(line + "\r\n" for line in (status, *lines, "")).encode("latin-1"))


def framing(head: ResponseHead) -> tuple[int, bool, bool]:
    return head.content_length, head.chunked, head.until_close


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("HTTP/1.1 200 OK", 200, b"OK"),
        ("HTTP/1.0 404 Not Found", 404, b"Not Found"),
        ("HTTP/1.1 299 Very: well!", 299, b"Very: well!"),
        ("HTTP/1.1 503 ", 503, b""),
        ("HTTP/1.1 503", 503, b""),
        ("HTTP/1.1 418 caf\xe9", 418, b"caf\xe9"),
        ("HTTP/1.1 599 x", 599, b"x"),
    ],
)
def test_status_and_reason_are_those_of_the_replica(line: str, status: int, reason: bytes) -> None:
    head = parse("Content-Length: 0", status=line)
    assert (head.status, head.reason) == (status, reason)


@pytest.mark.parametrize(
    "line",
    [
        *("HTTP/1.1 099 x", "HTTP/1.1 600 x", "HTTP/1.1 20 x", "HTTP/1.1 2000 x", "HTTP/2.0 200 OK", "HTTP/3.7 200 OK"),
        *("HTTP/1.1  200 OK", "HTTP/1.1 200\tOK", "http/1.1 200 OK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 -20 x", "200 OK"),
        *("", "<html>", "ICY 200 OK", "HTTP/1.1 200 O\rK", "HTTP/1.1 +20 x"),
    ],
    ids=repr,
)
def test_an_answer_other_than_http_1_is_a_failed_replica(line: str) -> None:
    with pytest.raises(ReplicaFailed):
        parse("Content-Length: 0", status=line)


@pytest.mark.parametrize(
    "line",
    ["X", "X : a", ": a", " X: a", "X: a\x00", "X: a\rb", "X: a\nb", "X: a\r\n b", "X\xe9: a", "X y: a"],
    ids=repr,
)
def test_a_line_that_is_no_field_is_a_failed_replica(line: str) -> None:
    with pytest.raises(ReplicaFailed):
        parse(line)


def test_the_body_has_a_length_or_is_chunked_or_lasts_until_the_end_of_the_connection() -> None:
    assert framing(parse("Content-Length: 5")) == (5, False, False)
    assert framing(parse("Content-Length: 0")) == (0, False, False)
    assert framing(parse("Transfer-Encoding: CHUNKED")) == (0, True, False)
    assert framing(parse()) == (0, False, True)
    assert framing(parse(status="HTTP/1.0 200 OK")) == (0, False, True)


@pytest.mark.parametrize("status", ["204 x", "304 x", "100 x", "103 x"])
def test_some_answers_have_no_body_for_any_content_length(status: str) -> None:
    for lines in (["Content-Length: 5"], []):
        assert framing(parse(*lines, status=f"HTTP/1.1 {status}")) == (0, False, False)


def test_a_switch_of_protocols_is_read_as_an_answer() -> None:
    head = parse("Upgrade: websocket", "Connection: Upgrade", status="HTTP/1.1 101 Switching Protocols")
    assert head.status == 101 and head.nominated == {b"upgrade"}


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "Transfer-Encoding: gzip"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: "],
        ["Content-Length: "],
        ["Content-Length: -1"],
        ["Content-Length: +1"],
        ["Content-Length: 5, 5"],
        ["Content-Length: 0x5"],
        ["Content-Length: " + "9" * 30],
    ],
)
def test_an_answer_with_an_ambiguous_end_is_not_forwarded(lines: list[str]) -> None:
    with pytest.raises(ReplicaFailed):
        parse(*lines)


@pytest.mark.parametrize(
    "lines",
    [["Content-Length: 5", "Transfer-Encoding: chunked"], ["TRANSFER-ENCODING: Chunked", *["content-length: 1"] * 2]],
)
@pytest.mark.parametrize("turned", [False, True])
def test_chunks_override_a_length_and_the_connection_is_not_used_again(lines: list[str], turned: Any) -> None:
    head = parse(*(reversed(lines) if turned else lines))
    assert head.chunked and not head.keep_alive and "both Content-Length" in head.broken_rule
    assert b"content-length" not in head.names


def test_an_answer_of_http_1_0_has_no_chunks() -> None:
    with pytest.raises(ReplicaFailed):
        parse("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    ("version", "lines", "goes_on"),
    [
        ("1.1", ["Content-Length: 0"], True),
        ("1.1", ["Content-Length: 0", "Connection: close"], False),
        ("1.0", ["Content-Length: 0"], False),
        ("1.0", ["Content-Length: 0", "Connection: keep-alive"], True),
        ("1.1", ["Transfer-Encoding: chunked"], True),
        ("1.1", [], False),
        ("1.0", ["Connection: keep-alive"], False),
    ],
)
def test_reuse_of_the_connection_to_the_replica(version: str, lines: list[str], goes_on: bool) -> None:
    assert parse(*lines, status=f"HTTP/{version} 200 OK").keep_alive is goes_on


GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\nSet-Cookie: a=b\r\n\r\n"


@given(st.integers(0, len(GOOD) - 5), st.binary(max_size=4), st.integers(0, 3))
def test_a_damaged_head_is_read_by_the_same_rules_or_fails_the_replica(place: int, wrong: bytes, dropped: int) -> None:
    raw = GOOD[:place] + wrong + GOOD[place + dropped : -4] + b"\r\n\r\n"
    raw = raw[: raw.index(b"\r\n\r\n") + 4]  # a head ends at its first empty line, and is cut there before it is parsed
    try:
        head = parse_response(raw)
    except ReplicaFailed:
        return
    lines = raw[:-4].split(b"\r\n")
    assert len(head.fields) == len(lines) - 1
    for (_, sent, value), line in zip(head.fields, lines[1:], strict=True):
        assert line.partition(b":")[0] == sent and line.partition(b":")[2].strip(b" \t") == value


@given(st.binary(max_size=80))
def test_any_bytes_fail_the_replica_and_nothing_else(raw: bytes) -> None:
    for attempt in (raw, raw + b"\r\n\r\n", b"HTTP/1.1 200 " + raw + b"\r\n\r\n"):
        try:
            parse_response(attempt)
        except ReplicaFailed:
            continue
