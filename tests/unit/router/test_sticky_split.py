"""The split by a value of the request: exact shares, few moves, the same everywhere, fields and cookies."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.sticky_split import StickySplit
from router.core.table import Route
from serving.credentials import KeyDigests
from serving.endpoint import SplitBy
from tests.unit.router.records import endpoint, version

USERS = [b"user-%d" % number for number in range(20_000)]
BY_USER = SplitBy(header="X-User")
HALVES = {"a": 0.5, "b": 0.5}


def sticky(shares: dict[str, float], name: str = "iris") -> StickySplit:
    return StickySplit(name, BY_USER, {version.encode(): share for version, share in shares.items()})


def chosen(split: StickySplit) -> list[bytes]:
    return [split.choose(user) for user in USERS]


@pytest.mark.parametrize(
    "shares", [{"a": 0.8, "b": 0.2}, {"a": 0.1, "b": 0.3, "c": 0.6}, {"a": 0.99, "b": 0.01}, {"a": 1 / 3, "b": 2 / 3}]
)
def test_every_version_gets_its_share_of_the_values(shares: dict[str, float]) -> None:
    counts = Counter(chosen(sticky(shares)))
    for name, share in shares.items():
        deviation = (share * (1 - share) / len(USERS)) ** 0.5
        assert counts[name.encode()] / len(USERS) == pytest.approx(share, abs=4 * deviation)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ({"a": 0.8, "b": 0.2}, {"a": 0.6, "b": 0.4}, 0.2),
        ({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.5, "b": 0.1, "c": 0.4}, 0.2),
        ({"a": 0.8, "b": 0.2}, {"a": 0.7, "b": 0.2, "c": 0.1}, 0.1),
    ],
)
def test_a_change_of_shares_moves_few_values(before: dict[str, float], after: dict[str, float], moved: float) -> None:
    pairs = list(zip(chosen(sticky(before)), chosen(sticky(after)), strict=True))
    changed = [(old, new) for old, new in pairs if old != new]
    # proportional changes of the others move a few more than the difference of the shares
    assert moved * 0.9 <= len(changed) / len(USERS) <= moved * 1.45
    for old, new in changed:
        grown = after[new.decode()] / before.get(new.decode(), 1e-9)
        assert grown > after[old.decode()] / before[old.decode()]


def test_endpoints_split_independently() -> None:
    pairs = Counter(zip(chosen(sticky(HALVES, "one")), chosen(sticky(HALVES, "two")), strict=True))
    assert all(count / len(USERS) == pytest.approx(0.25, abs=0.02) for count in pairs.values())


@given(st.binary(min_size=1, max_size=200))
def test_the_order_of_the_versions_does_not_count(value: bytes) -> None:
    assert sticky({"a": 0.2, "b": 0.3, "c": 0.5}).choose(value) == sticky({"c": 0.5, "a": 0.2, "b": 0.3}).choose(value)


def test_a_value_keeps_its_version_over_releases() -> None:
    # fixed results: routers of two releases serve side by side during a rollout
    split = sticky(HALVES)
    assert [split.choose(b"user-%d" % number) for number in range(8)] == [
        b"b",
        b"a",
        b"a",
        b"b",
        b"b",
        b"b",
        b"a",
        b"b",
    ]


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([(b"x-user", b"X-User", b"ada")], b"ada"),
        ([(b"x-user", b"x-USER", b"ada"), (b"x-user", b"X-User", b"bob")], b"ada, bob"),
        ([(b"x-users", b"X-Users", b"ada")], b""),
        ([], b""),
    ],
)
def test_the_value_of_a_header_field(fields: list[tuple[bytes, bytes, bytes]], value: bytes) -> None:
    assert StickySplit("iris", BY_USER, {b"a": 0.5, b"b": 0.5}).value(fields) == value


@pytest.mark.parametrize(
    ("cookies", "value"),
    [
        ([b"uid=7"], b"7"),
        ([b"a=b; uid=7; c=d"], b"7"),
        ([b"a=b;uid=x=y"], b"x=y"),
        ([b"UID=7"], b""),
        ([b"xuid=7; uidx=8"], b""),
        ([b"uid"], b""),
        ([b"a=b", b"uid=9"], b"9"),
        ([], b""),
    ],
)
def test_the_value_of_a_cookie(cookies: list[bytes], value: bytes) -> None:
    split = StickySplit("iris", SplitBy(cookie="uid"), {b"a": 0.5, b"b": 0.5})
    assert split.value([(b"cookie", b"Cookie", cookie) for cookie in cookies]) == value


def test_an_endpoint_with_one_version_in_the_split_needs_no_value() -> None:
    declared = endpoint("iris", version("blue", 1.0), version("green", 0.0, default=False), split_by=BY_USER)
    assert Route(declared, KeyDigests("iris", ())).sticky is None
