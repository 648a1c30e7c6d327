"""A head recognised by its shape has the same meaning as if it were parsed, or is not recognised at all."""

import random
from typing import Any

import pytest

from router.core.dispatcher import Dispatcher
from router.core.forwarding import Peer, PeerTrust
from router.core.router_errors import RouterError
from router.core.table import Table
from router.metrics import WorkerStats
from router.proxy.head_shapes import FIRST_PATTERNS, MAX_PATTERNS, MAX_SHAPES, PATTERN_CREDIT
from router.proxy.request_head import RequestHead, parse_request
from router.proxy.request_plan import Planner
from router.proxy.request_shapes import RequestShapes
from router.proxy.response_head import ResponseHead, parse_response
from router.proxy.response_shapes import ResponseShapes
from router.proxy.responses import replica_lines
from router.settings import RouterSettings
from serving.credentials import KeyDigests
from serving.endpoint import Auth, Cors
from tests.integration.router.rig import endpoint, keys, version

SETTINGS = RouterSettings(max_body_bytes=1000)
ALICE, BOB = Peer(b"192.0.2.1", b"http"), Peer(b"192.0.2.2", b"http")
REQUEST = b"\r\n".join(
    [
        b"POST /api/v1/service/iris/score?a=1 HTTP/1.1",
        b"Host: x",
        b"Authorization: Bearer k",
        b"traceparent: 00-1",
        b"X-Ms-Client-Request-Id: one",
        b"Accept: */*",
        b"X-Twice: a",
        b"X-Twice: b",
        b"X-Forwarded-For: 10.0.0.1",
        b"Content-Length: 5\r\n\r\n",
    ]
)
ANSWER = b"\r\n".join(
    [
        b"HTTP/1.1 200 OK",
        b"Server: model",
        b"Date: Sun, 22 Nov 2026 18:00:00 GMT",
        b"X-Time: 12",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        b"Content-Length: 5\r\n\r\n",
    ]
)


def replaced(raw: bytes, *pairs: tuple[bytes, bytes]) -> bytes:
    for old, new in pairs:
        assert raw.count(old) == 1, old
        raw = raw.replace(old, new)
    return raw


def said(head: RequestHead | ResponseHead) -> dict[str, object]:
    """All values of a head for its users."""
    own = ("plan", "lines", "meaning", "names", "passed_lines", "rendered")
    names = (name for name in dir(head) if name[0] != "_" and name not in own)
    return {name: value for name in names if not callable(value := getattr(head, name))}


class Front:
    """The planners of one worker."""

    def __init__(self, most: int = 8, **declared: Any) -> None:
        self.table = Table()
        self.table.upsert(endpoint(version(), **{"auth": Auth.KEY, **declared}))
        self.table.set_keys(keys("k", "l"))
        self.heads = RequestShapes(SETTINGS, self.table, most)

    def planner(self, peer: Peer = ALICE) -> Planner:
        return Planner(self.table, Dispatcher(), WorkerStats(), peer, {}, {}, self.heads)

    def learn(self, raw: bytes, peer: Peer = ALICE) -> RequestHead:
        head = parse_request(raw, SETTINGS)
        self.planner(peer).plan(head, 0.0)
        return head

    def known(self, raw: bytes, peer: Peer = ALICE) -> RequestHead | None:
        return self.planner(peer).known(raw)


def rendered(planner: Planner, head: RequestHead) -> tuple[bytes, bytes]:
    """The lines for the replica and for the client."""
    assert head.plan is not None and head.plan.fixed is not None
    lines = planner.render(head, head.plan.fixed)
    return lines.upstream_head, lines.response_lines


def test_values_that_are_passed_on_the_query_and_the_length_may_differ() -> None:
    front = Front()
    front.learn(REQUEST)
    raw = replaced(
        REQUEST,
        *(
            (b"00-1", b"00: 2"),
            (b"-Id: one", b"-Id: two-3"),
            (b"10.0.0.1", b"10.0.0.22"),
            (b"Length: 5", b"Length: 17"),
        ),
        *((b"?a=1", b"?b?c"), (b"X-Twice: a", b"X-Twice: c")),
    )
    head, parsed = front.known(raw), parse_request(raw, SETTINGS)
    assert head is not None and said(head) == said(parsed)
    assert (head.client_request_id, head.content_length, head.query) == (b"two-3", 17, b"?b?c")
    planner = Front().planner()
    planner.plan(parsed, 0.0)
    assert rendered(front.planner(), head) == rendered(planner, parsed)


