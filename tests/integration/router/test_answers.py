"""Every answer of the router itself: status, code, text and fields, and the fate of the connection."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.link import ResetAll, SetKeys, SetTrust
from serving.credentials import INCARNATION, KeyDigests, TokenKey, TokenTrust
from serving.endpoint import Auth, VersionKey
from tests.fakes.clock import eventually
from tests.integration.router.clients import SCORE, Answer, BrokenOff, get, request
from tests.integration.router.logged_requests import LoggedRequests
from tests.integration.router.replicas import answers, plays, silent, when
from tests.integration.router.rig import Rig, endpoint, version

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
ISSUER = "https://issuer.test"
LIFE = KeyDigests("iris", (), "incarnation-1")
"""No key; tokens of this incarnation open the endpoint."""
PRIMARY, SECONDARY = "p" * 43, "s" * 43
UNKNOWN_KIND_PEM = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2UBAyEAERERERERERERERERERERERERERERERERERERERERERE=\n"
    "-----END PUBLIC KEY-----\n"
)
"""Well-formed, of an algorithm (OID 1.3.101.1) that nothing implements."""

Rigs = Callable[..., Awaitable[Rig]]


def bearer(credential: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {credential}",)


def is_own(answer: Answer, status: int, code: str) -> bool:
    """The shape of every answer that is the router's own."""
    assert (answer.status, answer.code) == (status, code)
    assert answer.value("content-type").startswith("text/plain")
    assert GUID.fullmatch(answer.value("x-ms-request-id"))
    assert answer.body
    return True


def closes(answer: Answer) -> bool:
    return answer.values("connection") == ["close"]


async def refused(rig: Rig, data: bytes) -> Answer:
    """The only answer to a client with these bytes, before the end of the connection."""
    client = await rig.client()
    answer = await client.ask(data)
    if closes(answer):
        assert await client.end() == b""
    return answer


# ---- 400


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no request line", "no host", "another protocol", "two lengths", "a chunk without size"],
)
async def test_invalid_http_is_400_and_closes(rig: Rig, data: bytes) -> None:
    answer = await refused(rig, data.replace(b" / ", SCORE.join("  ").encode()))
    assert is_own(answer, 400, "BadRequest") and closes(answer)
    assert answer.body.startswith(b"The request is not valid HTTP/1.1: ")


@pytest.mark.parametrize("rest", ["/../admin", "/a/./b", "/%2e%2e/x", "/a/%2E."])
async def test_dot_segments_are_400_and_the_connection_goes_on(rig: Rig, rest: str) -> None:
    await rig.replica()
    client = await rig.client()
    answer = await client.ask(get(f"/api/v1/service/iris{rest}"))
    assert is_own(answer, 400, "BadRequest") and not closes(answer)
    assert (await client.ask(get())).status == 200


async def test_a_request_that_names_two_versions_is_400(rig: Rig) -> None:
    rig.declare(endpoint(version("blue", 0.5), version("green", 0.5, is_default=False)))
    path = "/api/v1/service/iris/versions/blue/score"
    green = "azureml-model-deployment: green"
    assert is_own(await refused(rig, get(path, (green,))), 400, "BadRequest")
    assert is_own(await refused(rig, get(fields=("azureml-model-deployment: blue", green))), 400, "BadRequest")


async def test_a_content_type_that_stands_twice_is_400(rig: Rig) -> None:
    fields = ("Content-Type: application/json", "Content-Type: text/html")
    assert is_own(await refused(rig, request(fields=fields)), 400, "BadRequest")


# ---- 401, 403


@pytest.mark.parametrize(
    "fields",
    [
        (),
        bearer("wrong"),
        ("Authorization: Basic eDp5",),
        ("Authorization: Bearer",),
        bearer(PRIMARY) + bearer(PRIMARY),
        (f"Authorization: Bearer {PRIMARY} x",),
        (f"Proxy-Authorization: Bearer {PRIMARY}",),
        (f"X-Authorization: Bearer {PRIMARY}",),
        bearer("x" * 9000),
    ],
    ids=["none", "wrong", "basic", "empty", "two", "two words", "another field", "a look-alike", "too long"],
)
async def test_without_a_valid_credential_it_is_401_and_the_replica_sees_nothing(
    rig: Rig, fields: tuple[str, ...]
) -> None:
    replica = await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(PRIMARY, SECONDARY)
    answer = await refused(rig, request(fields=fields))
    assert is_own(answer, 401, "Unauthorized")
    assert answer.value("www-authenticate") == "Bearer"
    assert answer.values("azureml-model-deployment") == []
    assert replica.seen == []


