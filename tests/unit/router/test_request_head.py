"""Request heads: ambiguous ones are refused, and the rest has one meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.router_errors import (
    BadRequest,
    CodingNotImplemented,
    HeadersTooLarge,
    MethodNotAllowed,
    PayloadTooLarge,
    RouterError,
    UriTooLong,
)
from router.proxy.partial_head import PartialRequestHead
from router.proxy.request_head import RequestHead, note_refused_head, parse_request
from router.settings import RouterSettings

SETTINGS = RouterSettings()
CLIENTS_FAULT = (BadRequest, CodingNotImplemented, HeadersTooLarge, MethodNotAllowed, PayloadTooLarge, UriTooLong)


def parse(*lines: str | bytes, request: str | bytes = "POST /score HTTP/1.1", host: bool = True) -> RequestHead:
    every = [request, *(["Host: x"] if host else []), *lines]
    return parse_request(b"".join(encoded(line) + b"\r\n" for line in every) + b"\r\n", SETTINGS)


def encoded(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("latin-1")


# ---- fields


def test_fields_are_kept_as_sent_with_their_names_in_lower_case_beside() -> None:
    head = parse("Accept: */*", "X-One:1", "X-One:  two \t", "X-Empty:", "X-Latin: caf\xe9")
    assert head.fields == [
        (b"host", b"Host", b"x"),
        (b"accept", b"Accept", b"*/*"),
        (b"x-one", b"X-One", b"1"),
        (b"x-one", b"X-One", b"two"),
        (b"x-empty", b"X-Empty", b""),
        (b"x-latin", b"X-Latin", b"caf\xe9"),
    ]
    assert head.size == len(head.raw)


def test_the_values_that_decide_are_taken_from_the_fields() -> None:
    head = parse(
        "Authorization: Bearer a",
        "authorization: Bearer b",
        "x-ms-client-request-id: mine",
        "x-ms-client-request-id: other",
        "Azureml-Model-Deployment: blue",
        "Expect: 100-Continue",
        "Connection: X-One, keep-alive",
    )
    assert head.authorization == (b"Bearer a", b"Bearer b")
    assert head.client_request_id == b"mine"
    assert head.pin == {b"blue"}
    assert head.expect_continue
    assert head.nominated == {b"x-one", b"keep-alive"}
    plain = parse()
    assert plain.authorization == () and plain.client_request_id == b"" and plain.pin == frozenset()
    assert not plain.expect_continue and not plain.web_socket


@pytest.mark.parametrize(
    "line",
    [
        *("X", "X one: a", "X : a", "X\t: a", ": a", " X: a", "\tX: a", "X(: a", "X\xe9: a", "X\x00: a", "X\x7f: a"),
        *("X: a\x00", "X: a\x01", "X: a\x0b", "X: a\x7f", "X: a\rb", "X: a\nb", "X: a\n\rb", "X: a\r"),
        *("X: a\r\n b", "X: a\r\n\tb", "X: a\r\n ", "X: a\nY: b", "X: a\rY: b"),
    ],
    ids=repr,
)
def test_a_line_that_is_no_field_is_refused(line: str) -> None:
    with pytest.raises(BadRequest):
        parse(line)
    with pytest.raises(BadRequest):
        parse(line, request="GET / HTTP/1.0")


# ---- the request line


@pytest.mark.parametrize(
    "line",
    [
        *("GET /", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.1 ", "GET / http/1.1"),
        *("GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "GET / HTTP/01.1", "/ HTTP/1.1"),
        *("GET / HTTP/1.10", "GET / HTTP/1,1", "GET /a b HTTP/1.1", "GET /\x00 HTTP/1.1", "GET /\xe9 HTTP/1.1"),
        *("GET  HTTP/1.1", "G@T / HTTP/1.1", "GET / HTTP/1.1\r", "", "GET", "\x16\x03\x01\x02\x00"),
        "A" * 65 + " / HTTP/1.1",
    ],
    ids=repr,
)
def test_a_request_line_that_is_not_of_http_1_is_refused(line: str) -> None:
    with pytest.raises(BadRequest):
        parse(request=line)


@pytest.mark.parametrize("method", ["FOO", "get", "Post", "GETT", "X-Y"])
def test_an_unknown_method_is_not_allowed(method: str) -> None:
    with pytest.raises(MethodNotAllowed):
        parse(request=f"{method} / HTTP/1.1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
def test_known_methods_are_read_and_judged_later(method: str) -> None:
    assert parse(request=f"{method} /x HTTP/1.1").method == method.encode()


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("/", "x", "/", ""),
        ("/score?a=b", "x", "/score", "?a=b"),
        ("/score?", "x", "/score", "?"),
        ("/a?b?c", "x", "/a", "?b?c"),
        ("//evil.example/a", "x", "//evil.example/a", ""),
        ("/%2e%2E/a%2Fb", "x", "/%2e%2E/a%2Fb", ""),
        ("/a;b=c", "x", "/a;b=c", ""),
        ("/\\a|b", "x", "/\\a|b", ""),
        ("http://y/score?a", "y", "/score", "?a"),
        ("HTTPS://y:8/score", "y:8", "/score", ""),
        ("http://y", "y", "/", ""),
        ("http://y?a", "y", "/", "?a"),
        ("http://[::1]:8/", "[::1]:8", "/", ""),
    ],
)
def test_the_target_is_taken_apart_and_not_changed_and_its_authority_counts(
    target: str, host: str, path: str, query: str
) -> None:
    head = parse(request=f"GET {target} HTTP/1.1")
    assert (head.host, head.path, head.query) == (host.encode(), path.encode(), query.encode())


@pytest.mark.parametrize(
    "target",
    [
        *("*", "a", "x:80", "?a", "/a#b", "#", "http://", "http:///a", "http:/a", "ftp://x/", "http://x/a#b", "//x#"),
        *("http://u@x/", "http://u:p@x/", "http://x:1:2/", "http://x y/", "javascript:x", "http:x"),
    ],
)
def test_any_other_form_of_target_is_refused(target: str) -> None:
    with pytest.raises(RouterError) as refusal:
        parse(request=f"GET {target} HTTP/1.1")
    assert refusal.value.status == 400


# ---- Host


@pytest.mark.parametrize(
    "host", ["x", "x:80", "x.example", "127.0.0.1:8080", "[::1]", "[fe80::1]:80", "", "x:", "a_b-c"]
)
def test_a_host_is_taken_as_it_is(host: str) -> None:
    assert parse(f"Host: {host}", host=False).host == host.encode()


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "u@h",
        "h:1:2",
        "h/p",
        "h?q",
        "h#f",
        "[::1",
        "::1",
        "h:x",
        "h:999999",
        "h\\i",
        '"h"',
        "h\xe9",
        "<h>",
    ],
)
def test_a_host_that_names_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadRequest):
        parse(f"Host: {host}", host=False)


def test_http_1_1_needs_exactly_one_host() -> None:
    for request in ("GET / HTTP/1.1", "GET / HTTP/1.0", "GET http://x/ HTTP/1.1"):
        with pytest.raises(BadRequest):
            parse("Host: x", "Host: x", host=False, request=request)
    with pytest.raises(BadRequest):
        parse(host=False)
    with pytest.raises(BadRequest):
        parse(host=False, request="GET http://x/ HTTP/1.1")
    assert parse(host=False, request="GET / HTTP/1.0").host == b"scorefront"


# ---- framing


def framing(head: RequestHead) -> tuple[int, bool, bool]:
    return head.content_length, head.chunked, head.has_body


def test_the_body_has_a_length_or_is_chunked_or_is_not_there() -> None:
    assert framing(parse()) == (0, False, False)
    assert framing(parse("Content-Length: 0")) == (0, False, False)
    assert framing(parse("Content-Length: 5")) == (5, False, True)
    assert framing(parse("content-length:007")) == (7, False, True)
    assert framing(parse("Transfer-Encoding: chunked")) == (0, True, True)
    assert framing(parse("Transfer-Encoding: Chunked ")) == (0, True, True)
    assert framing(parse("Content-Length: 5", request="GET / HTTP/1.1")) == (5, False, True)
    assert framing(parse("Content-Length: 5", request="POST / HTTP/1.0")) == (5, False, True)


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+1", "0x1", "1 1", "1,1", "1, 1", "1.0", "1e1", "1_0", "\xb2", "five", "9" * 19, "9" * 40, "1;"],
)
def test_a_length_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        parse(f"Content-Length: {value}")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5", "content-length: 0"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 0", "Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ],
)
def test_two_statements_about_the_length_of_a_body_are_refused(lines: list[str]) -> None:
    with pytest.raises(BadRequest):
        parse(*lines)


@pytest.mark.parametrize(
    "coding",
    [
        *("", "xchunked", "chunked;a=b", "chunked x", "chunked, gzip", "chunked, chunked", "chunk"),
        *(", chunked", "chunked,", '"chunked"', "x, chunked", "\x0bchunked", "chunked\x00", "CHUNKED, identity"),
    ],
)
def test_a_coding_after_chunked_or_unknown_is_refused(coding: str) -> None:
    with pytest.raises(BadRequest):
        parse(f"Transfer-Encoding: {coding}")


@pytest.mark.parametrize(
    "coding", ["gzip", "identity", "gzip, chunked", "deflate,chunked", "x-gzip , Chunked", "identity, chunked"]
)
def test_a_known_coding_other_than_chunked_is_not_implemented(coding: str) -> None:
    with pytest.raises(CodingNotImplemented):
        parse(f"Transfer-Encoding: {coding}")


@pytest.mark.parametrize("name", ["Transfer_Encoding", "Transfer-Encoding\x0b", "Content_Length", "X-Content-Length"])
def test_a_name_that_only_looks_like_framing_frames_nothing(name: str) -> None:
    try:
        head = parse(f"{name}: chunked")
    except BadRequest:
        return
    assert framing(head) == (0, False, False)


def test_http_1_0_knows_no_chunks() -> None:
    with pytest.raises(BadRequest):
        parse("Transfer-Encoding: chunked", request="POST / HTTP/1.0")


# ---- limits


def test_a_body_over_the_limit_is_refused_by_its_length() -> None:
    assert parse(f"Content-Length: {SETTINGS.max_body_bytes}").content_length == SETTINGS.max_body_bytes
    with pytest.raises(PayloadTooLarge):
        parse(f"Content-Length: {SETTINGS.max_body_bytes + 1}")


def test_a_target_over_the_limit_is_too_long() -> None:
    longest = "/" + "a" * (SETTINGS.max_target_bytes - 1)
    assert parse(request=f"GET {longest} HTTP/1.1").path == longest.encode()
    with pytest.raises(UriTooLong):
        parse(request=f"GET {longest}a HTTP/1.1")


def test_more_fields_than_the_limit_are_too_many() -> None:
    lines = [f"X-{number}: a" for number in range(SETTINGS.max_fields - 1)]
    assert len(parse(*lines).fields) == SETTINGS.max_fields
    with pytest.raises(HeadersTooLarge):
        parse(*lines, "X: a")


# ---- connections and upgrades


@pytest.mark.parametrize(
    ("version", "connection", "goes_on"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "keep-alive, close", False),
        ("1.1", "closed", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive, close", False),
    ],
)
def test_persistence_of_a_connection(version: str, connection: str | None, goes_on: bool) -> None:
    lines = [f"Connection: {connection}"] if connection else []
    assert parse(*lines, request=f"GET / HTTP/{version}").keep_alive is goes_on


def test_a_web_socket_is_asked_for_by_get_with_both_fields_and_nothing_else() -> None:
    asked = ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket"]
    get = "GET / HTTP/1.1"
    assert parse(*asked, request=get).web_socket
    assert not parse(*asked).web_socket
    assert not parse(*asked, request="GET / HTTP/1.0").web_socket
    assert not parse(asked[0], request=get).web_socket
    assert not parse(asked[1], request=get).web_socket
    assert not parse(asked[0], "Upgrade: h2c", request=get).web_socket
    assert not parse(*asked, "Upgrade: h2c", request=get).web_socket


def test_an_offer_to_upgrade_hides_no_field_and_no_body() -> None:
    head = parse("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x", "Content-Length: 3")
    assert len(head.fields) == 5 and head.content_length == 3


def test_only_http_1_1_gets_100_continue() -> None:
    assert parse("Expect: 100-continue").expect_continue
    assert not parse("Expect: 100-continue", request="POST / HTTP/1.0").expect_continue
    assert not parse("Expect: 200-ok").expect_continue


# ---- heads that are not whole yet

GOOD = (
    b"POST /api/v1/service/iris/score?a=b HTTP/1.1\r\nHost: x:80\r\nAuthorization: Bearer abc\r\n"
    b"Content-Type: application/json\r\nContent-Length: 17\r\nX-Latin: caf\xe9\r\n\r\n"
)


def test_no_beginning_of_a_good_head_is_refused() -> None:
    for size in range(len(GOOD)):
        PartialRequestHead(GOOD[:size], SETTINGS).find_end()


@pytest.mark.parametrize(
    "beginning",
    [
        *(b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rX", b"\nGET /", b"GET / HTTP/3\r\n", b"\x00"),
        *(b"GET / HTTP/1.1\r\nX: \x00", b"hello\r\n", b"GET / HTTP/1.1\r\nX: a\nY"),
    ],
)
def test_bytes_that_can_never_become_a_head_are_refused_at_once(beginning: bytes) -> None:
    with pytest.raises(BadRequest):
        PartialRequestHead(beginning, SETTINGS).find_end()


def test_endless_heads_are_refused_at_their_limit() -> None:
    line = b"GET /" + b"a" * SETTINGS.max_target_bytes
    PartialRequestHead(line, SETTINGS).find_end()
    with pytest.raises(UriTooLong):
        PartialRequestHead(line + b"a" * 200, SETTINGS).find_end()
    fields = b"GET / HTTP/1.1\r\nX: "
    fields += b"a" * (SETTINGS.max_head_bytes - len(fields))
    PartialRequestHead(fields, SETTINGS).find_end()
    with pytest.raises(HeadersTooLarge):
        PartialRequestHead(fields + b"a", SETTINGS).find_end()


# ---- anything at all


@given(st.integers(0, len(GOOD) - 5), st.binary(max_size=4), st.integers(0, 3))
def test_a_damaged_head_is_read_by_the_same_rules_or_refused_as_the_clients_fault(
    place: int, wrong: bytes, dropped: int
) -> None:
    raw = GOOD[:place] + wrong + GOOD[place + dropped : -4] + b"\r\n\r\n"
    try:
        head = parse_request(raw, SETTINGS)
    except CLIENTS_FAULT:
        return
    lines = raw[:-4].split(b"\r\n")
    assert len(head.fields) == len(lines) - 1
    for (name, sent, value), line in zip(head.fields, lines[1:], strict=True):
        assert (
            name == sent.lower() and line.partition(b":")[0] == sent and line.partition(b":")[2].strip(b" \t") == value
        )
    assert head.path.startswith(b"/") and not {0x20, 0x23} & set(head.path + head.query)


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_as_the_clients_fault(raw: bytes) -> None:
    for attempt in (raw, raw + b"\r\n\r\n", b"GET " + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n"):
        try:
            parse_request(attempt, SETTINGS)
            PartialRequestHead(attempt, SETTINGS).find_end()
        except CLIENTS_FAULT:
            continue


@pytest.mark.parametrize(
    "fault", ["Content-Length: x", "Transfer-Encoding: gzip", "Bad name: x", "Content-Length: 1e9"]
)
def test_a_refused_head_has_what_its_response_needs_whatever_was_wrong(fault: str) -> None:
    with pytest.raises(RouterError) as refused:
        parse("ORIGIN:  https://a.example ", fault, "X-Ms-Client-Request-Id: mine", request="HEAD /a?b HTTP/1.1")
    error = refused.value
    assert (error.method, error.path) == (b"HEAD", b"/a")
    assert (error.origin, error.client_request_id) == (b"https://a.example", b"mine")


def test_a_head_refused_before_its_end_has_what_has_come() -> None:
    error = HeadersTooLarge()
    note_refused_head(error, bytearray(b"GET /a HTTP/1.1\r\nx-ms-client-request-id: mine\r\nOrigin: https://a.exa"))
    assert (error.method, error.path, error.client_request_id, error.origin) == (b"GET", b"/a", b"mine", b"")


def test_two_origins_are_none_and_fields_behind_the_head_do_not_count() -> None:
    error = HeadersTooLarge()
    origin = b"Origin: https://a.example\r\n"
    note_refused_head(error, b"GET /a HTTP/1.1\r\n" + origin + b"\r\nx\r\n" + origin)
    assert error.origin == b"https://a.example"
    note_refused_head(error, b"GET /a HTTP/1.1\r\n" + origin + origin + b"\r\n")
    assert error.origin == b""


@pytest.mark.parametrize("lines", [("blue", "blue"), ("blue, blue",), ("", "blue"), ("blue,",), (" blue ",)])
def test_equal_pins_are_one_in_fields_of_their_own_or_in_a_list(lines: tuple[str, ...]) -> None:
    assert parse(*(f"azureml-model-deployment: {line}" for line in lines)).pin == {b"blue"}


def test_different_pins_in_a_list_are_two() -> None:
    assert parse("azureml-model-deployment: blue, green").pin == {b"blue", b"green"}
