"""Manners of HTTP/1.1 and 1.0 between clients, router and replicas: HEAD, keep-alive, redirects, forwarded fields."""

import logging
import re
from collections.abc import Awaitable, Callable

import pytest

from serving.destinations import networks
from serving.endpoint import Auth, Cors, ReplicaKind, ReplicaSource
from tests.integration.router.clients import SCORE, Answer, get, request
from tests.integration.router.logged_requests import LoggedRequests
from tests.integration.router.replicas import Request, Script, Wire, answers, plays
from tests.integration.router.rig import Rig, endpoint, version

KEY = "k" * 43
Rigs = Callable[..., Awaitable[Rig]]

# ---- HEAD

HEADED = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("path", [SCORE, "/api/v1/service/iris/versions/blue/score", "/api/v1/endpoint/iris/docs"])
@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize(
    ("replied", "shown"),
    [
        (b"Content-Length: 5\r\n", ("content-length", "5")),
        (b"Transfer-Encoding: chunked\r\n", ("transfer-encoding", "chunked")),
        (b"", None),
        (b"Content-Length: 5\r\nConnection: keep-alive\r\n", ("content-length", "5")),
    ],
)
async def test_head_is_served_without_a_body_and_the_connection_goes_on(
    rig: Rig, path: str, minor: int, replied: bytes, shown: tuple[str, str] | None
) -> None:
    replica = await rig.replica(plays(HEADED + replied + b"\r\n"))
    client = await rig.client()
    for _ in range(2):
        client.send(request(None, path, "HEAD", ("Connection: keep-alive",), minor))
        status, _, fields = await client.head()
        assert status == 200
        framing = [(name, value) for name, value in fields if name in ("content-length", "transfer-encoding")]
        if minor == 0 and shown and shown[0] == "transfer-encoding":
            assert framing == [] and dict(fields)["connection"] == "close"
            assert await client.end() == b""
            return
        assert framing == ([shown] if shown else [])
    assert [seen.line.split(b" ")[0] for seen in replica.seen] == [b"HEAD", b"HEAD"]


async def test_a_body_of_a_replica_for_head_reaches_no_client(rig: Rig) -> None:
    async def late(wire: Wire, request: Request) -> None:
        await wire.send(HEADED + b"Content-Length: 5\r\n\r\n", 0.05, b"hello")

    replica = await rig.replica(late)
    client = await rig.client()
    client.send(request(None, method="HEAD"))
    assert (await client.head())[0] == 200
    replica.script = answers(b"clean")
    assert (await client.ask(get())).body == b"clean"


