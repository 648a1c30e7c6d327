"""Forwarded request data for replicas, and references of replicas to their own origin."""

import pytest

from router.core.forwarding import Peer, PeerTrust, ReplicaOrigin, forwarded
from router.core.header_fields import Field

PREFIX = b"/api/v1/service/iris"
OWN = (PREFIX, b"/api/v1/endpoint/iris")


def fields(*lines: str) -> list[Field]:
    pairs = [line.split(": ", 1) for line in lines]
    return [(name.lower().encode(), name.encode(), value.encode()) for name, value in pairs]


CLAIMS = fields(
    *("X-Forwarded-For: 198.51.100.1, 198.51.100.2", "X-Forwarded-For: 203.0.113.3"),
    *("X-Forwarded-Proto: HTTPS", "X-Forwarded-Host: api.example.com", "X-Forwarded-Prefix: /ml/"),
)
CHAIN = b"198.51.100.1, 198.51.100.2, 203.0.113.3, 10.0.0.9"


def of(trust: PeerTrust, *lines: str) -> tuple[bytes, bytes, bytes, bytes]:
    """The chain, the scheme, the host and the prefix."""
    claims, peer = fields(*lines) if lines else CLAIMS, Peer(b"10.0.0.9", b"http", trust)
    trail = [value for name, _, value in claims if name == b"x-forwarded-for"]
    return (peer.chain(trail), *forwarded(claims, b"front:8080", peer))


def test_claims_of_a_trusted_proxy_are_kept_and_its_address_is_appended() -> None:
    assert of(PeerTrust.TRUSTED) == (CHAIN, b"https", b"api.example.com", b"/ml")


def test_claims_of_an_untrusted_peer_are_replaced() -> None:
    assert of(PeerTrust.UNTRUSTED) == (b"10.0.0.9", b"http", b"front:8080", b"")


def test_without_a_rule_only_the_trail_is_kept() -> None:
    assert of(PeerTrust.UNKNOWN) == (CHAIN, b"http", b"front:8080", b"")


@pytest.mark.parametrize(
    "line",
    [
        *("X-Forwarded-Proto: ftp", "X-Forwarded-Proto: ", "X-Forwarded-Host: a b", "X-Forwarded-Host: a/b"),
        *("X-Forwarded-Host: u@a", "X-Forwarded-Prefix: //evil.example", "X-Forwarded-Prefix: ml"),
        "X-Forwarded-Prefix: /a?b",
    ],
)
def test_a_claim_that_is_none_is_replaced_even_from_a_trusted_proxy(line: str) -> None:
    assert of(PeerTrust.TRUSTED, line) == (b"10.0.0.9", b"http", b"front:8080", b"")


def test_the_first_of_several_claims_counts() -> None:
    lines = ("X-Forwarded-Proto: https, http", "X-Forwarded-Host: a.example", "X-Forwarded-Host: b.example:81")
    assert of(PeerTrust.TRUSTED, *lines)[1:3] == (b"https", b"a.example")


def origin(proto: bytes = b"http", outer: bytes = b"", prefix: bytes = PREFIX) -> ReplicaOrigin:
    hosts = frozenset({b"Front.example:8080", b"model.internal", b"[::1]:8080"})
    return ReplicaOrigin(prefix, OWN, outer, proto, hosts, b"10.1.2.3:9400")


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        *(
            ("/items/", "/api/v1/service/iris/items/"),
            ("/", "/api/v1/service/iris/"),
            ("/a?b#c", "/api/v1/service/iris/a?b#c"),
        ),
        ("http://10.1.2.3:9400/items/", "/api/v1/service/iris/items/"),
        ("http://front.example:8080/items/?a=1", "/api/v1/service/iris/items/?a=1"),
        ("HTTP://FRONT.example:8080", "/api/v1/service/iris/"),
        ("http://model.internal:80/x", "/api/v1/service/iris/x"),
        ("http://[::1]:8080/x", "/api/v1/service/iris/x"),
        ("//front.example:8080/x", "/api/v1/service/iris/x"),
        ("http://10.1.2.3:9400?a=1", "/api/v1/service/iris/?a=1"),
        ("https://model.internal/x", "https://model.internal/api/v1/service/iris/x"),
    ],
)
def test_a_reference_to_the_own_origin_gets_the_prefix(sent: str, seen: str) -> None:
    assert origin().reference(sent.encode()).decode() == seen


@pytest.mark.parametrize(
    "sent",
    [
        *(
            "https://login.example/x",
            "//cdn.example/x",
            "http://10.1.2.3/x",
            "http://10.1.2.3:9401/x",
            "ftp://front.example:8080/",
        ),
        *(
            "https://10.1.2.3:9400/x",
            "items/",
            "?a=1",
            "#top",
            "",
            "mailto:a@b",
            "http://u@front.example:8080/",
            "///x",
        ),
        *(
            "/api/v1/service/iris/items",
            "/api/v1/endpoint/iris",
            "/api/v1/service/iris?x",
            "http://front.example:8080/api/v1/service/iris/x",
        ),
    ],
)
def test_other_references_stay_as_they_are(sent: str) -> None:
    assert origin().reference(sent.encode()).decode() == sent


def test_a_prefix_is_one_of_whole_segments() -> None:
    assert origin().reference(b"/api/v1/service/irises") == PREFIX + b"/api/v1/service/irises"


def test_a_pinned_prefix_is_kept_in_references() -> None:
    pinned = PREFIX + b"/versions/blue"
    assert origin(prefix=pinned).reference(b"/x") == pinned + b"/x"


def test_a_reference_to_http_behind_tls_keeps_the_scheme_of_the_client() -> None:
    assert origin(b"https").reference(b"http://model.internal/x") == PREFIX + b"/x"


@pytest.mark.parametrize(
    "sent", ["/x", "/ml/api/v1/service/iris/x", "/api/v1/service/iris/x", "http://10.1.2.3:9400/x"]
)
def test_the_prefix_of_a_trusted_proxy_comes_first_and_once(sent: str) -> None:
    assert origin(outer=b"/ml").reference(sent.encode()) == b"/ml" + PREFIX + b"/x"


@pytest.mark.parametrize(
    ("name", "sent", "seen"),
    [
        ("content-location", "/x", "/api/v1/service/iris/x"),
        ("refresh", "5; url=/x", "5; url=/api/v1/service/iris/x"),
        ("refresh", "0;URL='http://10.1.2.3:9400/x'", "0;URL='/api/v1/service/iris/x'"),
        *(("refresh", "5", "5"), ("refresh", "5; url=https://other.example/", "5; url=https://other.example/")),
        ("link", "</x>", "</x>"),
    ],
)
def test_fields_that_hold_a_reference(name: str, sent: str, seen: str) -> None:
    assert origin().rewritten(name.encode(), sent.encode()).decode() == seen