@pytest.mark.parametrize("key", [PRIMARY, SECONDARY])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_either_key_opens_and_never_reaches_the_replica(rig: Rig, key: str, scheme: str) -> None:
    replica = await rig.replica()
    rig.declare(endpoint(auth=Auth.KEY))
    rig.lock(PRIMARY, SECONDARY)
    client = await rig.client()
    assert (await client.ask(request(fields=(f"Authorization: {scheme} {key}",)))).status == 200
    assert key.encode() not in replica.seen[0].raw_head


async def test_a_401_does_not_wait_for_the_body(rig: Rig) -> None:
    rig.declare(endpoint(auth=Auth.KEY))
    client = await rig.client()
    head = request(None, fields=("Content-Length: 90000000", "Expect: 100-continue"))
    answer = await client.ask(head)
    assert is_own(answer, 401, "Unauthorized") and closes(answer)
    assert answer.interim == []


async def test_a_token_for_another_endpoint_is_403_and_one_for_this_is_served(rig: Rig) -> None:
    signing = Ed25519PrivateKey.generate()
    public = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    rig.tell(SetTrust(TokenTrust(ISSUER, (TokenKey("k1", "EdDSA", public),))))
    rig.declare(endpoint(auth=Auth.TOKEN))
    rig.tell(SetKeys(LIFE))
    replica = await rig.replica()
    now = int(rig.gateway.unix_now())

    def token(name: str) -> str:
        claims = {
            "iss": ISSUER,
            "aud": TokenTrust.audience(name),
            INCARNATION: LIFE.incarnation,
            "iat": now,
            "exp": now + 600,
        }
        return jwt.encode(claims, signing, "EdDSA", {"kid": "k1"})

    client = await rig.client()
    assert is_own(await client.ask(request(fields=bearer(token("roses")))), 403, "Forbidden")
    assert (await client.ask(request(fields=bearer(token("iris"))))).status == 200
    assert is_own(await client.ask(request(fields=bearer(token("iris")[:-6]))), 401, "Unauthorized")
    assert len(replica.seen) == 1


async def test_a_token_that_expires_on_an_open_connection_is_401(rig: Rig) -> None:
    signing = Ed25519PrivateKey.generate()
    public = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    rig.tell(SetTrust(TokenTrust(ISSUER, (TokenKey("k1", "EdDSA", public),))))
    rig.declare(endpoint(auth=Auth.TOKEN))
    rig.tell(SetKeys(LIFE))
    await rig.replica()
    now = rig.gateway.unix_now()
    times = {"iat": int(now), "exp": int(now) + 600}
    claims = {"iss": ISSUER, "aud": TokenTrust.audience("iris"), INCARNATION: LIFE.incarnation, **times}
    data = request(fields=bearer(jwt.encode(claims, signing, "EdDSA", {"kid": "k1"})))
    client = await rig.client()
    assert (await client.ask(data)).status == 200
    rig.gateway.unix_now = lambda: now + 662.0  # a minute of skew is allowed
    assert is_own(await client.ask(data), 401, "Unauthorized")


@pytest.mark.parametrize("whole", [False, True], ids=["the trust alone", "everything"])
@pytest.mark.parametrize("public_pem", ["", "no key", UNKNOWN_KIND_PEM], ids=["empty", "garbage", "unknown kind"])
async def test_unusable_trust_is_refused_and_reported_and_the_former_one_stays(
    rig: Rig, whole: bool, public_pem: str, caplog: pytest.LogCaptureFixture
) -> None:
    signing = Ed25519PrivateKey.generate()
    public = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    rig.tell(SetTrust(TokenTrust(ISSUER, (TokenKey("k1", "EdDSA", public),))))
    guarded = endpoint(auth=Auth.TOKEN)
    rig.declare(guarded)
    rig.tell(SetKeys(LIFE))
    wrong = TokenTrust("https://other.test", (TokenKey("k2", "EdDSA", public_pem),))
    rig.tell(ResetAll((guarded,), (LIFE,), wrong, ()) if whole else SetTrust(wrong))
    assert "https://other.test" in caplog.text and "keys refused" in caplog.text
    await rig.replica()
    now = int(rig.gateway.unix_now())
    times = {"iat": now, "exp": now + 600}
    claims = {"iss": ISSUER, "aud": TokenTrust.audience("iris"), INCARNATION: LIFE.incarnation, **times}
    client = await rig.client()
    data = request(fields=bearer(jwt.encode(claims, signing, "EdDSA", {"kid": "k1"})))
    assert (await client.ask(data)).status == 200


# ---- 404, 405