def test_a_query_may_be_there_or_not() -> None:
    front = Front()
    front.learn(REQUEST)
    head = front.known(replaced(REQUEST, (b"?a=1", b"")))
    assert head is not None and head.query == b""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/score", b"/other"),
        (b"POST", b"GET"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b" HTTP/1.1", b""),
        (b"?a=1 HTTP/1.1", b" HTTP/1.1?"),
        (b"?a=1", b"?a b"),
        (b"?a=1", b"?a#b"),
        (b"?a=1", b"?\xe9"),
        (b"Host: x", b"Host: y"),
        (b"Bearer k", b"Bearer l"),
        (b"traceparent: 00-1", b"traceparent : 00-1"),
        (b"traceparent: 00-1", b"traceparent:00-1"),
        (b"traceparent: 00-1", b"traceparent:x: 00-1"),
        (b"traceparent: 00-1", b"traceparent"),
        (b"traceparent", b"Traceparent"),
        (b"00-1", b""),
        (b"00-1", b" 00-1"),
        (b"00-1", b"00-1 "),
        (b"00-1", b"00\t-1"),
        (b"00-1", b"00\n-1"),
        (b"00-1", b"00\r-1"),
        (b"00-1", b"00\x00-1"),
        (b"00-1", b"00\r\n -1"),
        (b"Length: 5", b"Length: 0"),
        (b"Length: 5", b"Length: +5"),
        (b"Length: 5", b"Length: 5, 5"),
        (b"Length: 5", b"Length: 1001"),
        (b"Accept: */*\r\n", b""),
        (b"Accept: */*", b"Accept: */*\r\nX-New: 1"),
        (b"X-Twice: b\r\n", b""),
    ],
)
def test_what_decides_about_a_request_may_not_differ(old: bytes, new: bytes) -> None:
    front = Front()
    front.learn(REQUEST)
    assert front.known(REQUEST) is not None
    assert front.known(replaced(REQUEST, (old, new))) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Length: 5", b"Length: 0"),
        (b"00-1", b""),
        (b"00-1", b"00\t-1"),
        (b"t: 00-1", b"t:00-1"),
        (b"00-1", b"0" * 5000),
    ],
)
def test_an_unusual_request_is_not_learned(old: bytes, new: bytes) -> None:
    front = Front()
    front.learn(replaced(REQUEST, (old, new)))
    assert len(front.heads) == 0


def test_a_refused_request_is_not_learned() -> None:
    front = Front()
    with pytest.raises(RouterError):
        front.learn(replaced(REQUEST, (b"Bearer k", b"Bearer wrong")))
    assert len(front.heads) == 0


def test_the_address_and_trail_of_a_client_are_its_own() -> None:
    front = Front()
    front.learn(REQUEST)
    head = front.known(replaced(REQUEST, (b"10.0.0.1", b"10.0.0.2")), BOB)
    assert head is not None
    assert b"\r\nX-Forwarded-For: 10.0.0.2, 192.0.2.2\r\n" in rendered(front.planner(BOB), head)[0]


def test_a_head_is_known_for_the_same_kind_of_peer_only() -> None:
    front = Front()
    front.learn(REQUEST)
    assert front.known(REQUEST, Peer(b"192.0.2.1", b"https")) is None
    assert front.known(REQUEST, Peer(b"192.0.2.1", b"http", PeerTrust.TRUSTED)) is None


def test_what_a_trusted_proxy_says_of_host_and_scheme_decides() -> None:
    proxy, front = Peer(b"10.0.0.1", b"http", PeerTrust.TRUSTED), Front()
    raw = replaced(REQUEST, (b"Accept: */*", b"X-Forwarded-Host: a"))
    front.learn(raw, proxy)
    front.learn(raw, BOB)
    other = replaced(raw, (b"Host: a", b"Host: b"))
    assert front.known(other, proxy) is None and front.known(other, BOB) is not None


def test_the_origin_decides_where_other_origins_are_declared() -> None:
    raw = replaced(REQUEST, (b"Accept: */*", b"Origin: https://a.test"))
    other = replaced(raw, (b"a.test", b"b.test"))
    for cors, is_known in ((None, True), (Cors(("https://a.test",), (), 1), False)):
        front = Front(cors=cors)
        front.learn(raw)
        assert (front.known(other) is not None) is is_known


def test_a_change_of_the_table_forgets_all_heads() -> None:
    front = Front()
    front.learn(REQUEST)
    front.table.set_keys(KeyDigests("iris", ()))
    assert front.known(REQUEST) is None
    front.table.set_keys(keys("k", "l"))
    front.learn(replaced(REQUEST, (b"Host: x", b"Host: y")))
    assert len(front.heads) == 1


