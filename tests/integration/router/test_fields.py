"""Forwarding of paths, queries and header fields both ways, and the version of each."""

from collections import Counter

import pytest

from serving.endpoint import Auth
from tests.integration.router.clients import SCORE, Client, get, request
from tests.integration.router.logged_requests import LoggedRequests
from tests.integration.router.replicas import Replica, answers, plays
from tests.integration.router.rig import Rig, endpoint, version

KEY = "k" * 43


async def sent_on(rig: Rig, replica: Replica, data: bytes) -> bytes:
    """The head that the replica gets when a client sends these bytes."""
    before = len(replica.seen)
    assert (await (await rig.client()).ask(data)).status == 200
    assert len(replica.seen) == before + 1
    return replica.seen[-1].raw_head


# ---- targets


@pytest.mark.parametrize("kind", ["service", "endpoint"])
@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("/score", b"/predict"),
        ("/score?a=1&b=%20c", b"/predict?a=1&b=%20c"),
        ("/score?", b"/predict?"),
        ("/swagger.json", b"/swagger.json"),
        ("/swagger.json?version=3", b"/swagger.json?version=3"),
        ("/", b"/"),
        ("/v2/models/a%2Fb/infer", b"/v2/models/a%2Fb/infer"),
        ("/score/", b"/score/"),
        ("//score", b"//score"),
        ("/versions/blue/score?q", b"/predict?q"),
        ("/versions/blue/other", b"/other"),
    ],
)
async def test_paths_become_those_of_the_replica_and_queries_travel(
    rig: Rig, kind: str, rest: str, target: bytes
) -> None:
    rig.declare(endpoint(version(score_path="/predict")))
    replica = await rig.replica()
    await sent_on(rig, replica, get(f"/api/v1/{kind}/iris{rest}"))
    assert replica.seen[0].target == target


async def test_a_target_in_absolute_form_is_routed_by_its_path_and_its_authority_is_the_host(rig: Rig) -> None:
    replica = await rig.replica()
    await sent_on(rig, replica, get(f"http://scores.example:81{SCORE}?x=1"))
    assert replica.seen[0].target == b"/score?x=1"
    assert replica.seen[0].value(b"host") == b"scores.example:81"


# ---- to the replica


async def test_hop_by_hop_and_nominated_fields_stay_behind(rig: Rig) -> None:
    replica = await rig.replica()
    gone = (
        *("Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: timeout=5", "Proxy-Connection: close"),
        *("TE: trailers", "Trailer: X-Sum", "Upgrade: h2c", "HTTP2-Settings: AAMA", "Proxy-Authorization: Basic eDp5"),
    )
    head = await sent_on(rig, replica, request(fields=(*gone, "X-Stays: 1", "X-Stays: 2")))
    names = [name for name, _ in replica.seen[0].fields]
    for line in gone:
        assert line.split(":")[0].lower().encode() not in names, head
    assert replica.seen[0].values(b"x-stays") == [b"1", b"2"]


async def test_a_client_cannot_nominate_away_fields_that_frame_the_request(rig: Rig) -> None:
    replica = await rig.replica()
    nominated = "Host, Content-Length, Content-Type, X-Forwarded-For, X-ms-request-id, Via, Authorization"
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(KEY)
    fields = (f"Connection: {nominated}", "Content-Type: application/json", f"Authorization: Bearer {KEY}")
    await sent_on(rig, replica, request(b"body", fields=fields))
    seen = replica.seen[0]
    assert (seen.value(b"host"), seen.value(b"content-type"), seen.body) == (b"front", b"application/json", b"body")
    assert seen.value(b"x-forwarded-for") == b"127.0.0.1"
    assert seen.value(b"x-ms-request-id") and seen.value(b"via")


