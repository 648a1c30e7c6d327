"""The meaning of a path: endpoint, version, and the path on the replica."""

import math
import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.router_errors import EndpointNotFound, RefusedRequest, VersionNotFound
from router.core.table import Route, Table
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import Auth, Endpoint, VersionKey
from serving.traffic import effective_shares
from tests.unit.router.records import endpoint, version

PREFIXES = ["/api/v1/service/", "/api/v1/endpoint/"]


@pytest.fixture
def table() -> Table:
    table = Table()
    table.upsert(endpoint("iris", version("blue", 0.8, score_path="/predict"), version("green", 0.2, default=False)))
    table.upsert(endpoint("iris-2"))
    return table


def split(percentiles: Mapping[str, float], default: str) -> Endpoint:
    shares = effective_shares(percentiles, default)
    return endpoint("iris", *(version(name, share, default=name == default) for name, share in shares.items()))


# ---- paths


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("rest", "on_replica"),
    [
        ("/score", "/predict"),
        ("/swagger.json", "/swagger.json"),
        ("/", "/"),
        ("//", "//"),
        ("/score/", "/score/"),
        ("/scores", "/scores"),
        ("/SCORE", "/SCORE"),
        ("/score;v=1", "/score;v=1"),
        ("/a/b%2Fc/d", "/a/b%2Fc/d"),
        ("/a//b", "/a//b"),
        ("/%73core", "/%73core"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b/...", "/a..b/..."),
        ("/v1/models/iris:predict", "/v1/models/iris:predict"),
        ("/versions", "/versions"),
        ("/versions/", "/versions/"),
    ],
)
def test_the_rest_of_the_path_goes_to_the_replica_and_score_becomes_the_score_path(
    table: Table, prefix: str, rest: str, on_replica: str
) -> None:
    match = table.match((prefix + "iris" + rest).encode())
    assert match.route.name == "iris" and match.pinned is None
    assert match.path_on(match.route.versions[b"blue"]) == on_replica.encode()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_version_may_be_named_in_the_path(table: Table, prefix: str) -> None:
    match = table.match((prefix + "iris/versions/green/score").encode())
    assert match.pinned is not None
    green = match.route.pinned(match.pinned)
    assert green.key == VersionKey("iris", "green") and match.path_on(green) == b"/score"
    match = table.match((prefix + "iris/versions/blue/swagger.json").encode())
    assert match.pinned == b"blue" and match.path_on(match.route.versions[b"blue"]) == b"/swagger.json"


def test_each_version_has_its_own_score_path(table: Table) -> None:
    match = table.match(b"/api/v1/service/iris/score")
    assert match.path_on(match.route.pinned(b"blue")) == b"/predict"
    assert match.path_on(match.route.pinned(b"green")) == b"/score"


@pytest.mark.parametrize("name", [b"red", b"", b"BLUE", b"blue ", b"..", b"%62lue"])
def test_a_version_that_does_not_exist_is_not_found(table: Table, name: bytes) -> None:
    with pytest.raises(VersionNotFound):
        table.match(b"/api/v1/service/iris/score").route.pinned(name)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/healthz",
        "/api/v1/service/",
        "/api/v1/service//score",
        "/api/v1/service/iris",
        "/api/v1/service/iris/versions/blue",
        "/api/v1/service/roses/score",
        "/api/v1/service/iri/score",
        "/api/v1/service/IRIS/score",
        "/api/v1/service/%69ris/score",
        "/api/v1/service/iris%2Fscore",
        "/api/v1/service/iris;x/score",
        "/api/v1/service/../service/iris/score",
        "//api/v1/service/iris/score",
        "/api/v1//service/iris/score",
        "/api/v1/SERVICE/iris/score",
        "/api/v1/services/iris/score",
        "/api/v2/service/iris/score",
        "/x/api/v1/service/iris/score",
        "/./api/v1/service/iris/score",
    ],
)
def test_a_path_that_is_not_exactly_that_of_an_endpoint_is_not_found(table: Table, path: str) -> None:
    with pytest.raises(EndpointNotFound):
        table.match(path.encode())