@pytest.mark.parametrize(
    "path",
    [
        "/healthz/x",
        "/api/v1/service/roses/score",
        "/api/v1/service/iris",
        "/api/v1/services/iris/score",
        "/api/v1/service//score",
    ],
)
async def test_a_path_that_names_no_endpoint_is_404(rig: Rig, path: str) -> None:
    answer = await refused(rig, get(path))
    assert is_own(answer, 404, "EndpointNotFound") and not closes(answer)
    assert answer.body == b"No endpoint at this path."


@pytest.mark.parametrize(
    "data",
    [
        get("/api/v1/service/iris/versions/red/score"),
        get(fields=("azureml-model-deployment: red",)),
        get(fields=("azureml-model-deployment: BLUE",)),
        get(fields=("azureml-model-deployment: red", "azureml-model-deployment: red")),
    ],
    ids=["by path", "by field", "in capitals", "twice"],
)
async def test_a_version_that_does_not_exist_is_404(rig: Rig, data: bytes) -> None:
    assert is_own(await refused(rig, data), 404, "VersionNotFound")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_405_with_the_allowed_ones(rig: Rig, method: str) -> None:
    replica = await rig.replica()
    answer = await refused(rig, request(None, method=method))
    assert is_own(answer, 405, "MethodNotAllowed")
    assert answer.value("allow") == "GET, HEAD, POST"
    assert replica.seen == []


@pytest.mark.parametrize("path", ["/", "/healthz", "/healthz/", "/healthz?probe=1"])
@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_other_methods_of_the_routers_own_pages_are_405(rig: Rig, path: str, method: str) -> None:
    answer = await refused(rig, request(None, path, method))
    assert is_own(answer, 405, "MethodNotAllowed") and answer.value("allow") == "GET, HEAD"


async def test_options_for_the_server_as_a_whole_is_405_and_the_connection_goes_on(rig: Rig) -> None:
    answer = await refused(rig, request(None, "*", "OPTIONS"))
    assert is_own(answer, 405, "MethodNotAllowed") and answer.value("allow") == "GET, HEAD, POST"
    assert not closes(answer)
    assert (await refused(rig, request(None, "*", "GET"))).status == 400


# ---- 408, 413, 414, 431, 501


async def test_a_head_that_does_not_come_in_time_is_408(rigs: Rigs) -> None:
    rig = await rigs(head_timeout_s=0.1)
    answer = await refused(rig, b"GET /api/v1/service/iris/score HTTP/1.1\r\nHost: a\r\n")
    assert is_own(answer, 408, "RequestTimeout") and closes(answer)


async def test_a_body_that_does_not_come_in_time_is_408_and_took_no_slot(rigs: Rigs) -> None:
    rig = await rigs(body_timeout_s=0.1)
    replica = await rig.replica()
    answer = await refused(rig, request(None, fields=("Content-Length: 10",)) + b"half")
    assert is_own(answer, 408, "RequestTimeout") and closes(answer)
    assert replica.seen == []


async def test_a_connection_that_stays_silent_is_closed_without_an_answer(rigs: Rigs) -> None:
    rig = await rigs(first_byte_timeout_s=0.1)
    assert await (await rig.client()).end() == b""


async def test_a_connection_that_is_idle_for_too_long_is_closed(rigs: Rigs) -> None:
    rig = await rigs(idle_timeout_s=0.1)
    await rig.replica()
    client = await rig.client()
    assert (await client.ask(get())).status == 200
    assert await client.end() == b""


@pytest.mark.parametrize("framing", ["Content-Length: 1001", "Transfer-Encoding: chunked"])
async def test_a_body_over_the_limit_is_413(rigs: Rigs, framing: str) -> None:
    rig = await rigs(max_body_bytes=1000)
    replica = await rig.replica()
    chunk = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n" if "chunked" in framing else b""
    answer = await refused(rig, request(None, fields=(framing,)) + chunk)
    assert is_own(answer, 413, "PayloadTooLarge") and closes(answer)
    assert replica.seen == []


async def test_a_body_at_the_limit_is_served(rigs: Rigs) -> None:
    rig = await rigs(max_body_bytes=1000)
    await rig.replica()
    assert (await (await rig.client()).ask(request(b"x" * 1000))).status == 200


async def test_a_target_over_the_limit_is_414(rigs: Rigs) -> None:
    rig = await rigs(max_target_bytes=200)
    answer = await refused(rig, get(SCORE + "?" + "q" * 200))
    assert is_own(answer, 414, "UriTooLong") and closes(answer)