async def test_the_replica_gets_the_forwarded_fields_with_the_clients_claims_replaced_or_appended(rig: Rig) -> None:
    replica = await rig.replica()
    claims = (
        *("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil"),
        *("X-Forwarded-Port: 1", "X-Forwarded-Prefix: /x", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6"),
    )
    await sent_on(rig, replica, request(fields=claims))
    seen = replica.seen[0]
    assert seen.value(b"x-forwarded-for") == b"6.6.6.6, 7.7.7.7, 127.0.0.1"
    assert seen.value(b"x-forwarded-proto") == b"http"
    assert seen.value(b"x-forwarded-host") == b"front"
    assert seen.value(b"x-forwarded-prefix") == b"/api/v1/service/iris"
    for name in (b"x-forwarded-port", b"x-real-ip", b"forwarded"):
        assert seen.values(name) == []


async def test_via_is_appended_to_the_others(rig: Rig) -> None:
    replica = await rig.replica()
    await sent_on(rig, replica, request(fields=("Via: 1.1 cdn",)))
    assert b", ".join(replica.seen[0].values(b"via")) == b"1.1 cdn, 1.1 scorefront"


@pytest.mark.parametrize(
    "name",
    [
        *("X_Forwarded_For", "X-Forwarded_Proto", "x_real_ip", "Content_Length", "Transfer_Encoding", "Authorization_"),
        *("x_ms_request_id", "azureml_model_deployment", "X_MS_anything"),
    ],
)
async def test_look_alikes_with_underscores_are_dropped(rig: Rig, name: str) -> None:
    replica = await rig.replica()
    head = await sent_on(rig, replica, request(fields=(f"{name}: 1", "my_own: 2")))
    assert replica.seen[0].value(b"my_own") == b"2"
    if name != "Authorization_":  # with a dash at its end it is nobody's name
        assert name.lower().encode() not in head.lower()


async def test_the_routers_own_fields_are_not_forwarded(rig: Rig) -> None:
    replica = await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(KEY)
    fields = (f"Authorization: Bearer {KEY}", "azureml-model-deployment: blue", "Expect: 100-continue")
    head = await sent_on(rig, replica, request(fields=fields))
    assert KEY.encode() not in head
    names = {name for name, _ in replica.seen[0].fields}
    assert not names & {b"authorization", b"azureml-model-deployment", b"expect"}


async def test_a_repeated_head_is_sent_on_the_same_but_for_its_id(rig: Rig) -> None:
    replica = await rig.replica()
    client = await rig.client()
    data = request(b"same", SCORE + "?q=1", fields=("X-A: 1", "x-ms-client-request-id: me"))
    for _ in range(3):
        assert (await client.ask(data)).status == 200
    heads = {seen.raw_head.replace(seen.value(b"x-ms-request-id"), b"ID") for seen in replica.seen}
    assert len(heads) == 1
    assert len({seen.value(b"x-ms-request-id") for seen in replica.seen}) == 3


async def test_a_get_is_sent_on_without_a_length_and_an_empty_post_with_one(rig: Rig) -> None:
    replica = await rig.replica()
    await sent_on(rig, replica, get())
    await sent_on(rig, replica, request(None))
    assert [seen.values(b"content-length") for seen in replica.seen] == [[], [b"0"]]


async def test_no_credential_and_no_query_reaches_the_access_log(rig: Rig) -> None:
    await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(KEY)
    log = LoggedRequests(rig)
    client = await rig.client()
    for key in (KEY, "wrong" * 8):
        await client.ask(get(f"{SCORE}?secret=q", (f"Authorization: Bearer {key}", 'x-ms-client-request-id: a"b\\c')))
    records = log.read()
    assert [(each["status"], each["path"], each["clientId"]) for each in records] == [
        (200, SCORE, "abc"),
        (401, SCORE, "abc"),
    ]
    assert not any(word in str(records) for word in (KEY, "wrong", "secret"))


async def test_a_client_request_id_is_cut_in_the_access_log_as_it_is_in_the_answer(rig: Rig) -> None:
    await rig.replica()
    log = LoggedRequests(rig)
    client = await rig.client()
    answer = await client.ask(get(fields=(f"x-ms-client-request-id: {'a' * 39}/bc{'d' * 500}",)))
    assert log.read()[0]["clientId"] == answer.value("x-ms-client-request-id") == "a" * 39 + "b"


# ---- to the client


async def test_hop_by_hop_and_nominated_fields_of_a_replica_stay_behind(rig: Rig) -> None:
    gone = ("Connection: X-Secret", "X-Secret: 1", "Keep-Alive: timeout=9", "Proxy-Authenticate: Basic", "Upgrade: h2c")
    await rig.replica(answers(fields=(*gone, "Set-Cookie: a=1", "Set-Cookie: b=2", "Server: model")))
    answer = await (await rig.client()).ask(get())
    names = {name for name, _ in answer.fields}
    assert not names & {line.split(":")[0].lower() for line in gone}
    assert answer.values("set-cookie") == ["a=1", "b=2"]
    assert answer.value("server") == "model"


async def test_a_replica_cannot_speak_for_the_router(rig: Rig) -> None:
    claims = (
        *("x-ms-request-id: forged", "x-ms-client-request-id: forged", "azureml-model-deployment: forged"),
        *("x-ms-error-code: Forged", "X_Ms_Request_Id: forged"),
    )
    await rig.replica(answers(fields=claims))
    answer = await (await rig.client()).ask(get())
    assert "forged" not in str(answer.fields).lower()
    assert answer.value("azureml-model-deployment") == "blue"


# ---- versions


async def shares(client: Client, draws: list[float], rig: Rig, data: bytes) -> Counter[str]:
    """Version of each response, one for each draw."""
    chosen: Counter[str] = Counter()
    for u in draws:
        rig.gateway.draw = iter([u]).__next__
        chosen[(await client.ask(data)).value("azureml-model-deployment")] += 1
    return chosen


async def three_versions(rig: Rig) -> dict[str, Replica]:
    rig.declare(
        endpoint(
            version("blue", 0.7, slots_per_replica=4),
            version("green", 0.3, is_default=False),
            version("dark", 0.0, is_default=False),
        )
    )
    return {name: await rig.replica(answers(name.encode()), version=name) for name in ("blue", "green", "dark")}


async def test_a_split_follows_the_draws_exactly_also_on_one_connection_with_one_head(rig: Rig) -> None:
    await three_versions(rig)
    client = await rig.client()
    assert await shares(client, [n / 100 for n in range(100)], rig, get()) == {"blue": 70, "green": 30}


@pytest.mark.parametrize("name", ["blue", "green", "dark"])
@pytest.mark.parametrize("by", ["field", "path", "both"])
async def test_a_pinned_version_is_reached_for_any_split(rig: Rig, name: str, by: str) -> None:
    replicas = await three_versions(rig)
    path = SCORE if by == "field" else f"/api/v1/service/iris/versions/{name}/score"
    fields = () if by == "path" else (f"azureml-model-deployment: {name}",)
    client = await rig.client()
    assert await shares(client, [0.0, 0.5, 0.99], rig, get(path, fields)) == {name: 3}
    assert len(replicas[name].seen) == 3


async def test_the_version_answers_by_name_also_when_its_model_fails(rig: Rig) -> None:
    await rig.replica(plays(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))
    answer = await (await rig.client()).ask(get())
    assert (answer.status, answer.value("azureml-model-deployment")) == (502, "blue")