@pytest.mark.parametrize(
    "rest",
    [
        *("/.", "/..", "/../iris-2/score", "/./score", "/a/..", "/a/./b", "/%2e", "/%2E%2e/x", "/.%2e/x", "/%2E./x"),
        *("/..;/x", "/a/.;jsessionid=1/b", "/a/%2e%2e;x", "/score/..", "/versions/blue/../score"),
    ],
)
def test_dot_segments_are_refused_plain_or_encoded(table: Table, rest: str) -> None:
    with pytest.raises(RefusedRequest):
        table.match(b"/api/v1/service/iris" + rest.encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_matched_or_refused(table_path: bytes) -> None:
    table = Table()
    table.upsert(endpoint("iris"))
    for path in (table_path, b"/api/v1/service/iris/" + table_path):
        try:
            match = table.match(path)
        except (EndpointNotFound, RefusedRequest):
            continue
        blue = match.route.versions[b"blue"]
        assert path.endswith(match.path_on(blue)) and match.path_on(blue).startswith(b"/")


# ---- changes


def test_the_generation_rises_with_every_change(table: Table) -> None:
    seen = [table.generation]

    def risen() -> bool:
        seen.append(table.generation)
        return seen[-1] > seen[-2]

    table.upsert(endpoint("iris"))
    assert risen()
    table.set_keys(KeyDigests("iris", (b"1" * 32,)))
    assert risen()
    table.set_trust(TokenTrust("issuer"))
    assert risen()
    table.remove("iris")
    assert risen()


def test_an_endpoint_that_is_removed_is_not_found_and_its_keys_do_not_come_back_with_its_name(table: Table) -> None:
    table.set_keys(KeyDigests("iris", (b"1" * 32,)))
    table.remove("iris")
    table.remove("iris")
    with pytest.raises(EndpointNotFound):
        table.match(b"/api/v1/service/iris/score")
    assert table.names() == ["iris-2"] and table.endpoint("iris") is None
    table.upsert(endpoint("iris"))
    assert table.match(b"/api/v1/service/iris/score").route.keys.digests == ()


@pytest.mark.parametrize("keys_first", [True, False])
def test_keys_and_endpoints_may_come_in_either_order(keys_first: bool) -> None:
    table = Table()
    steps = [lambda: table.set_keys(KeyDigests("iris", (b"1" * 32, b"2" * 32))), lambda: table.upsert(endpoint("iris"))]
    for step in steps if keys_first else reversed(steps):
        step()
    assert table.match(b"/api/v1/service/iris/score").route.keys.digests == (b"1" * 32, b"2" * 32)


def test_a_regenerated_key_replaces_the_old_one_and_outlives_a_change_of_the_endpoint(table: Table) -> None:
    table.set_keys(KeyDigests("iris", (b"1" * 32, b"2" * 32)))
    table.set_keys(KeyDigests("iris", (b"3" * 32, b"2" * 32)))
    table.upsert(endpoint("iris"))
    assert table.match(b"/api/v1/service/iris/score").route.keys.digests == (b"3" * 32, b"2" * 32)
    assert table.match(b"/api/v1/service/iris-2/score").route.keys.digests == ()


def test_a_change_of_an_endpoint_replaces_all_of_it(table: Table) -> None:
    table.upsert(endpoint("iris", version("red"), auth=Auth.TOKEN))
    match = table.match(b"/api/v1/endpoint/iris/score")
    assert list(match.route.versions) == [b"red"] and match.route.auth is Auth.TOKEN


def test_a_thousand_endpoints_of_six_versions_are_each_found() -> None:
    table = Table()
    shares = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    for number in range(1000):
        versions = [version(f"v-{index}", share, default=index == 0) for index, share in enumerate(shares)]
        table.upsert(endpoint(f"model-{number}", *versions))
    for number in (0, 1, 10, 100, 999):
        for index in range(6):
            match = table.match(b"/api/v1/service/model-%d/versions/v-%d/score" % (number, index))
            assert match.pinned is not None
            assert match.route.pinned(match.pinned).key == VersionKey(f"model-{number}", f"v-{index}")


# ---- the split

NO_KEYS = KeyDigests("iris", ())
VECTORS = [
    ({"aaa": 20}, "aaa", {"aaa": 100}),
    ({"aaa": 20, "bbb": 10}, "aaa", {"aaa": 90, "bbb": 10}),
    ({"aaa": 20, "bbb": 40}, "bbb", {"aaa": 20, "bbb": 80}),
    ({"test": 10, "prod": 30, "third": 0}, "third", {"test": 10, "prod": 30, "third": 60}),
]


@pytest.mark.parametrize(("percentiles", "default", "expected"), VECTORS)
def test_shares_of_draws_are_those_of_the_contract(
    percentiles: dict[str, int], default: str, expected: dict[str, int]
) -> None:
    route = Route(split(percentiles, default), NO_KEYS)
    drawn = Counter(route.choose((number + 0.5) / 10_000).name.decode() for number in range(10_000))
    assert {name: count / 100 for name, count in drawn.items()} == expected
    chance = random.Random(7)
    drawn = Counter(route.choose(chance.random()).name.decode() for _ in range(10_000))
    for name, percent in expected.items():
        assert abs(drawn[name] / 100 - percent) < 1


def test_a_version_without_a_share_is_never_drawn_but_may_be_pinned() -> None:
    splits: list[tuple[dict[str, float], str]] = [
        ({"zero": 0, "all": 100}, "all"),
        ({"all": 100, "zero": 0}, "zero"),
        ({"zero": 0, "half": 50, "null": 0, "rest": 50, "last": 0}, "half"),
    ]
    for percentiles, default in splits:
        route = Route(split(percentiles, default), NO_KEYS)
        edges = [0.0, 0.25, 0.49999, 0.5, 0.75, 1 - 2**-53]
        assert not {route.choose(u).name for u in edges} & {b"zero", b"null", b"last"}
        assert route.pinned(b"zero").name == b"zero"


def test_a_version_with_all_traffic_needs_no_draw() -> None:
    assert not Route(split({"all": 100, "zero": 0}, "all"), NO_KEYS).split
    assert Route(split({"one": 50, "two": 50}, "one"), NO_KEYS).split


@given(st.lists(st.integers(0, 16), min_size=1, max_size=6))
def test_a_fine_grid_of_draws_reproduces_the_shares(percents: list[int]) -> None:
    names = [f"v-{index}" for index in range(len(percents))]
    declared = split(dict(zip(names, percents, strict=True)), names[0])
    route, steps = Route(declared, NO_KEYS), 2000
    drawn = Counter(route.choose(step / steps).key.version for step in range(steps))
    for each in declared.versions:
        assert abs(drawn[each.name] - each.share * steps) <= 2, each.name


def test_an_edge_belongs_to_the_next_version() -> None:
    route = Route(split({"aaa": 0, "bbb": 25, "ccc": 25, "ddd": 50}, "ddd"), NO_KEYS)
    draws = [0.0, math.nextafter(0.25, 0), 0.25, math.nextafter(0.5, 0), 0.5, math.nextafter(1, 0)]
    assert [route.choose(u).name for u in draws] == [b"bbb", b"bbb", b"ccc", b"ccc", b"ddd", b"ddd"]


def test_every_draw_falls_somewhere() -> None:
    route = Route(split({"one": 33.3, "two": 33.3, "three": 33.4}, "one"), NO_KEYS)
    assert [route.choose(u).name for u in (0.0, 1 - 2**-53)] == [b"one", b"three"]