@pytest.mark.parametrize("fields", [("X: " + "a" * 3000,), ("X: a",) * 30], ids=["too large", "too many"])
async def test_a_head_over_the_limits_is_431(rigs: Rigs, fields: tuple[str, ...]) -> None:
    rig = await rigs(max_head_bytes=2000, max_fields=20)
    answer = await refused(rig, get(fields=fields))
    assert is_own(answer, 431, "HeadersTooLarge") and closes(answer)


async def test_a_transfer_coding_other_than_chunked_is_501(rig: Rig) -> None:
    answer = await refused(rig, request(None, fields=("Transfer-Encoding: gzip, chunked",)))
    assert is_own(answer, 501, "NotImplemented") and closes(answer)


# ---- 502


async def test_a_replica_that_closes_before_it_answers_is_502(rig: Rig) -> None:
    await rig.replica(plays(close=True))
    answer = await refused(rig, request())
    assert is_own(answer, 502, "ReplicaFailed")
    assert answer.body == b"Replica closed connection before replying"
    assert answer.value("azureml-model-deployment") == "blue"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_models_500_becomes_502_and_its_body_is_kept(rig: Rig, chunked: bool) -> None:
    plain = b"HTTP/1.1 500 Oops\r\nContent-Type: text/x-trace\r\nContent-Length: 5\r\n\r\ntrace"
    coded = (
        b"HTTP/1.1 500 Oops\r\nContent-Type: text/x-trace\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntrace\r\n0\r\n\r\n"
    )
    await rig.replica(plays(coded if chunked else plain))
    answer = await refused(rig, request())
    assert (answer.status, answer.reason, answer.code) == (502, "Bad Gateway", "ModelError")
    assert (answer.value("content-type"), answer.body) == ("text/x-trace", b"trace")


@pytest.mark.parametrize("size", [5, 100_000], ids=["whole", "streamed"])
async def test_a_models_500_is_counted_and_logged_as_the_502_that_the_client_gets(rig: Rig, size: int) -> None:
    await rig.replica(answers(b"x" * size, status="500 Oops"))
    log = LoggedRequests(rig)
    answer = await (await rig.client()).ask(request())
    assert (answer.status, log.read()[0]["status"]) == (502, 502)
    assert rig.gateway.stats.version(VersionKey("iris", "blue")).requests == {502: 1}


@pytest.mark.parametrize(
    "status", ["200 OK", "201 Created", "400 Bad Request", "404 Not Found", "429 Slow", "501 No", "503 Busy"]
)
async def test_any_other_status_of_a_model_passes_through(rig: Rig, status: str) -> None:
    await rig.replica(answers(status=status))
    answer = await refused(rig, request())
    assert f"{answer.status} {answer.reason}" == status
    assert answer.values("x-ms-error-code") == []
    assert answer.body == b"hello"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_has_no_body_by_its_status_leaves_the_connection_usable(rig: Rig, status: str) -> None:
    await rig.replica(plays(f"HTTP/1.1 {status}\r\n\r\n".encode()))
    client = await rig.client()
    assert [(await client.ask(get())).status for _ in range(2)] == [int(status[:3])] * 2


# ---- 503


async def test_a_version_without_replicas_is_503_after_the_queue_wait(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.1)))
    began = rig.gateway.now()
    answer = await refused(rig, request())
    assert is_own(answer, 503, "NoReadyReplicas")
    assert answer.body == b"No ready replicas for service iris."
    assert int(answer.value("retry-after")) >= 1
    assert 0.1 <= rig.gateway.now() - began < 4  # by default it is 5


async def test_a_full_version_is_503_after_the_queue_wait(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.15)))
    go_on = asyncio.Event()
    await rig.replica(when(go_on))
    first = await rig.client()
    first.send(request())
    await eventually(rig.busy)
    began = rig.gateway.now()
    answer = await refused(rig, request())
    assert is_own(answer, 503, "Overloaded")
    assert answer.body == b"Too many requests for service iris (overloaded)"
    assert int(answer.value("retry-after")) >= 1
    assert answer.value("azureml-model-deployment") == "blue"
    assert 0.15 <= rig.gateway.now() - began < 4
    go_on.set()
    assert (await first.answer()).status == 200


async def test_a_connection_over_the_limit_is_503_and_closed(rigs: Rigs) -> None:
    rig = await rigs(max_connections=1)
    await rig.replica()
    first = await rig.client()
    assert (await first.ask(get())).status == 200
    answer = await refused(rig, get())
    assert is_own(answer, 503, "Overloaded") and closes(answer)
    assert (await first.ask(get())).status == 200


# ---- 504


