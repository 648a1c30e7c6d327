"""F20: with SCOREFRONT_HIDE_ENDPOINTS the answers do not reveal the existing endpoints."""

import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from cluster.link import SetKeys, SetTrust
from controlplane.tokens import Keyring, TokenAlgorithm, new_keyring
from router.settings import RouterSettings, from_environment
from serving.endpoint import Auth
from tests.integration.router.clients import Answer, Client, get, request
from tests.integration.router.rig import Rig, endpoint, keys

CREDENTIALS = {
    "none": (),
    "a wrong key": ("Authorization: Bearer wrong",),
    "a key of another endpoint": ("Authorization: Bearer key-of-roses",),
    "another scheme": ("Authorization: Basic eDp5",),
    "two fields": ("Authorization: Bearer key", "Authorization: Bearer key"),
    "an empty one": ("Authorization: Bearer ",),
    "one that is too long": (f"Authorization: Bearer {'x' * 9000}",),
    "something like a token": ("Authorization: Bearer e30.e30.e30",),
}
PATHS = [
    "/api/v1/service/{}/score",
    "/api/v1/endpoint/{}/score",
    "/api/v1/service/{}/versions/blue/score",
    "/api/v1/service/{}/versions/red/score",
    "/api/v1/service/{}/swagger.json",
    "/api/v1/service/{}/a/b/c?q=1",
    "/api/v1/service/{}/a/../b",
    "/api/v1/service/{}/%2e%2e/b",
    "/api/v1/service/{}",
    "/api/v1/service/{}/",
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Hides endpoints; knows `iris` and `roses` with keys, `mint` with tokens and `open-door` without either."""
    async with AsyncExitStack() as stack:
        rig = Rig(RouterSettings(hide_endpoints=True))
        await rig.start()
        stack.push_async_callback(rig.stop)
        await rig.replica(slots=5)
        rig.declare(endpoint(auth=Auth.KEY))
        rig.lock("key-of-iris", "other-key-of-iris")
        rig.declare(endpoint(name="roses", auth=Auth.KEY))
        rig.lock("key-of-roses", "other-key-of-roses", endpoint="roses")
        rig.declare(endpoint(name="mint", auth=Auth.TOKEN))
        yield rig


@pytest.fixture
def ring(rig: Rig) -> Keyring:
    ring = new_keyring("here", TokenAlgorithm.EDDSA, 0)
    rig.tell(SetTrust(ring.trust()))
    return ring


async def asked(client: Client, data: bytes) -> Answer:
    """The answer without its always different parts."""
    answer = await client.ask(data)
    kept = [(name, value) for name, value in answer.fields if name not in ("date", "x-ms-request-id")]
    return replace(answer, fields=kept)


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_an_unknown_endpoint_is_answered_as_a_known_one(rig: Rig, credential: str, method: str) -> None:
    body = b"{}" if method in ("POST", "PUT") else None
    clients = {name: await rig.client() for name in ("iris", "iros", "x", "IRIS", "iris%20")}
    for path in PATHS:
        answers = [
            await asked(client, request(body, path.format(name), method, CREDENTIALS[credential]))
            for name, client in clients.items()
        ]
        assert answers[1:] == answers[:1] * 4, path
        assert answers[0].status in (400, 401, 404, 405)


async def test_unauthorized_stays_unauthorized_in_words_and_fields(rig: Rig) -> None:
    answer = await (await rig.client()).ask(get("/api/v1/service/nobody/score"))
    assert (answer.status, answer.code, answer.value("www-authenticate")) == (401, "Unauthorized", "Bearer")


async def test_one_connection_may_ask_for_both_kinds_again_and_again(rig: Rig) -> None:
    client = await rig.client()
    for _ in range(3):
        for name in ("iris", "nobody"):
            assert (await client.ask(get(f"/api/v1/service/{name}/score"))).status == 401
    authorization = ("Authorization: Bearer key-of-iris",)
    assert (await client.ask(get("/api/v1/service/iris/score", authorization))).status == 200
    assert (await client.ask(get("/api/v1/service/iros/score", authorization))).status == 401


async def test_a_valid_credential_gets_unknown_version(rig: Rig) -> None:
    known = ("Authorization: Bearer key-of-iris",)
    answer = await (await rig.client()).ask(get("/api/v1/service/iris/versions/red/score", known))
    assert (answer.status, answer.code) == (404, "VersionNotFound")


async def test_an_unknown_version_is_hidden_without_a_credential() -> None:
    rig = Rig()
    await rig.start()
    rig.declare(endpoint(auth=Auth.KEY))
    answer = await (await rig.client()).ask(get("/api/v1/service/iris/versions/red/score"))
    assert answer.status == 401
    await rig.stop()


async def test_a_token_of_another_endpoint_does_not_find_endpoints_either(rig: Rig, ring: Keyring) -> None:
    rig.tell(SetKeys(replace(keys("a", "b", endpoint="mint"), incarnation="life")))
    token = ring.issue("other", "life", rig.gateway.unix_now(), "1").access_token
    authorization = (f"Authorization: Bearer {token}",)
    answers = [
        await asked(await rig.client(), get(f"/api/v1/service/{name}/score", authorization)) for name in ("mint", "min")
    ]
    assert answers[0] == answers[1]
    assert answers[0].status == 401


async def test_a_refusal_compares_as_many_digests(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    counts = []
    for name in ("iris", "nobody"):
        compared.clear()
        await (await rig.client()).ask(get(f"/api/v1/service/{name}/score", CREDENTIALS["a wrong key"]))
        counts.append(len(compared))
    assert counts == [2, 2]


async def test_without_the_setting_404_says_that_there_is_no_such_endpoint() -> None:
    assert not from_environment({}).hide_endpoints
    rig = Rig()
    await rig.start()
    answer = await (await rig.client()).ask(get("/api/v1/service/nobody/score"))
    assert (answer.status, answer.code) == (404, "EndpointNotFound")
    await rig.stop()
