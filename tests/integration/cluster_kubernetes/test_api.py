"""The API's client against a scripted server: requests, interpretation of responses, timeouts."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.kubernetes.client.api import (
    Api,
    ApiError,
    ApiSettings,
    ApiUnreachable,
    CutShort,
    Garbled,
    NotFound,
    RequestRefused,
    ResourceExpired,
    ResponseLineTooLong,
    WriteConflict,
)
from tests.fakes.kubernetes_http import KubernetesServer, Script, Stream, Tokens, client_of, kubernetes_server, status

PATH = "/api/v1/namespaces/ns/configmaps"
BODY = {"metadata": {"name": "a", "resourceVersion": "7"}}


@pytest.fixture
async def server() -> AsyncIterator[KubernetesServer]:
    async with kubernetes_server() as server:
        yield server


@pytest.fixture
async def api(server: KubernetesServer) -> AsyncIterator[Api]:
    async with client_of(server) as api:
        yield api


def whole(code: int, body: object, *fields: str) -> Script:
    return lambda stream: stream.whole(code, body, *fields)


async def read(api: Api, found: list[bytes], **more: Any) -> None:
    """Adds lines to `found` until the stream ends."""
    async with contextlib.aclosing(api.lines(PATH, **more)) as lines:
        async for line in lines:
            found.append(line)


@contextlib.asynccontextmanager
async def closing(api: Api) -> AsyncIterator[Api]:
    try:
        yield api
    finally:
        await api.close()


# ---- requests

SENT = {
    "get": (lambda api: api.get(PATH, {"limit": "5"}), *("GET", PATH, {"limit": "5"}, None, None)),
    "create": (lambda api: api.create(PATH, BODY), "POST", PATH, {}, BODY, "application/json"),
    "create, tried only": (
        lambda api: api.create(PATH, BODY, {"dryRun": "All"}),
        *("POST", PATH, {"dryRun": "All"}, BODY, "application/json"),
    ),
    "replace": (lambda api: api.replace(f"{PATH}/a", BODY), "PUT", f"{PATH}/a", {}, BODY, "application/json"),
    "merge": (lambda api: api.merge(f"{PATH}/a", BODY), "PATCH", f"{PATH}/a", {}, BODY, "application/merge-patch+json"),
    "apply": (
        lambda api: api.apply(f"{PATH}/a", BODY),
        *("PATCH", f"{PATH}/a", {"fieldManager": "scorefront", "force": "false"}, BODY, "application/apply-patch+yaml"),
    ),
    "apply by force": (
        lambda api: api.apply(f"{PATH}/a", BODY, manager="me", force=True),
        *("PATCH", f"{PATH}/a", {"fieldManager": "me", "force": "true"}, BODY, "application/apply-patch+yaml"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "method", "path", "query", "body", "kind"), SENT.values(), ids=SENT)
async def test_a_call_is_one_request_of_its_kind(
    call: Any, method: str, path: str, query: object, body: object, kind: str | None, server: KubernetesServer, api: Api
) -> None:
    server.plan.append(whole(200, {"kind": "ConfigMap"}))
    assert await call(api) == {"kind": "ConfigMap"}
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.query, asked.body) == (method, path, query, body)
    assert asked.headers.get("content-type") == kind


async def test_a_delete_has_its_preconditions(server: KubernetesServer, api: Api) -> None:
    server.plan += [whole(200, status(200, "Success"))] * 2
    await api.delete(f"{PATH}/a")
    await api.delete(f"{PATH}/a", uid="u1", resource_version="7", grace_s=0)
    plain, precise = (asked.body for asked in server.asked)
    assert plain == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert precise["preconditions"] == {"uid": "u1", "resourceVersion": "7"}
    assert precise["gracePeriodSeconds"] == 0


async def test_a_delete_of_a_missing_object_succeeds(server: KubernetesServer, api: Api) -> None:
    server.plan.append(whole(404, status(404, "NotFound")))
    await api.delete(f"{PATH}/a")


async def test_logs_come_as_text_and_the_version_in_a_word(server: KubernetesServer, api: Api) -> None:
    server.plan += [whole(200, b"one\ntwo \xff\n"), whole(200, {"gitVersion": "v1.33.1"})]
    assert await api.text("/api/v1/namespaces/ns/pods/p/log", {"tailLines": "5"}) == "one\ntwo \ufffd\n"
    assert await api.version() == "v1.33.1"


# ---- responses


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (400, "BadRequest", RequestRefused),
        (403, "Forbidden", RequestRefused),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", WriteConflict),
        (410, "Expired", ResourceExpired),
        (422, "Invalid", RequestRefused),
        (429, "TooManyRequests", ApiError),
        (500, "InternalError", ApiError),
    ],
)
async def test_a_refusal_is_an_error_of_its_class_with_the_message_of_the_server(
    code: int, reason: str, error: type[ApiError], server: KubernetesServer, api: Api
) -> None:
    body = status(code, reason, message="spec.x: must be even")
    server.plan.append(whole(code, body))
    with pytest.raises(error) as caught:
        await api.get(PATH)
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.reason, caught.value.body) == (code, reason, body)
    assert str(caught.value) == f"GET {PATH}: {code} {reason}: spec.x: must be even"


@pytest.mark.parametrize(
    ("fields", "details", "expected"),
    [
        (("Retry-After: 7",), {}, 7.0),
        ((), {"details": {"retryAfterSeconds": 3}}, 3.0),
        (("Retry-After: 7",), {"details": {"retryAfterSeconds": 3}}, 7.0),
        (("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT",), {}, None),
        (("Retry-After: -1",), {"details": {"retryAfterSeconds": "soon"}}, None),
        ((), {"details": None}, None),
    ],
)
async def test_the_retry_after_of_the_server_is_passed_on(
    fields: tuple[str, ...], details: dict[str, Any], expected: float | None, server: KubernetesServer, api: Api
) -> None:
    server.plan.append(whole(429, status(429, "TooManyRequests", **details), *fields))
    with pytest.raises(ApiError) as caught:
        await api.get(PATH)
    assert caught.value.retry_after_s == expected


@pytest.mark.parametrize("body", [b"<html>\n<h1>no healthy upstream</h1>", b"", b"[1, 2]", b"\xff\xfe"])
async def test_a_load_balancers_page_is_an_error_like_any_other(
    body: bytes, server: KubernetesServer, api: Api
) -> None:
    server.plan += [whole(503, body), whole(200, body)]
    with pytest.raises(ApiError) as caught:
        await api.get(PATH)
    assert caught.value.status == 503 and "\n" not in str(caught.value)
    with pytest.raises(Garbled):
        await api.get(PATH)


async def test_a_redirect_is_not_followed(server: KubernetesServer, api: Api) -> None:
    server.plan.append(whole(302, b"", f"Location: {server.url}/elsewhere"))
    with pytest.raises(ApiError) as caught:
        await api.get(PATH)
    assert caught.value.status == 302 and len(server.asked) == 1


# ---- missing responses


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        async with client_of(KubernetesServer(url=f"http://127.0.0.1:{taken.getsockname()[1]}")) as api:
            with pytest.raises(ApiUnreachable, match="Connect call failed"):
                await api.get(PATH)


async def test_a_server_that_does_not_answer_is_given_up_in_time(server: KubernetesServer) -> None:
    async def never(stream: Stream) -> None:
        await asyncio.sleep(60)

    async def half(stream: Stream) -> None:
        await stream.head(200, ("Content-Length: 100",))
        await stream.raw(b'{"kind":')
        await asyncio.sleep(60)

    server.plan += [never, half]
    async with client_of(server, total_s=0.1) as api:
        for _ in range(2):
            with pytest.raises(ApiUnreachable, match="no response in time"):
                await api.get(PATH)


async def test_an_answer_that_is_cut_is_unreachable(server: KubernetesServer, api: Api) -> None:
    async def half(stream: Stream) -> None:
        await stream.head(200, ("Content-Length: 100",))
        await stream.raw(b'{"kind":')
        stream.close()

    server.plan.append(half)
    with pytest.raises(ApiUnreachable):
        await api.get(PATH)


async def test_a_client_that_is_closed_says_so(server: KubernetesServer, api: Api) -> None:
    await api.close()
    with pytest.raises(ApiUnreachable, match="closed"):
        await api.get(PATH)


# ---- lines


async def test_lines_come_whole_however_they_are_sent(server: KubernetesServer, api: Api) -> None:
    async def pieces(stream: Stream) -> None:
        await stream.head()
        for piece in (b"on", b"e\ntwo\nth", b"ree\n"):
            await stream.send(piece)
            await asyncio.sleep(0.005)
        await stream.end()

    server.plan.append(pieces)
    found: list[bytes] = []
    await read(api, found)
    assert found == [b"one", b"two", b"three"]


async def test_half_a_line_at_the_end_is_an_error_that_holds_it(server: KubernetesServer, api: Api) -> None:
    server.plan.append(whole(200, b"one\ntw"))
    found: list[bytes] = []
    with pytest.raises(CutShort) as caught:
        await read(api, found)
    assert found == [b"one"] and caught.value.rest == b"tw"


async def test_a_line_over_the_limit_is_an_error(server: KubernetesServer, api: Api) -> None:
    server.plan.append(whole(200, b"x" * 101 + b"\n"))
    with pytest.raises(ResponseLineTooLong):
        await read(api, [], max_line_bytes=100)


async def test_silence_ends_a_stream_and_words_go_on_for_ever(server: KubernetesServer, api: Api) -> None:
    async def talks_for_longer_than_that(stream: Stream) -> None:
        await stream.head()
        for _ in range(8):
            await stream.send(b"word\n")
            await asyncio.sleep(0.15)
        await asyncio.sleep(60)

    server.plan.append(talks_for_longer_than_that)
    found: list[bytes] = []
    with pytest.raises(ApiUnreachable, match="no response"):
        await read(api, found, silent_s=1.0)
    assert len(found) == 8


async def test_a_refused_stream_is_an_error_as_any_other(server: KubernetesServer, api: Api) -> None:
    server.plan.append(whole(410, status(410, "Expired")))
    with pytest.raises(ResourceExpired):
        await read(api, [])


async def test_a_stream_that_is_left_early_gives_its_connection_up(server: KubernetesServer, api: Api) -> None:
    left = asyncio.Event()

    async def endless(stream: Stream) -> None:
        await stream.head()
        try:
            while True:
                await stream.send(b"word\n")
                await asyncio.sleep(0.002)
        except OSError:
            left.set()

    server.plan.append(endless)
    async with contextlib.aclosing(api.lines(PATH)) as lines:
        assert await anext(lines) == b"word"
    async with asyncio.timeout(5):
        await left.wait()


# ---- tokens


async def test_an_old_token_is_read_again_and_the_request_sent_once_more(server: KubernetesServer) -> None:
    server.token = "new"
    source = Tokens(server.url, "old")
    api = Api(source, await source.read(anew=False), "ns", ApiSettings())
    source.token = "new"
    async with closing(api):
        await api.get(PATH)
        assert source.reads == [False, True]
        await asyncio.gather(*(api.get(PATH) for _ in range(5)))
    assert len(server.asked) == 7


async def test_a_token_that_stays_wrong_is_an_error_after_two_tries(server: KubernetesServer) -> None:
    server.token = "right"
    async with client_of(server, token="wrong") as api:
        with pytest.raises(ApiError) as caught:
            await read(api, [])
        assert caught.value.status == 401 and len(server.asked) == 2


async def test_many_refused_at_once_read_the_token_once(server: KubernetesServer) -> None:
    server.token = "new"
    source = Tokens(server.url, "old")
    api = Api(source, await source.read(anew=False), "ns", ApiSettings())
    source.token = "new"
    async with closing(api):
        await asyncio.gather(*(api.get(PATH) for _ in range(20)))
    assert source.reads.count(True) == 1


async def test_an_old_token_is_read_again_without_a_refusal(server: KubernetesServer) -> None:
    source = Tokens(server.url, "first")
    api = Api(source, await source.read(anew=False), "ns", ApiSettings(token_age_s=0.05))
    async with closing(api):
        await api.get(PATH)
        source.token = "second"
        await asyncio.sleep(0.06)
        await api.get(PATH)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer first", "Bearer second"]


# ---- the pace of writing


async def test_writes_wait_their_turn_and_reads_and_urgent_writes_do_not(server: KubernetesServer) -> None:
    server.plan += [whole(200, {})] * 20
    async with client_of(server, writes_per_s=20, write_burst=2) as api:
        now = asyncio.get_running_loop().time
        began = now()
        writes = asyncio.gather(*(api.merge(f"{PATH}/{n}", {}) for n in range(6)))
        await api.get(PATH)
        await api.replace(f"{PATH}/lease", {}, urgent=True)
        await writes
        assert now() - began > 0.19
    assert [asked.method for asked in server.asked[:4]].count("PATCH") == 2