async def test_a_models_500_to_head_is_502_without_a_body(rig: Rig) -> None:
    await rig.replica(plays(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n"))
    client = await rig.client()
    client.send(request(None, method="HEAD") + request(None, method="HEAD"))
    for _ in range(2):
        status, _, fields = await client.head()
        assert (status, dict(fields)["content-length"], dict(fields)["x-ms-error-code"]) == (502, "9", "ModelError")


async def test_an_error_in_answer_to_head_has_no_body_that_could_be_taken_for_the_next_answer(rig: Rig) -> None:
    await rig.replica()
    client = await rig.client()
    client.send(request(None, "/nothing", "HEAD") + get())
    status, _, fields = await client.head()
    assert (status, dict(fields)["content-length"]) == (404, "25")
    assert (await client.answer()).status == 200


# ---- HTTP/1.0


async def test_every_answer_to_http_1_0_says_keep_alive_or_closes(rig: Rig) -> None:
    rig.declare(endpoint(version(), version("dead", 0.0, is_default=False, queue_wait_s=0.02), auth=Auth.KEY))
    rig.lock(KEY)
    await rig.replica()
    key = f"Authorization: Bearer {KEY}"
    asked = {
        ("GET", SCORE, key): 200,
        ("HEAD", "/healthz", ""): 200,
        ("GET", "/", ""): 200,
        ("GET", SCORE, ""): 401,
        ("GET", "/nothing", key): 404,
        ("GET", "/api/v1/service/iris/versions/none/score", key): 404,
        ("DELETE", SCORE, key): 405,
        ("OPTIONS", "*", ""): 405,
        ("GET", "/api/v1/service/iris/versions/dead/score", key): 503,
    }
    for (method, path, credential), status in asked.items():
        client = await rig.client()
        fields = ("Connection: keep-alive", *filter(None, [credential]))
        client.send(request(None, path, method, fields, 0))
        told, _, answered = await client.head()
        assert (told, dict(answered)["connection"]) == (status, "keep-alive"), (method, path)
        client.leave()
        client = await rig.client()
        client.send(request(None, path, method, fields[1:], 0))
        told, _, answered = await client.head()
        assert (told, dict(answered)["connection"]) == (status, "close"), (method, path)
        await client.end()


# ---- pins and refused heads


@pytest.mark.parametrize("pins", [(), ("",), ("", ""), ("green",), ("green", "green"), ("", "green")])
async def test_an_empty_pin_is_absent_and_equal_pins_are_one(rig: Rig, pins: tuple[str, ...]) -> None:
    rig.declare(endpoint(version(), version("green", 0.0, is_default=False)))
    for name in ("blue", "green"):
        await rig.replica(version=name)
    answer = await (await rig.client()).ask(get(fields=tuple(f"azureml-model-deployment: {pin}" for pin in pins)))
    assert (answer.status, answer.value("azureml-model-deployment")) == (200, "green" if "green" in pins else "blue")


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (b"GET /p?secret HTTP/1.1\r\n\r\n", "Host"),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n", "Content-Type"),
        (
            b"GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Content-Length.*Transfer-Encoding|Transfer-Encoding.*Content-Length",
        ),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "Content-Length"),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer coding"),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nX-A: a\x00\r\n\r\n", "control characters"),
        (b"nonsense\r\n\r\n", "request line"),
    ],
)
async def test_a_refused_head_is_logged_with_the_rule_that_it_breaks(rig: Rig, sent: bytes, rule: str) -> None:
    log = LoggedRequests(rig)
    answer = await (await rig.client()).ask(sent)
    (record,) = log.read()
    assert (record["status"], record["code"], record["id"]) == (
        answer.status,
        answer.code,
        answer.value("x-ms-request-id"),
    )
    assert re.search(rule, record["rule"])
    assert (record["method"], record["path"]) == (("", "") if b"nonsense" in sent else ("GET", "/p"))


async def test_a_pin_to_two_versions_is_logged_with_its_rule(rig: Rig) -> None:
    log = LoggedRequests(rig)
    pins = ("azureml-model-deployment: blue", "azureml-model-deployment: green")
    assert (await (await rig.client()).ask(get(fields=pins))).status == 400
    (record,) = log.read()
    assert record["endpoint"] == "iris" and "azureml-model-deployment" in record["rule"]


# ---- responses that break a rule


async def test_a_response_with_both_framings_is_read_by_its_chunks_and_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    both = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    replica = await rig.replica(plays(both))
    client = await rig.client()
    for _ in range(3):
        answer = await client.ask(get())
        assert (answer.status, answer.body, answer.values("content-length")) == (200, b"hello", [])
    assert replica.connections == 3
    logged = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(logged) == 1 and "both Content-Length and Transfer-Encoding" in logged[0] and "iris/blue" in logged[0]


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nX-A: a\x01\r\n\r\n", "control characters"),
        (b"garbage\r\n\r\n", "status line"),
    ],
)
async def test_an_invalid_response_is_502_and_its_rule_is_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, sent: bytes, rule: str
) -> None:
    await rig.replica(plays(sent))
    client = await rig.client()
    log = LoggedRequests(rig)
    for _ in range(3):
        answer = await client.ask(get())
        assert (answer.status, answer.code) == (502, "ReplicaFailed")
        assert answer.body == b"Replica closed connection before replying"
    logged = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(logged) == 1 and re.search(rule, logged[0])
    assert all(re.search(rule, record["rule"]) for record in log.read())


# ---- forwarded fields and references


@pytest.mark.parametrize(
    "prefix", ["/api/v1/service/iris", "/api/v1/endpoint/iris", "/api/v1/service/iris/versions/blue"]
)
@pytest.mark.parametrize("rest", ["/score", "/items", "/"])
async def test_the_replica_is_told_its_prefix_and_its_references_get_it(rig: Rig, prefix: str, rest: str) -> None:
    replica = await rig.replica()
    client = await rig.client()
    for sent, seen in (
        *(("/items/", f"{prefix}/items/"), ("https://login.example/", "https://login.example/")),
        *((f"http://127.0.0.1:{replica.port}/x", f"{prefix}/x"), ("http://front/x", f"{prefix}/x")),
    ):
        for how in (answers(b"", "307 Temporary Redirect", (f"Location: {sent}",)), chunked_redirect(sent)):
            replica.script = how
            answer = await client.ask(get(prefix + rest))
            assert (answer.status, answer.value("location")) == (307, seen)
    assert {seen.value(b"x-forwarded-prefix").decode() for seen in replica.seen} == {prefix}