def test_the_known_heads_of_all_shapes_and_peers_are_bounded_together() -> None:
    front = Front(most=8)
    for number in range(FIRST_PATTERNS):
        raw = replaced(REQUEST, (b"X-Twice: a", b"X-%d: a" % number), (b"Host: x", b"Host: x%d" % (number % 7)))
        front.learn(raw, (ALICE, BOB)[number % 2])
        front.learn(raw, (ALICE, BOB)[number % 2])
        assert front.known(raw) is not None and len(front.heads) <= 8


def test_the_shapes_that_a_head_is_compared_with_are_bounded() -> None:
    front = Front(most=100)
    made = [replaced(REQUEST, (b"X-Twice: a", b"X-%d: a" % number)) for number in range(MAX_SHAPES + 3)]
    for raw in made:
        front.learn(raw)
    assert len(front.heads) == MAX_SHAPES
    assert [front.known(raw) is not None for raw in made] == [False] * 3 + [True] * MAX_SHAPES


def test_all_shapes_of_a_direction_are_bounded_together() -> None:
    front = Front(most=10 * MAX_PATTERNS)
    for number in range(20 * MAX_PATTERNS):
        more = b"X-%d: 1\r\n" % number * (1 + number % 12)
        front.learn(replaced(REQUEST, (b"X-Twice: a\r\n", more)))
        assert len(front.heads) <= MAX_PATTERNS
    assert len(front.heads) > 1


def test_a_client_that_invents_names_pays_for_their_patterns_with_heads_that_are_parsed() -> None:
    front, heads = Front(most=10_000), 64 * PATTERN_CREDIT
    known = 0
    for number in range(heads):
        raw = replaced(REQUEST, (b"X-Twice: a", b"X-%d: a" % number))
        front.learn(raw)
        known += front.known(raw) is not None
    assert FIRST_PATTERNS <= known <= FIRST_PATTERNS + heads // PATTERN_CREDIT


def test_a_change_of_the_table_costs_no_new_patterns() -> None:
    front = Front()
    for _ in range(2 * FIRST_PATTERNS):
        front.table.set_keys(keys("k", "l"))
        for name in (b"X-A", b"X-B"):
            raw = replaced(REQUEST, (b"Accept", name))
            front.learn(raw)
            assert front.known(raw) is not None


def known_answer(learned: bytes, raw: bytes) -> ResponseHead | None:
    heads = ResponseShapes(8)
    heads.learn(parse_response(learned))
    return heads.find(raw)


def test_an_answer_may_differ_in_date_length_and_fields_of_the_model() -> None:
    raw = replaced(ANSWER, (b"18:00:00", b"18:00:01"), (b"12", b"3.5"), (b"Length: 5", b"Length: 0"))
    head = known_answer(ANSWER, raw)
    parsed = parse_response(raw)
    assert head is not None and said(head) == said(parsed) and head.lines == replica_lines(parsed)
    assert list(head.names) == list(parsed.names)


def test_an_answer_with_a_reference_is_rendered_for_each_request() -> None:
    learned = replaced(ANSWER, (b"X-Time: 12", b"Location: /a"))
    head = known_answer(learned, replaced(learned, (b"/a", b"/b")))
    assert head is not None and head.lines == b"" and (b"location", b"Location", b"/b") in head.fields


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(
            (b"200 OK", b"201 OK"),
            (b"HTTP/1.1", b"HTTP/1.0"),
            (b"Length: 5", b"Length: x"),
            (b"Time: 12", b"Time: \x00"),
        ),
        *((b"Time: 12", b"Time: "), (b"Time: 12", b"Time:\t12"), (b"X-Time", b"X_Time"), (b"Server: model\r\n", b"")),
        (b"Length: 5", b"Length: " + b"9" * 19),
    ],
)
def test_what_decides_about_an_answer_may_not_differ(old: bytes, new: bytes) -> None:
    assert known_answer(ANSWER, replaced(ANSWER, (old, new))) is None


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"103 Early Hints"])
def test_an_answer_without_a_body_is_not_learned(status: bytes) -> None:
    raw = replaced(ANSWER, (b"200 OK", status))
    assert known_answer(raw, raw) is None


def test_a_good_part_of_usual_changes_is_known() -> None:
    chance, known, front = random.Random(1), 0, Front()
    front.learn(REQUEST)
    for _ in range(1000):
        value = bytes(chance.randrange(0x21, 0x7F) for _ in range(chance.randrange(1, 30)))
        known += front.known(replaced(REQUEST, (b"00-1", value))) is not None
    assert known > 950