async def test_a_replica_that_does_not_answer_in_time_is_504_and_its_slot_comes_back(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.2)))
    replica = await rig.replica(silent)
    client = await rig.client()
    began = rig.gateway.now()
    answer = await client.ask(request())
    assert is_own(answer, 504, "ScoringTimeout") and not closes(answer)
    assert answer.value("azureml-model-deployment") == "blue"
    assert 0.2 <= rig.gateway.now() - began < 8  # by default it is 10
    assert rig.busy() == 0
    await eventually(lambda: replica.left_by_router == 1)
    replica.script = answers()
    assert (await client.ask(request())).status == 200


async def test_an_answer_that_is_not_whole_in_time_is_broken_off(rig: Rig) -> None:
    rig.declare(endpoint(version(scoring_timeout_s=0.2)))
    await rig.replica(plays(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 5.0))
    client = await rig.client()
    client.send(request())
    with pytest.raises(BrokenOff):
        await client.answer()
    assert rig.busy() == 0


# ---- the router's own pages


@pytest.mark.parametrize("path", ["/", "/?a=1", "/healthz", "/healthz/", "/healthz?probe=lb", "http://front/healthz"])
async def test_own_pages_answer_get_and_head_without_a_credential_and_with_an_id(rig: Rig, path: str) -> None:
    client = await rig.client()
    for _ in range(2):
        answer = await client.ask(get(path))
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert GUID.fullmatch(answer.value("x-ms-request-id"))
        client.send(request(None, path, "HEAD"))
        status, _, fields = await client.head()
        assert (status, dict(fields)["content-length"]) == (200, "3")


@pytest.mark.parametrize("path", ["/", "/healthz"])
async def test_own_pages_are_503_while_the_router_drains(rig: Rig, path: str) -> None:
    rig.gateway.own_pages.ready = False
    assert (await refused(rig, get(path))).status == 503


# ---- ids


async def test_every_answer_has_a_request_id_of_its_own_sent_to_the_replica_too(rig: Rig) -> None:
    replica = await rig.replica()
    client = await rig.client()
    ids = [(await client.ask(request(fields=("x-ms-request-id: mine",)))).value("x-ms-request-id") for _ in range(20)]
    assert all(GUID.fullmatch(each) for each in ids)
    assert len(set(ids)) == 20
    assert [seen.value(b"x-ms-request-id").decode() for seen in replica.seen] == ids


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc_DEF-123", ["abc_DEF-123"]), ("a b;c<d>", ["abcd"]), ("x" * 60, ["x" * 40]), ("%$&", []), ("é1", ["1"])],
)
async def test_a_clients_own_id_is_kept_cleaned_and_cut_on_both_sides(rig: Rig, sent: str, kept: list[str]) -> None:
    replica = await rig.replica()
    client = await rig.client()
    for path in (SCORE, "/nowhere", "/healthz"):
        answer = await client.ask(get(path, (f"x-ms-client-request-id: {sent}",)))
        assert answer.values("x-ms-client-request-id") == kept
    assert [value.decode() for value in replica.seen[0].values(b"x-ms-client-request-id")] == kept


async def test_an_error_of_a_chosen_version_carries_the_clients_id(rig: Rig) -> None:
    rig.declare(endpoint(version(queue_wait_s=0.05)))
    answer = await refused(rig, request(fields=("x-ms-client-request-id: me",)))
    assert (answer.status, answer.value("x-ms-client-request-id")) == (503, "me")


async def test_a_body_that_is_refused_by_its_length_is_answered_with_the_clients_id(rigs: Rigs) -> None:
    rig = await rigs(max_body_bytes=10)
    answer = await refused(rig, request(b"x" * 11, fields=("x-ms-client-request-id: me",)))
    assert (answer.status, answer.value("x-ms-client-request-id")) == (413, "me")


async def test_every_answer_has_one_date_the_replica_s_own_if_it_sent_one(rig: Rig) -> None:
    rig.declare(endpoint(version("blue", 0.5), version("green", 0.5, is_default=False)))
    await rig.replica(answers(b"{}", fields=("Date: Sun, 06 Nov 1994 08:49:37 GMT",)), version="blue")
    await rig.replica(answers(b"{}"), version="green")
    client = await rig.client()
    dated = await client.ask(request(b"{}", fields=("azureml-model-deployment: blue",)))
    undated = await client.ask(request(b"{}", fields=("azureml-model-deployment: green",)))
    own = await client.ask(get("/healthz"))
    assert [value for name, value in dated.fields if name == "date"] == ["Sun, 06 Nov 1994 08:49:37 GMT"]
    for answer in (undated, own, await client.ask(get("/nowhere"))):
        assert [bool(DATE.fullmatch(value)) for name, value in answer.fields if name == "date"] == [True]


DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