def chunked_redirect(location: str) -> Script:
    head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return plays(head.encode(), b"0\r\n\r\n")


async def test_one_connection_to_a_replica_serves_each_prefix_with_its_own_references(rig: Rig) -> None:
    replica = await rig.replica(answers(b"", "302 Found", ("Location: /x",)))
    client = await rig.client()
    for kind in ("service", "endpoint", "service"):
        answer = await client.ask(get(f"/api/v1/{kind}/iris/a"))
        assert answer.value("location") == f"/api/v1/{kind}/iris/x"
    assert replica.connections == 1


CLAIMS = (
    *("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: api.example.com"),
    "X-Forwarded-Prefix: /ml",
)


@pytest.mark.parametrize(
    ("trusted", "told"),
    [
        ("", ("203.0.113.7, 127.0.0.1", "http", "front", "/api/v1/service/iris")),
        ("127.0.0.0/8", ("203.0.113.7, 127.0.0.1", "https", "api.example.com", "/ml/api/v1/service/iris")),
        ("10.0.0.0/8", ("127.0.0.1", "http", "front", "/api/v1/service/iris")),
    ],
)
async def test_forwarded_fields_are_kept_from_trusted_proxies_and_replaced_from_others(
    rigs: Rigs, trusted: str, told: tuple[str, ...]
) -> None:
    rig = await rigs(trusted_proxies=networks(trusted))
    replica = await rig.replica(answers(b"", "302 Found", ("Location: http://front/x",)))
    answer = await (await rig.client()).ask(get(fields=CLAIMS))
    names = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")
    assert tuple(replica.seen[0].value(name.encode()).decode() for name in names) == told
    assert answer.value("location") == f"{told[3]}/x"


@pytest.mark.parametrize(("auth", "passed"), [(Auth.NONE, [b"Bearer " + KEY.encode()]), (Auth.KEY, [])])
async def test_a_credential_reaches_the_replica_only_where_auth_is_off(
    rig: Rig, auth: Auth, passed: list[bytes]
) -> None:
    rig.declare(endpoint(auth=auth))
    rig.lock(KEY)
    replica = await rig.replica()
    log = LoggedRequests(rig)
    for _ in range(2):
        answer = await (await rig.client()).ask(get(fields=(f"Authorization: Bearer {KEY}",)))
        assert answer.status == 200
        assert replica.seen[-1].values(b"authorization") == passed
    assert KEY not in str(log.read())


async def test_static_replicas_may_have_a_host_of_their_own(rig: Rig) -> None:
    source = ReplicaSource(ReplicaKind.STATIC, host_header="model.internal:81")
    rig.declare(endpoint(version(replica=source)))
    replica = await rig.replica(answers(b"", "302 Found", ("Location: http://model.internal:81/x",)))
    answer = await (await rig.client()).ask(get())
    seen = replica.seen[0]
    assert (seen.value(b"host"), seen.value(b"x-forwarded-host")) == (b"model.internal:81", b"front")
    assert answer.value("location") == "/api/v1/service/iris/x"


# ---- other origins

