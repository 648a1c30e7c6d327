"""REST of the overview, of recent failures and of trials; their guards, pages and records."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cluster.link import FailedRequest
from controlplane.control_errors import NoSuchEndpoint
from controlplane.failure_routes import REASONS, FailureListAnswer, failure_routes, reason_of
from controlplane.overview_routes import MAX_SEARCH, NoTraffic, OverviewAnswer, OverviewRows, overview_routes
from controlplane.rest import RestSettings, build_app
from controlplane.rest_guard import VISIBLE
from controlplane.trial_routes import SampleAnswer, TrialAnswer, TrialRequest, trial_routes
from router.core import router_errors
from scorefront.exposition import Exposition
from tests.fakes.plane import Bench, manifest, version

OVERVIEW, FAILURES, TRY = "/api/v1/overview", "/api/v1/endpoints/iris/failures", "/api/v1/endpoints/iris/try"


def failed(number: int, version: str = "blue", code: str = "ModelError", rule: str = "") -> FailedRequest:
    path = "/api/v1/service/iris/score"
    return FailedRequest(float(number), f"id-{number}", "", "POST", path, version, "r1", 502, code, rule, 0.25, 0.0)


class Watched:
    """Failed requests and trials without routers."""

    def __init__(self) -> None:
        self.failed: list[FailedRequest] = []
        self.tried: list[TrialRequest] = []

    async def failures(self, endpoint: str, last: int) -> Sequence[FailedRequest]:
        return sorted(self.failed, key=lambda each: -each.at)[:last]

    async def sample(self, name: str) -> SampleAnswer:
        if name != "iris":
            raise NoSuchEndpoint(name)
        return SampleAnswer('{"data": []}', "")

    async def send(self, request: TrialRequest) -> TrialAnswer:
        self.tried.append(request)
        return TrialAnswer(200, "blue", "id", "", "application/json", 1.5, 2, is_whole=True, body="{}")


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
async def api(bench: Bench, watched: Watched) -> AsyncIterator[TestClient[Any, Any]]:
    plane = bench.plane
    rows = OverviewRows(plane.declared_endpoints, plane.sources, NoTraffic(), bench.clock)
    more = (
        overview_routes(rows, plane.endpoints.skipped),
        failure_routes(plane.keys_of, watched),
        trial_routes(watched),
    )
    app = build_app(plane.endpoints, RestSettings(), Exposition().render, more=more)

    @web.middleware
    async def limited(request: web.Request, handler: Any) -> web.StreamResponse:
        if names := request.headers.get("May-List"):
            request[VISIBLE] = frozenset(names.split(","))
        response: web.StreamResponse = await handler(request)
        return response

    app.middlewares.append(limited)
    client = TestClient(TestServer(app))
    await client.start_server()
    yield client
    await client.close()


async def overview(api: TestClient[Any, Any], query: str = "", **headers: str) -> Any:
    response = await api.get(OVERVIEW + query, headers=headers)
    assert response.status == 200, await response.text()
    body = await response.json()
    assert msgspec.convert(body, OverviewAnswer).document() == body
    return body


async def test_the_overview_pages_through_many_endpoints(api: TestClient[Any, Any], bench: Bench) -> None:
    for number in range(25):
        await bench.apply(manifest(f"e{number:02}", [version(), version("green", trafficPercentile=50)]))
    await bench.clock.advance(2)
    page = await overview(api, "?limit=10&offset=20&sort=name")
    assert [row["name"] for row in page["value"]] == ["e20", "e21", "e22", "e23", "e24"]
    assert (page["endpoints"], page["matching"], page["offset"]) == (25, 25, 20)
    assert (page["ready"], page["health"]["healthy"]) == (50, 25)
    assert [each["version"] for each in page["value"][0]["versions"]] == ["blue", "green"]
    found = await overview(api, "?search=E1&health=healthy,failing")
    assert (found["matching"], found["endpoints"], len(found["value"])) == (10, 25, 10)
    assert (await overview(api, "?offset=500"))["value"] == []


async def test_rows_are_made_anew_after_two_seconds(api: TestClient[Any, Any], bench: Bench) -> None:
    await bench.apply(manifest("iris"))
    assert (await overview(api))["endpoints"] == 1
    await bench.apply(manifest("more"))
    await bench.clock.advance(2)
    assert [row["name"] for row in (await overview(api))["value"]] == ["iris", "more"]


async def test_a_caller_sees_rows_and_sums_of_listed_endpoints_only(api: TestClient[Any, Any], bench: Bench) -> None:
    for name in ("mine", "theirs"):
        await bench.apply(manifest(name))
    await bench.clock.advance(2)
    seen = await overview(api, **{"May-List": "mine,none"})
    assert ([row["name"] for row in seen["value"]], seen["endpoints"], seen["desired"]) == (["mine"], 1, 1)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (f"{OVERVIEW}?health=sick", "must be one of failing, starting, degraded, healthy (got 'sick')"),
        (f"{OVERVIEW}?sort=size", "must be one of health, name, requests, failures, latency (got 'size')"),
        (f"{OVERVIEW}?limit=0", "'limit' must be a whole number from 1 to 200 (got '0')"),
        (f"{OVERVIEW}?limit=201", "'limit' must be a whole number from 1 to 200 (got '201')"),
        (f"{OVERVIEW}?offset=-1", "'offset' must be a whole number"),
        (f"{OVERVIEW}?search={'x' * (MAX_SEARCH + 1)}", "'search' must have at most 100 characters (got 101)"),
        (f"{OVERVIEW}?page=2", "unknown query parameter 'page'"),
        (f"{FAILURES}?last=0", "'last' must be a whole number from 1 to 200 (got '0')"),
        (f"{FAILURES}?first=1", "unknown query parameter 'first'"),
    ],
)
async def test_a_wrong_parameter_is_named_with_value_and_rule(
    api: TestClient[Any, Any], bench: Bench, path: str, rule: str
) -> None:
    await bench.apply(manifest("iris"))
    response = await api.get(path)
    assert response.status == 400
    assert rule in (await response.json())["error"]["message"]


async def test_failures_have_id_code_and_reason(api: TestClient[Any, Any], bench: Bench, watched: Watched) -> None:
    await bench.apply(manifest("iris", [version(), version("green", trafficPercentile=50)]))
    watched.failed = [failed(1), failed(2, "green", "", ""), failed(3, "", "BadRequest", "two lengths")]
    body = await (await api.get(FAILURES)).json()
    assert msgspec.convert(body, FailureListAnswer).document() == body
    assert [(each["requestId"], each["reason"]) for each in body["value"]] == [
        ("id-3", "the request is not valid: two lengths"),
        ("id-2", "the model answered with status 502"),
        ("id-1", REASONS["ModelError"]),
    ]
    assert [each["requestId"] for each in (await (await api.get(f"{FAILURES}?last=1")).json())["value"]] == ["id-3"]
    green = await (await api.get(f"{FAILURES}?version=green&last=1")).json()
    assert [each["requestId"] for each in green["value"]] == ["id-2"]
    assert (await api.get(f"{FAILURES}?version=none")).status == 404
    assert (await api.get("/api/v1/endpoints/none/failures")).status == 404


def test_every_error_of_the_router_has_a_reason() -> None:
    def classes(one: type[router_errors.RouterError]) -> list[type[router_errors.RouterError]]:
        return [one, *(each for below in one.__subclasses__() for each in classes(below))]

    codes = {each.code for each in classes(router_errors.RouterError)}
    assert codes | {router_errors.ModelError.code, "ClientGone"} == REASONS.keys()
    assert reason_of(failed(1, code="Later")) == "the router answered Later"


async def test_a_trial_is_checked_before_it_is_sent(api: TestClient[Any, Any], watched: Watched) -> None:
    response = await api.post(TRY, json={"body": '{"data": [1]}', "version": "blue"})
    body = await response.json()
    assert response.status == 200 and msgspec.convert(body, TrialAnswer).document() == body
    assert watched.tried == [TrialRequest("iris", "blue", "application/json", b'{"data": [1]}')]
    for wrong in ({}, {"body": 1}, {"body": "", "contentType": "a\r\nb: c"}, {"body": "", "key": "x"}):
        assert (await api.post(TRY, json=wrong)).status == 400, wrong
    assert len(watched.tried) == 1
    assert (await (await api.get("/api/v1/endpoints/iris/sample")).json()) == {"body": '{"data": []}', "source": ""}


@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_page_of_another_site_cannot_try(
    api: TestClient[Any, Any], watched: Watched, header: dict[str, str]
) -> None:
    response = await api.post(TRY, json={"body": "{}"}, headers=header)
    assert (response.status, watched.tried) == (403, [])
