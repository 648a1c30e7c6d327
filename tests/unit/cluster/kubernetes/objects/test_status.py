"""The status of an endpoint: its contents, and the transitions of its conditions."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.objects.endpoint_status import (
    CONDITIONS,
    EndpointStatus,
    Trouble,
    VersionStatus,
    digests_of,
    selectors_of,
    status_of,
)
from cluster.kubernetes.objects.keys import digests_of as digests_of_keys
from cluster.kubernetes.objects.keys import incarnation_of
from controlplane import keys as made

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"
WELL = VersionStatus("blue", ready=2, desired=2, busy=1, waiting=0, needed=1)
SEEN = EndpointStatus("iris", 3, (WELL,), "blue", "http://front/api/v1/service/iris/score", {"primarySha256": "ab"})


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next(one for one in status["conditions"] if one["type"] == type_)


def holds(seen: EndpointStatus, type_: str) -> tuple[bool, str, str]:
    found = condition(status_of(None, seen, NOW), type_)
    return found["status"] == "True", found["reason"], found["message"]


def with_blue(**changes: Any) -> EndpointStatus:
    return replace(SEEN, versions=(replace(WELL, **changes),))


def test_a_status_gives_the_numbers_of_the_whole_and_of_every_version() -> None:
    green = VersionStatus("green", ready=1, desired=3, busy=1, waiting=7, selector="app=own")
    status = status_of(None, replace(SEEN, versions=(WELL, green)), NOW)
    assert (status["ready"], status["replicas"], status["observedGeneration"]) == ("3/5", 3, 3)
    assert status["defaultVersion"] == "blue"
    assert status["versions"] == [
        {
            **{"name": "blue", "ready": 2, "desired": 2, "busy": 1, "waiting": 0},
            "selector": "scorefront.io/endpoint=iris,scorefront.io/version=blue",
        },
        {"name": "green", "ready": 1, "desired": 3, "busy": 1, "waiting": 7, "selector": "app=own"},
    ]


def test_every_condition_is_always_there_in_the_same_order() -> None:
    assert [one["type"] for one in status_of(None, SEEN, NOW)["conditions"]] == list(CONDITIONS)
    assert [one["type"] for one in status_of(None, EndpointStatus("iris", 1), NOW)["conditions"]] == list(CONDITIONS)


def test_an_endpoint_that_is_as_declared_is_ready_and_nothing_else() -> None:
    assert [holds(SEEN, type_)[0] for type_ in CONDITIONS] == [True, *[False] * 5]


@pytest.mark.parametrize(
    ("seen", "type_", "words"),
    [
        (with_blue(limited="0/3 nodes are available"), "ScalingLimited", "blue: 0/3 nodes are available"),
        (with_blue(dropping="7 dropped"), "PayloadsDropped", "blue: 7 dropped"),
        (with_blue(conflict="HorizontalPodAutoscaler x"), "ScalingConflict", "blue: HorizontalPodAutoscaler x"),
        (with_blue(ready=1), "Progressing", "blue: 1 ready, 2 desired"),
        (with_blue(updating=True), "Progressing", "blue: 2 ready, 2 desired"),
        (replace(SEEN, trouble=Trouble("NameTaken", "name is taken by a/iris")), "Degraded", "taken by a/iris"),
    ],
)
def test_a_condition_holds_and_says_why(seen: EndpointStatus, type_: str, words: str) -> None:
    is_so, _, message = holds(seen, type_)
    assert is_so and words in message


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (with_blue(ready=0, message="no such image"), "blue: 0 of 1 ready: no such image"),
        (with_blue(ready=0), "blue: 0 of 1 ready: starting"),
        (replace(SEEN, versions=()), "nothing of it runs yet"),
    ],
)
def test_an_endpoint_is_not_ready_while_a_version_has_too_few(seen: EndpointStatus, words: str) -> None:
    is_so, _, message = holds(seen, "Ready")
    assert not is_so and words in message


def test_fewer_than_desired_but_enough_is_ready() -> None:
    assert holds(with_blue(desired=9), "Ready")[0]


def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    before = status_of(None, with_blue(ready=0, message="one thing"), THEN)
    same = status_of(before, replace(with_blue(ready=0, message="another thing"), generation=4), NOW)
    moved = status_of(before, SEEN, NOW)
    assert condition(same, "Ready")["lastTransitionTime"] == THEN
    assert "another thing" in condition(same, "Ready")["message"]
    assert condition(same, "Ready")["observedGeneration"] == 4
    assert condition(moved, "Ready")["lastTransitionTime"] == NOW
    assert condition(moved, "Degraded")["lastTransitionTime"] == THEN


versions = st.builds(
    VersionStatus,
    name=st.just("blue"),
    ready=st.integers(0, 2),
    desired=st.integers(0, 2),
    limited=st.sampled_from(["", "x"]),
    conflict=st.sampled_from(["", "y"]),
    updating=st.booleans(),
)
troubles = st.none() | st.builds(Trouble, st.just("Why"), st.text(max_size=3))
anything = st.builds(
    EndpointStatus, st.just("iris"), st.integers(1, 3), st.tuples(versions) | st.just(()), trouble=troubles
)


@given(anything)
def test_an_unchanged_status_is_written_the_same(seen: EndpointStatus) -> None:
    once = status_of(None, seen, THEN)
    assert status_of(once, seen, NOW) == once


@given(st.lists(anything, min_size=1, max_size=6))
def test_a_time_is_that_of_the_last_change_of_its_status(history: list[EndpointStatus]) -> None:
    status: dict[str, Any] | None = None
    expected: dict[str, tuple[str, str]] = {}
    for minute, seen in enumerate(history):
        now = f"2026-01-01T00:0{minute}:00Z"
        status = status_of(status, seen, now)
        for one in status["conditions"]:
            before = expected.get(one["type"])
            since = before[1] if before and before[0] == one["status"] else now
            expected[one["type"]] = (one["status"], since)
            assert one["lastTransitionTime"] == since


def test_a_long_message_is_cut() -> None:
    assert len(holds(with_blue(limited="x" * 9999), "ScalingLimited")[2]) == 2048


def test_the_keys_that_a_router_learns_are_those_of_the_secret() -> None:
    drawn = made.pair_from(bytes(range(80)))
    pair = replace(drawn, incarnation=incarnation_of("u-1", drawn.incarnation))
    seen = replace(SEEN, keys=digests_of_keys(pair.primary, pair.secondary), incarnation=pair.incarnation)
    cr = {"metadata": {"name": "iris", "uid": "u-1"}, "status": status_of(None, seen, NOW)}
    assert digests_of(cr) == made.digests("iris", pair)


@pytest.mark.parametrize(
    "keys", [None, {}, {"primarySha256": ""}, {"primarySha256": "ab"}, {"primarySha256": "zz" * 32}]
)
def test_an_invalid_digest_opens_nothing(keys: dict[str, str] | None) -> None:
    assert digests_of({"metadata": {"name": "iris"}, "status": {"keys": keys}}) is None
    assert digests_of({"metadata": {"name": "iris"}}) is None


def test_the_pods_of_a_version_are_found_by_the_selector_of_the_status() -> None:
    status = status_of(None, with_blue(selector="app=own"), NOW)
    assert selectors_of({"status": status}) == {"blue": "app=own"}
    assert selectors_of({}) == selectors_of({"status": {"versions": [{"name": "blue"}]}}) == {}