APP = "https://app.example.com"
CORS = Cors((APP, "https://*.example.org"), ("Authorization", "Content-Type"), 600)
PREFLIGHT = (f"Origin: {APP}", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")


def cors_of(answer: Answer) -> tuple[list[str], list[str]]:
    return answer.values("access-control-allow-origin"), answer.values("vary")


@pytest.mark.parametrize("path", [SCORE, "/api/v1/service/iris/versions/blue/score", "/api/v1/endpoint/iris/docs"])
async def test_a_preflight_is_answered_by_the_router_without_a_credential_or_a_slot(rig: Rig, path: str) -> None:
    rig.declare(endpoint(auth=Auth.KEY, cors=CORS))
    rig.lock(KEY)
    replica = await rig.replica()
    client = await rig.client()
    for _ in range(2):
        answer = await client.ask(request(None, path, "OPTIONS", PREFLIGHT))
        assert (answer.status, answer.body) == (204, b"")
        assert answer.value("access-control-allow-origin") == APP
        assert answer.value("access-control-allow-methods") == "GET, HEAD, POST"
        assert answer.value("access-control-allow-headers") == "Authorization, Content-Type"
        assert answer.value("access-control-max-age") == "600"
        assert answer.value("x-ms-request-id")
    other = await client.ask(request(None, path, "OPTIONS", ("Origin: https://evil.example", *PREFLIGHT[1:])))
    assert (other.status, cors_of(other)) == (204, ([], ["Origin"]))
    plain = await client.ask(request(None, path, "OPTIONS"))
    assert (plain.status, plain.value("allow")) == (204, "GET, HEAD, POST, OPTIONS")
    assert replica.seen == [] and not client_is_authorized(rig)


def client_is_authorized(rig: Rig) -> bool:
    return any(client.authorized for client in rig.gateway.clients)


async def test_a_preflight_with_a_body_closes_the_connection_behind_its_answer(rig: Rig) -> None:
    rig.declare(endpoint(cors=CORS))
    client = await rig.client()
    client.send(request(b"x" * 10, SCORE, "OPTIONS", PREFLIGHT)[:-5])
    answer = await client.answer()
    assert (answer.status, answer.values("connection")) == (204, ["close"])
    assert await client.end() == b""


async def test_without_cors_options_is_405_and_no_response_has_its_fields(rig: Rig) -> None:
    await rig.replica()
    client = await rig.client()
    refused = await client.ask(request(None, SCORE, "OPTIONS", PREFLIGHT))
    assert (refused.status, refused.value("allow")) == (405, "GET, HEAD, POST")
    served = await client.ask(get(fields=(f"Origin: {APP}",)))
    assert cors_of(refused) == cors_of(served) == ([], [])


async def test_every_response_of_the_endpoint_names_an_allowed_origin_errors_too(rigs: Rigs) -> None:
    rig = await rigs(max_body_bytes=100)
    rig.declare(
        endpoint(version(), version("dead", 0.0, is_default=False, queue_wait_s=0.02), auth=Auth.KEY, cors=CORS)
    )
    rig.lock(KEY)
    await rig.replica(slots=4)
    key = f"Authorization: Bearer {KEY}"
    base = "/api/v1/service/iris"
    asked = {
        get(fields=(key,)): 200,
        get(): 401,
        get(f"{base}/versions/none/score", (key,)): 404,
        get(f"{base}/versions/dead/score", (key,)): 503,
        get(f"{base}/a/../b", (key,)): 400,
        request(None, method="DELETE", fields=(key,)): 405,
        request(b"x" * 101, fields=(key,)): 413,
        get(fields=("X: y",) * 101): 431,
        get(f"{base}/score?{'x' * 16_384}"): 414,
        request(None, fields=("Transfer-Encoding: gzip",)): 501,
        request(None, fields=("Content-Length: many",)): 400,
        get(fields=("X: " + "y" * 65_536,)): 431,
    }
    for data, status in asked.items():
        for origin, shown in (
            (APP, [APP]),
            ("https://a.example.org", ["https://a.example.org"]),
            ("https://x.example", []),
        ):
            client = await rig.client()
            answer = await client.ask(data.replace(b"Host: front", f"Host: front\r\nOrigin: {origin}".encode()))
            assert (answer.status, *cors_of(answer)) == (status, shown, ["Origin"])
            if shown:
                assert "x-ms-request-id" in answer.value("access-control-expose-headers")


async def test_one_connection_serves_several_origins(rig: Rig) -> None:
    rig.declare(endpoint(cors=CORS))
    await rig.replica()
    client = await rig.client()
    for origin, shown in (
        (APP, [APP]),
        ("https://b.example.org", ["https://b.example.org"]),
        ("https://x.example", []),
        (APP, [APP]),
    ):
        assert cors_of(await client.ask(get(fields=(f"Origin: {origin}",)))) == (shown, ["Origin"])


async def test_fields_of_a_replica_for_other_origins_give_way_to_the_declared_ones(rig: Rig) -> None:
    own = (
        "Access-Control-Allow-Origin: *",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Expose-Headers: X-Mine",
    )
    await rig.replica(answers(fields=own))
    client = await rig.client()
    ask = get(fields=(f"Origin: {APP}",))
    assert (await client.ask(ask)).values("access-control-allow-origin") == ["*"]
    rig.declare(endpoint(cors=CORS))
    answer = await client.ask(ask)
    assert answer.values("access-control-allow-origin") == [APP]
    assert answer.values("access-control-allow-credentials") == []
    assert "X-Mine" in answer.values("access-control-expose-headers")
    rig.declare(endpoint())
    assert (await client.ask(ask)).values("access-control-allow-origin") == ["*"]
