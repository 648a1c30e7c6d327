"""Declarations change under load: the change holds at once, and fails no unrelated request."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cluster.link import RemoveEndpoint, ResetAll, UpsertReplica
from serving.credentials import TokenTrust
from serving.endpoint import Auth, SplitBy
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, Client, get, request
from tests.integration.router.replicas import answers, silent, when
from tests.integration.router.rig import Rig, declared, endpoint, keys, version

Rigs = Callable[..., Awaitable[Rig]]

OLD, KEPT, NEW = "o" * 43, "k" * 43, "n" * 43


def with_key(key: str) -> bytes:
    return request(fields=(f"Authorization: Bearer {key}",))


@asynccontextmanager
async def load(rig: Rig, data: bytes, clients: int = 8) -> AsyncIterator[Counter[tuple[int, str]]]:
    """Clients without pause; yields the number of each status with its version."""
    counted: Counter[tuple[int, str]] = Counter()
    done = False

    async def ask() -> None:
        client = await rig.client()
        while not done:
            answer = await client.ask(data)
            counted[answer.status, "".join(answer.values("azureml-model-deployment"))] += 1

    tasks = [asyncio.create_task(ask(), name=f"client {number}") for number in range(clients)]
    try:
        yield counted
    finally:
        done = True
        await asyncio.gather(*tasks)


async def more(counted: Counter[tuple[int, str]], answers: int) -> None:
    """Wait until so many further answers have come."""
    enough = counted.total() + answers
    await eventually(lambda: counted.total() >= enough)


# ---- keys


async def test_a_replaced_key_is_refused_at_once_on_a_connection_that_it_had_opened(rig: Rig) -> None:
    replica = await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(OLD, KEPT)
    old, kept = await rig.client(), await rig.client()
    for _ in range(3):
        assert [(await old.ask(with_key(OLD))).status, (await kept.ask(with_key(KEPT))).status] == [200, 200]
    rig.lock(NEW, KEPT)
    assert (await old.ask(with_key(OLD))).status == 401
    assert (await kept.ask(with_key(KEPT))).status == 200
    assert (await old.ask(with_key(NEW))).status == 200
    assert len(replica.seen) == 8


async def test_the_other_key_works_on_while_one_is_replaced_under_load(rig: Rig) -> None:
    await rig.replica(slots=8)
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(OLD, KEPT)
    async with load(rig, with_key(KEPT)) as counted:
        for turn in range(20):
            await more(counted, 8)
            rig.lock(f"{turn:043}", KEPT)
    assert set(counted) == {(200, "blue")}


async def test_a_key_is_asked_for_from_the_moment_that_it_is_demanded(rig: Rig) -> None:
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(get())).status == 200
    rig.lock(KEPT)
    rig.declare(endpoint(auth=Auth.KEY))
    assert (await client.ask(get())).status == 401
    rig.declare(endpoint())
    assert (await client.ask(get())).status == 200


async def test_an_endpoint_that_demands_a_key_but_has_none_is_closed(rig: Rig) -> None:
    rig.declare(endpoint(auth=Auth.KEY))
    client = await rig.client()
    for key in (OLD, "", "None"):
        assert (await client.ask(with_key(key))).status == 401


# ---- endpoints and versions


async def test_a_removed_endpoint_is_404_at_once_and_its_keys_are_forgotten(rig: Rig) -> None:
    await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(OLD)
    client = await rig.client()
    assert (await client.ask(with_key(OLD))).status == 200
    rig.tell(RemoveEndpoint("iris"))
    assert (await client.ask(with_key(OLD))).status == 404
    rig.declare(endpoint(auth=Auth.KEY))
    assert (await client.ask(with_key(OLD))).status == 401


@pytest.mark.parametrize("what", ["version", "endpoint"])
async def test_tickets_of_a_removed_version_are_refused_and_running_requests_end(rig: Rig, what: str) -> None:
    go_on = asyncio.Event()
    rig.declare(endpoint(version(), version("green", 0.0, is_default=False)))
    await rig.replica(when(go_on), version="green")
    running, waiting, other = [await rig.client() for _ in range(3)]
    pinned = get(fields=("azureml-model-deployment: green",))
    running.send(pinned)
    await eventually(lambda: rig.busy("green"))
    waiting.send(pinned)
    await eventually(lambda: rig.waiting("green"))
    rig.tell(RemoveEndpoint("iris")) if what == "endpoint" else rig.declare(endpoint())
    answer = await waiting.answer()
    assert (answer.status, answer.code) == (503, "NoReadyReplicas")
    assert (await other.ask(pinned)).status == 404
    go_on.set()
    assert (await running.answer()).status == 200
    assert (await running.ask(pinned)).status == 404


async def test_changing_an_endpoint_under_load_fails_nothing(rig: Rig) -> None:
    await rig.replica(slots=4)
    await rig.replica(slots=4, version="green")
    async with load(rig, request()) as counted:
        for turn in range(30):
            await more(counted, 8)
            share = turn % 5 / 4
            both = version("blue", 1 - share), version("green", share, is_default=False)
            rig.declare(endpoint(*both, description=str(turn)))
    assert {status for status, _ in counted} == {200}
    assert {name for _, name in counted} == {"blue", "green"}


async def test_a_version_that_comes_and_goes_does_not_touch_the_others(rig: Rig) -> None:
    await rig.replica(slots=8)
    async with load(rig, request()) as counted:
        for turn in range(20):
            await more(counted, 8)
            extra = (version("green", 0.0, is_default=False),) if turn % 2 else ()
            rig.declare(endpoint(version(), *extra))
    assert set(counted) == {(200, "blue")}


async def test_a_new_split_holds_for_the_next_request_of_an_open_connection(rig: Rig) -> None:
    await rig.replica()
    await rig.replica(version="green")
    client = await rig.client()
    for shares in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
        blue, green = shares
        rig.declare(endpoint(version("blue", blue), version("green", green, is_default=False)))
        assert (await client.ask(get())).value("azureml-model-deployment") == ("blue" if blue else "green")


async def test_a_new_score_path_holds_for_the_next_request_of_an_open_connection(rig: Rig) -> None:
    replica = await rig.replica()
    client = await rig.client()
    for path in ("/score", "/predict", "/v2/infer"):
        rig.declare(endpoint(version(score_path=path)))
        await client.ask(get())
    assert [seen.target for seen in replica.seen] == [b"/score", b"/predict", b"/v2/infer"]


async def test_a_shorter_queue_wait_holds_for_queued_requests(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=60.0)))
    client = await rig.client()
    client.send(get())
    await eventually(rig.waiting)
    rig.declare(endpoint(version(queue_wait_s=0.05)))
    assert (await client.answer()).status == 503


async def test_a_shorter_scoring_timeout_holds_for_those_that_run_already(rig: Rig) -> None:
    await rig.replica(silent)
    client = await rig.client()
    client.send(get())
    await eventually(rig.busy)
    rig.declare(endpoint(version(scoring_timeout_s=0.05)))
    assert (await client.answer()).status == 504


# ---- the whole truth again


async def test_a_reset_keeps_unchanged_and_drops_absent_endpoints(rig: Rig) -> None:
    staying, going = await rig.replica(slots=4), await rig.replica(slots=4)
    trust = TokenTrust("https://issuer.test")
    rig.declare(endpoint(name="roses"))
    async with load(rig, request()) as counted:
        await more(counted, 20)
        rig.tell(ResetAll((endpoint(),), (), trust, (declared(rig.id_of(staying), staying.port, 4),)))
        await eventually(lambda: rig.id_of(going) not in rig.queue().replicas)
        seen = len(going.seen)
        await more(counted, 20)
    assert set(counted) == {(200, "blue")}
    assert len(going.seen) == seen
    assert (await (await rig.client()).ask(get(SCORE.replace("iris", "roses")))).status == 404


async def test_a_thousand_endpoints_of_six_versions_and_ten_thousand_replicas_are_served(rig: Rig) -> None:
    replica = await rig.replica(answers(b"found"))
    names = [f"e{number:03}" for number in range(1000)]
    versions = [version(f"v{number}", 1.0 if number == 0 else 0.0, is_default=number == 0) for number in range(6)]
    endpoints = tuple(endpoint(*versions, name=name, auth=Auth.KEY) for name in names)
    replicas = tuple(
        declared(f"{name}-{number}", replica.port, version=f"v{number % 6}", endpoint=name)
        for name in names
        for number in range(10)
    )
    digests = tuple(keys(KEPT, OLD, endpoint=name) for name in names)
    began_s = time.thread_time()  # CPU time, independent of other processes
    rig.tell(ResetAll(endpoints, digests, TokenTrust("https://issuer.test"), replicas))
    assert time.thread_time() - began_s < 3.0
    client = await rig.client()
    for name in names[::97]:
        data = with_key(KEPT).replace(b"/iris/", b"/%b/" % name.encode())
        answer = await client.ask(data)
        assert (answer.status, answer.body) == (200, b"found")
    began_s = time.thread_time()
    rig.tell(UpsertReplica(declared("one-more", replica.port, version="v0", endpoint="e500")))
    rig.lock(NEW, endpoint="e500")
    rig.declare(endpoint(*versions, name="e500"))
    assert time.thread_time() - began_s < 0.05, "a change costs by its own size, not by that of the table"


async def test_the_same_value_meets_the_same_version_and_none_is_drawn(rig: Rig) -> None:
    shares = (version("blue", 0.5), version("green", 0.5, is_default=False))
    rig.declare(endpoint(*shares, split_by=SplitBy(header="X-User")))
    await rig.replica(slots=8)
    await rig.replica(slots=8, version="green")
    client = await rig.client()
    first = {user: await met(client, user) for user in range(40)}
    assert set(first.values()) == {"blue", "green"}
    for user in reversed(range(40)):
        for u in (0.0, 0.9):
            rig.gateway.draw = itertools.repeat(u).__next__
            assert await met(client, user) == first[user]
            assert await met(await rig.client(), user) == first[user]
    # without the value, and pinned
    for u, drawn in ((0.0, "blue"), (0.9, "green")):
        rig.gateway.draw = itertools.repeat(u).__next__
        assert (await client.ask(get())).value("azureml-model-deployment") == drawn
    pinned = get(fields=("azureml-model-deployment: green", "X-User: 1"))
    assert {(await client.ask(pinned)).value("azureml-model-deployment") for _ in range(2)} == {"green"}


async def met(client: Client, user: int) -> str:
    """The version that answers a user."""
    return (await client.ask(get(fields=(f"X-User: {user}",)))).value("azureml-model-deployment")
