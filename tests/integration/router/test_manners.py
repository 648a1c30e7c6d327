"""Manners of HTTP/1.1 and 1.0 between clients, router and replicas: HEAD, keep-alive, redirects, forwarded fields."""

import pytest

from serving.endpoint import Auth
from tests.integration.router.clients import SCORE, get, request
from tests.integration.router.replicas import Request, Wire, answers, plays
from tests.integration.router.rig import Rig, endpoint, version

KEY = "k" * 43

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


async def test_a_body_that_a_replica_sends_to_head_reaches_nobody(rig: Rig) -> None:
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
