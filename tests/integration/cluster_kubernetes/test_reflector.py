"""A reflector against everything that has gone wrong with watches, over real sockets."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.backoff import BackoffSettings
from cluster.kubernetes.client.cache import Object, ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.paths import PODS
from cluster.kubernetes.client.reflector import ReflectorSettings
from tests.fakes.clock import eventually
from tests.fakes.kubernetes_http import KubernetesServer, Script, Stream, client_of, kubernetes_server, line, status
from tests.integration.cluster_kubernetes.follower import PATH, following


@pytest.fixture
async def server() -> AsyncIterator[KubernetesServer]:
    async with kubernetes_server() as server:
        yield server


@pytest.fixture
async def api(server: KubernetesServer) -> AsyncIterator[Api]:
    async with client_of(server) as api:
        yield api


# ---- the usual


async def test_the_whole_list_comes_first_and_then_the_changes(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    async with following(api) as follower:
        await eventually(lambda: server.watches)
        server.put("b")
        server.put("a", image="new")
        server.remove("b")
        await eventually(lambda: len(follower.seen) == 4)
    assert [type(change) for change in follower.seen] == [ObjectsListed, ObjectPut, ObjectPut, ObjectGone]
    assert follower.known == server.pods == dict(follower.reflector.objects)
    assert len(server.lists) == len(server.watches) == 1


async def test_a_long_list_comes_in_pages_of_one_moment(server: KubernetesServer, api: Api) -> None:
    for number in range(25):
        server.put(f"p{number}")
    async with following(api, ReflectorSettings(page_objects=10)) as follower:
        await eventually(lambda: follower.known)
        assert follower.known == server.pods
    assert [bool(asked.query.get("continue")) for asked in server.lists] == [False, True, True]
    assert {asked.query["limit"] for asked in server.lists} == {"10"}


async def test_a_list_that_grows_too_old_between_two_pages_is_read_again_in_one_piece(
    server: KubernetesServer, api: Api
) -> None:
    for number in range(25):
        server.put(f"p{number}")
    first = await server.api.get(PATH, {"limit": "10"})
    server.plan += [lambda s: s.whole(200, first), lambda s: s.whole(410, status(410, "Expired"))]
    async with following(api, ReflectorSettings(page_objects=10)) as follower:
        await eventually(lambda: follower.known)
        assert follower.known == server.pods
    assert "limit" not in server.lists[-1].query


async def test_a_watch_asks_for_bookmarks_and_for_an_end_between_four_and_eight_minutes(
    server: KubernetesServer, api: Api
) -> None:
    async with following(api, u=lambda: 0.25):
        await eventually(lambda: server.watches)
    version = str(server.api.newest_version)
    query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": "300"}
    assert server.watches[0].query == query


async def test_a_bookmark_moves_the_start_of_the_next_watch(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    server.watch_plan.append(events(line("BOOKMARK", {"metadata": {"resourceVersion": "77"}})))
    async with following(api):
        await eventually(lambda: len(server.watches) == 2)
    assert server.watches[1].query["resourceVersion"] == "77"


async def test_a_watch_that_ends_in_good_time_begins_again_at_once(server: KubernetesServer, api: Api) -> None:
    server.watch_plan += [events()] * 5
    async with following(api) as follower:
        await eventually(lambda: len(server.watches) == 6)
    assert follower.clock.slept == []
    assert len(server.lists) == 1


async def test_keep_is_called_once_for_each_object(server: KubernetesServer, api: Api) -> None:
    server.put("a", long="x" * 1000)
    kept = []

    def keep(found: Object) -> Object:
        kept.append(found["metadata"]["name"])
        return {"metadata": found["metadata"]}

    async with following(api, keep=keep) as follower:
        await eventually(lambda: follower.known)
        server.put("b")
        await eventually(lambda: len(follower.known) == 2)
        assert all("spec" not in found for found in follower.reflector.objects.values())
    assert kept == ["a", "b"]


async def test_listed_objects_have_kinds_like_watched_ones(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    async with following(api) as follower:
        await eventually(lambda: follower.known)
        assert [(found["apiVersion"], found["kind"]) for found in follower.known.values()] == [("v1", "Pod")]


async def test_nothing_is_ready_before_the_first_list_is_done(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    release = asyncio.Event()

    async def late(stream: Stream) -> None:
        await release.wait()
        await stream.whole(200, await server.api.get(PATH))

    server.plan.append(late)
    async with following(api) as follower:
        await eventually(lambda: server.lists)
        assert not follower.reflector.synced and not follower.seen
        release.set()
        await eventually(lambda: follower.reflector.synced)


# ---- the failures of other clients' watches, one row each


def events(*lines: bytes, end: str = "end") -> Script:
    """A watch that tells these, and ends well, or is closed or reset wherever it is."""

    async def answer(stream: Stream) -> None:
        await stream.head()
        for each in lines:
            await stream.send(each)
        await asyncio.sleep(0.01)  # otherwise a reset overtakes the sent bytes
        if end == "end":
            await stream.end()
        elif end == "close":
            stream.close()
        else:
            stream.reset()

    return answer


async def silence(stream: Stream) -> None:
    await stream.head()
    await asyncio.sleep(60)


async def no_answer(stream: Stream) -> None:
    await asyncio.sleep(60)


async def refuse(stream: Stream) -> None:
    stream.reset()


def answer(code: int, *fields: str, body: object = None) -> Script:
    async def whole(stream: Stream) -> None:
        await stream.whole(code, status(code, "Whatever") if body is None else body, *fields)

    return whole


POD: dict[str, Any] = {
    "kind": "Pod",
    "metadata": {"namespace": "ns", "name": "half", "uid": "u", "resourceVersion": "9"},
}
HALF = line("ADDED", POD)[:40]

STAYS: dict[str, list[Script]] = {
    "an empty 200, again and again": [events()] * 20,
    "the end inside a line": [events(HALF)],
    "closed inside a line": [events(HALF, end="close")],
    "reset in the middle of the stream": [events(HALF, end="reset")],
    "a 429": [answer(429, "Retry-After: 3")],
    "a 500": [answer(500)],
    "two 500": [answer(500)] * 2,
    "a load balancer's page": [answer(503, body=b"<html>no healthy upstream</html>")],
    "an ERROR event of 500": [events(line("ERROR", status(500, "InternalError")))],
    "a connection that is reset at once": [refuse] * 5,
    "a token that is not yet good": [answer(401)] * 2,
}
LISTS_AGAIN: dict[str, list[Script]] = {
    "a 410": [answer(410)],
    "an ERROR event of 410": [events(line("ERROR", status(410, "Expired")))],
    "a 400, as for a version that makes no sense": [answer(400)],
    "a 403": [answer(403)],
    "an ERROR event of 403": [events(line("ERROR", status(403, "Forbidden")))],
    "a server set back in time: 504 for ever": [answer(504)] * 3,
    "a line that is not JSON": [events(b"<html>\n")],
    "a line that is no event": [events(b'{"kind": "Status"}\n')],
    "an object without a version": [events(line("ADDED", {"metadata": {"name": "x"}}))],
    "an event of a kind that nobody knows": [events(line("RENAMED", POD))],
    "an ERROR that says nothing": [events(b'{"type": "ERROR", "object": null}\n')],
    "an event over the limit": [events(b"x" * (9 * 1024 * 1024))],
}
SUDDEN = ReflectorSettings(sudden_s=1.0)


@pytest.mark.parametrize("scripts", STAYS.values(), ids=STAYS)
async def test_the_watch_continues_from_its_version_after(
    scripts: list[Script], server: KubernetesServer, api: Api
) -> None:
    server.put("a")
    server.watch_plan += scripts
    async with following(api, SUDDEN) as follower:
        await eventually(lambda: not server.watch_plan)
        server.put("b")
        server.remove("a")
        await eventually(lambda: follower.names == {"b"})
        assert follower.told(ObjectPut) == ["b"] and follower.told(ObjectGone) == ["a"]
        assert follower.reflector.last_error == ""
    assert len(server.lists) == 1
    assert follower.clock.slept and all(seconds >= 0.02 for seconds in follower.clock.slept)


@pytest.mark.parametrize("scripts", LISTS_AGAIN.values(), ids=LISTS_AGAIN)
async def test_the_difference_to_a_new_list_is_reported_after(
    scripts: list[Script], server: KubernetesServer, api: Api
) -> None:
    server.put("a")
    server.put("b")
    missed = asyncio.Event()

    async def first(stream: Stream) -> None:
        await missed.wait()
        await scripts[0](stream)

    server.watch_plan += [first, *scripts[1:]]
    async with following(api) as follower:
        await eventually(lambda: server.watches)
        server.remove("a")
        server.put("b", changed=True)
        server.put("c")
        missed.set()
        await eventually(lambda: follower.names == {"b", "c"})
        assert follower.told(ObjectGone) == ["a"] and sorted(follower.told(ObjectPut)) == ["b", "c"]
        server.put("d")
        await eventually(lambda: "d" in follower.names)
    assert len(server.lists) == 2
    assert len(follower.clock.slept) == len(scripts)


async def test_an_empty_answer_to_every_watch_is_no_hot_loop(server: KubernetesServer, api: Api) -> None:
    server.watch_plan += [events()] * 12
    async with following(api, SUDDEN, u=lambda: 0.999) as follower:
        await eventually(lambda: not server.watch_plan)
    assert sum(follower.clock.slept[:12]) > 100


@pytest.mark.parametrize("script", [silence, no_answer], ids=["in the middle", "from the start"])
async def test_a_peer_that_falls_silent_is_left_and_nothing_is_lost(
    script: Script, server: KubernetesServer, api: Api
) -> None:
    server.put("a")
    server.watch_plan.append(script)
    async with following(api, ReflectorSettings(silent_s=0.2)) as follower:
        await eventually(lambda: server.watches)
        server.put("b")
        await eventually(lambda: "b" in follower.names)
    assert 0.19 < server.watches[1].at - server.watches[0].at < 10
    assert len(server.lists) == 1


async def test_retry_after_of_the_server_is_waited(server: KubernetesServer, api: Api) -> None:
    server.plan.append(answer(429, "Retry-After: 7"))
    server.watch_plan.append(events(line("ERROR", status(429, "TooManyRequests", details={"retryAfterSeconds": 5}))))
    async with following(api) as follower:
        await eventually(lambda: len(server.watches) == 2)
    assert [int(seconds) for seconds in follower.clock.slept] == [7, 5]


@pytest.mark.parametrize(
    "script",
    [
        answer(500),
        answer(410),
        refuse,
        answer(200, body=b"<html>"),
        answer(200, body=[]),
        answer(200, body={"items": []}),
    ],
    ids=["500", "410", "reset", "HTML", "a JSON list", "no version"],
)
async def test_the_first_list_is_tried_again_as_a_watch_is(script: Script, server: KubernetesServer, api: Api) -> None:
    server.put("a")
    server.plan += [script] * 2
    async with following(api) as follower:
        await eventually(lambda: follower.names == {"a"})
        assert follower.seen and isinstance(follower.seen[0], ObjectsListed)
    assert follower.clock.slept


async def test_an_object_of_the_same_name_is_another_one(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    missed = asyncio.Event()

    async def first(stream: Stream) -> None:
        await missed.wait()
        await stream.whole(410, status(410, "Gone"))

    server.watch_plan.append(first)
    async with following(api) as follower:
        await eventually(lambda: server.watches)
        server.remove("a")
        server.put("a")
        missed.set()
        await eventually(lambda: len(follower.seen) == 3)
    assert [type(change) for change in follower.seen] == [ObjectsListed, ObjectGone, ObjectPut]


async def test_a_repeated_event_is_reported_once(server: KubernetesServer, api: Api) -> None:
    server.put("a")
    pod = {**POD, "metadata": {**POD["metadata"], "name": "b"}}
    dead = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "10"}}
    server.watch_plan.append(events(*[line("ADDED", pod)] * 2, line("MODIFIED", pod), *[line("DELETED", dead)] * 2))
    async with following(api) as follower:
        await eventually(lambda: len(server.watches) == 2)
    assert [type(change) for change in follower.seen] == [ObjectsListed, ObjectPut, ObjectGone]


async def test_an_unreadable_object_hides_no_other(server: KubernetesServer, api: Api) -> None:
    def keep(found: Object) -> Object:
        return {**found, "half": found["spec"]["number"] // 2}

    server.put("a", number="seven")
    server.put("b", number=2)
    async with following(api, keep=keep) as follower:
        await eventually(lambda: follower.names == {"b"})
        server.put("c")
        server.put("a", number=4)
        server.put("b", number="two")
        await eventually(lambda: follower.names == {"a"})
    assert follower.told(ObjectGone) == ["b"]


async def test_objects_that_are_not_kept_are_treated_as_absent(server: KubernetesServer, api: Api) -> None:
    server.put("a", mine=True)
    server.put("b", mine=False)
    async with following(api, keep=lambda found: found if found["spec"]["mine"] else None) as follower:
        await eventually(lambda: follower.names == {"a"})
        server.put("b", mine=True)
        server.put("a", mine=False)
        server.remove("a")
        await eventually(lambda: follower.names == {"b"})
    assert follower.told(ObjectGone) == ["a"] and follower.told(ObjectPut) == ["b"]


async def test_a_server_set_back_in_time_that_says_nothing_is_asked_for_a_new_list(
    server: KubernetesServer, api: Api
) -> None:
    server.put("a")
    server.watch_plan += [no_answer] * 2
    async with following(api, ReflectorSettings(silent_s=0.1)) as follower:
        await eventually(lambda: server.watches)
        server.put("b")
        await eventually(lambda: "b" in follower.names)
    assert len(server.lists) == 2


async def test_a_server_that_is_away_is_asked_every_few_seconds_and_heard_at_once_when_it_is_back(
    server: KubernetesServer, api: Api
) -> None:
    server.put("a")
    server.watch_plan += [refuse] * 40 + [answer(500)] * 2
    async with following(api, SUDDEN, u=lambda: 0.999) as follower:
        await eventually(lambda: not server.watch_plan, within_s=20)
        server.put("b")
        await eventually(lambda: "b" in follower.names)
    assert max(follower.clock.slept) <= 5.0
    assert follower.clock.slept[-2:] == pytest.approx([0.2, 0.4], abs=0.01)
    assert len(server.lists) == 1


async def test_the_age_is_that_of_the_last_word_and_the_error_says_why(server: KubernetesServer, api: Api) -> None:
    async with following(api) as follower:
        assert follower.reflector.age_s(follower.clock.now()) == float("inf")
        server.plan += [answer(500)] * 3
        await eventually(lambda: follower.reflector.synced)
        assert follower.reflector.age_s(follower.clock.now() + 5) == 5


async def test_why_the_api_is_not_heard_is_said_until_it_is(
    server: KubernetesServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan.append(
        answer(403, body=status(403, "Forbidden", message='pods is forbidden: User "router" cannot list'))
    )
    settings = ReflectorSettings(backoff=BackoffSettings(first_s=1e9, last_s=1e9))
    async with following(api, settings) as follower:
        gate = asyncio.Event()
        monkeypatch.setattr(follower.clock, "sleep", lambda seconds: gate.wait())
        await eventually(lambda: follower.reflector.last_error)
        assert "cannot list" in follower.reflector.last_error and "403" in follower.reflector.last_error
        gate.set()
        await eventually(lambda: follower.reflector.synced)
        assert follower.reflector.last_error == ""


# ---- at random


@pytest.mark.parametrize("compacts", [False, True], ids=["history kept", "history lost now and then"])
@pytest.mark.parametrize("seed", range(2))
async def test_ten_thousand_events_with_the_connection_cut_anywhere(seed: int, compacts: bool) -> None:
    chance = random.Random(seed)
    async with kubernetes_server() as server, client_of(server) as api:
        server.cuts = lambda: (int(chance.expovariate(1 / 6000)) + 1, chance.choice(("end", "close", "reset")))
        for number in range(100):
            server.put(f"p{number}")
        async with following(api, ReflectorSettings(sudden_s=0.0, page_objects=70), u=chance.random) as follower:
            await eventually(lambda: server.watches)
            start = server.api.newest_version
            for done in range(10_000):
                name = f"p{chance.randrange(200)}"
                if server.api.find(PODS, name) and chance.random() < 0.3:
                    server.remove(name)
                else:
                    server.put(name, n=done)
                if chance.random() < 0.02:
                    server.api.bookmark(PODS)
                if compacts and chance.random() < 0.002:
                    server.api.forget_history()
                server.expires_as_event = chance.random() < 0.5
                if done % 20 == 0:
                    await asyncio.sleep(0.001)
            await eventually(lambda: follower.known == server.pods, within_s=30)
        assert dict(follower.reflector.objects) == server.pods
        assert len(server.watches) > 50
        if compacts:
            assert len(server.lists) > 5
        else:
            told = [
                (type(each), each.object["metadata"]["resourceVersion"])
                for each in follower.seen[1:]
                if not isinstance(each, ObjectsListed)
            ]
            kinds = {"ADDED": ObjectPut, "MODIFIED": ObjectPut, "DELETED": ObjectGone}
            after = [event for event in server.api.events(PODS, start) if event[0] in kinds]
            assert told == [(kinds[kind], found["metadata"]["resourceVersion"]) for kind, found in after]
            assert len(server.lists) == 2


async def test_an_event_costs_little(server: KubernetesServer, api: Api) -> None:
    """A bound far above the cost (0.03 ms), so that only a blunder is caught."""
    pod = json.loads(
        json.dumps({**POD, "spec": {"containers": [{"name": f"c{n}", "image": "x" * 100} for n in range(20)]}})
    )
    lines = []
    for number in range(5000):
        pod["metadata"] |= {"name": f"p{number}", "uid": f"u{number}", "resourceVersion": str(number + 10)}
        lines.append(line("ADDED", pod))
    server.watch_plan.append(events(*[b"".join(lines[at : at + 50]) for at in range(0, 5000, 50)]))
    now = asyncio.get_running_loop().time
    began = now()
    async with following(api) as follower:
        await eventually(lambda: len(follower.known) == 5000, within_s=30)
    assert now() - began < 10
