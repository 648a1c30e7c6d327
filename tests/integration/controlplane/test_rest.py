import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import jwt
import msgspec
import pytest
from aiohttp import ClientSession
from aiohttp.client_reqrep import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.frontend_policy import FrontEndDecision
from autoscaler.frontend_settings import Size
from autoscaler.policy import Direction
from cluster.link import Histogram, VersionMetrics, WorkerMetrics
from controlplane.answers import (
    DecisionListAnswer,
    ErrorAnswer,
    FrontEndDecisionListAnswer,
    KeysAnswer,
    ReadinessAnswer,
    StatusAnswer,
)
from controlplane.control_token import ControlToken
from controlplane.dashboard_pages import PAGE, dashboard_files
from controlplane.endpoint_service import EndpointService
from controlplane.openapi import OPERATIONS
from controlplane.records import FrontEndRecord
from controlplane.rest import RestSettings, build_app
from scorefront.exposition import Exposition
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from serving.usage import UsageReport, VersionUsage
from tests.fakes.plane import Bench, manifest, version

BLUE = VersionKey("iris", "blue")
TOKEN = "control-token-of-the-test"
IRIS = "/api/v1/endpoints/iris"
MARKUP = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function)")
"""Ways of text to become markup or code."""


async def served(
    bench: Bench, settings: RestSettings, front_end: Callable[..., Any] = lambda last: ()
) -> TestClient[Any, Any]:
    app = build_app(bench.plane.endpoints, settings, Exposition().render, front_end, bench.routers)
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[TestClient[Any, Any]]:
    client = await served(bench, RestSettings(max_body_bytes=100_000))
    yield client
    await client.close()


@pytest.fixture
async def guarded(bench: Bench) -> AsyncIterator[TestClient[Any, Any]]:
    client = await served(bench, RestSettings(loopback=False, authenticators=(ControlToken.fixed(TOKEN),)))
    yield client
    await client.close()


async def put(api: TestClient[Any, Any], document: dict[str, Any] | None = None) -> ClientResponse:
    document = document or manifest()
    return await api.put(f"/api/v1/endpoints/{document['metadata']['name']}", json=document)


async def error(response: ClientResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status == status, await response.text()
    assert response.content_type == "application/json"
    body = await response.json()
    assert body["error"]["code"] == code
    return body["error"]


# ---- endpoints


async def test_an_endpoint_is_declared_read_changed_and_deleted(api: TestClient[Any, Any]) -> None:
    made = await put(api)
    assert made.status == 201 and (await made.json())["metadata"] == {"name": "iris"}
    again = await put(api, manifest(description="changed"))
    assert again.status == 200
    assert (await (await api.get(IRIS)).json())["spec"]["description"] == "changed"
    listed = await (await api.get("/api/v1/endpoints")).json()
    assert [view["metadata"]["name"] for view in listed["value"]] == ["iris"]
    assert (await api.delete(IRIS)).status == 204
    assert (await (await api.get("/api/v1/endpoints")).json()) == {"value": []}


async def test_an_endpoint_that_is_skipped_is_listed_apart_with_the_reason(bench: Bench) -> None:
    await bench.apply(manifest())
    await bench.plane.stop()
    (bench.directory / "endpoints" / "wine.json").write_text("{")
    after = await Bench(bench.directory).start()
    api = await served(after, RestSettings())
    listed = await (await api.get("/api/v1/endpoints")).json()
    assert [view["metadata"]["name"] for view in listed["value"]] == ["iris"]
    (skipped,) = listed["skipped"]
    assert skipped["name"] == "wine" and "wine.json is damaged: " in skipped["message"]
    answer = await error(await api.get("/api/v1/endpoints/wine"), 404, "EndpointSkipped")
    assert "wine.json is damaged: " in answer["message"]
    not_ready = await api.get("/readyz")
    waiting_for = [f"wine: skipped: {skipped['message']}"]
    assert not_ready.status == 503
    assert await not_ready.json() == {"ready": False, "waitingFor": waiting_for, "skipped": [skipped]}
    assert (await api.delete("/api/v1/endpoints/wine")).status == 204
    for path in ("/api/v1/endpoints", "/readyz"):
        assert "skipped" not in await (await api.get(path)).json()
    await api.close()
    await after.plane.stop()


async def test_a_view_has_the_fields_that_clients_rely_on(api: TestClient[Any, Any]) -> None:
    view = await (await put(api, manifest(versions=[version(maxConcurrentRequestsPerContainer=4)]))).json()
    assert set(view) == {"apiVersion", "kind", "metadata", "spec", "status"}
    assert view["status"]["auth"] == "key"
    assert view["status"]["swaggerUri"] == "http://127.0.0.1:8080/api/v1/service/iris/swagger.json"
    assert set(view["status"]["versions"]["blue"]) == {
        *("share", "desired", "ready", "starting", "draining", "failed"),
        *("busy", "total", "waiting", "utilization", "isDefault", "type", "message", "problems"),
    }


async def test_an_invalid_endpoint_is_refused_with_every_fault(api: TestClient[Any, Any]) -> None:
    broken = manifest(versions=[version(minimum=cast(int, "2")), version("Not A Name", trafficPercentile=101)])
    refused = await error(await put(api, broken), 400, "InvalidEndpoint")
    assert len(refused["faults"]) >= 3
    assert all(set(fault) == {"path", "value", "rule"} for fault in refused["faults"])
    assert (await (await api.get("/api/v1/endpoints")).json()) == {"value": []}


async def test_the_name_in_the_path_and_in_the_document_must_agree(api: TestClient[Any, Any]) -> None:
    response = await api.put("/api/v1/endpoints/wine", json=manifest("iris"))
    refused = await error(response, 400, "InvalidEndpoint")
    assert refused["faults"][0]["path"] == "metadata.name"


BAD_JSON = {
    "nothing": b"",
    "not json": b"spec: {}",
    "not utf-8": b'{"a":"\xff"}',
    "NaN": b'{"a":NaN}',
    "a field twice": b'{"a":1,"a":2}',
    "half a character": b'{"a":"\\ud800"}',
    "endless nesting": b"[" * 50_000,
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
async def test_a_body_that_is_not_strict_json_is_a_bad_request(api: TestClient[Any, Any], body: bytes) -> None:
    await error(await api.put(IRIS, data=body), 400, "BadRequest")


@pytest.mark.parametrize("body", ["null", "[]", "3", '"text"', "{}", '{"metadata":7}'])
async def test_json_that_is_no_endpoint_is_invalid(api: TestClient[Any, Any], body: str) -> None:
    await error(await api.put(IRIS, data=body), 400, "InvalidEndpoint")


async def test_a_body_over_the_limit_is_refused(api: TestClient[Any, Any]) -> None:
    await error(await api.put(IRIS, data=b" " * 100_001), 413, "PayloadTooLarge")


UNKNOWN = [
    ("GET", ""),
    ("DELETE", ""),
    ("GET", "/keys"),
    ("POST", "/keys/regenerate"),
    ("POST", "/token"),
    ("PATCH", "/traffic"),
    ("GET", "/logs"),
    ("GET", "/decisions"),
]
BODIES = {"/keys/regenerate": {"keyType": "primary"}, "/traffic": {"percentiles": {}}}


@pytest.mark.parametrize(("method", "rest"), UNKNOWN)
async def test_an_unknown_endpoint_is_not_found_by_any_operation(
    api: TestClient[Any, Any], method: str, rest: str
) -> None:
    response = await api.request(method, f"/api/v1/endpoints/nobody{rest}", json=BODIES.get(rest))
    await error(response, 404, "EndpointNotFound")


@pytest.mark.parametrize("rest", ["/logs?version=red", "/logs?follow=true&version=red", "/decisions?version=red"])
async def test_an_unknown_version_is_not_found(api: TestClient[Any, Any], rest: str) -> None:
    await put(api)
    await error(await api.get(IRIS + rest), 404, "VersionNotFound")


# ---- keys and tokens


async def test_keys_are_shown_and_one_is_regenerated(api: TestClient[Any, Any]) -> None:
    await put(api)
    before = await (await api.get(f"{IRIS}/keys")).json()
    response = await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "secondary"})
    after = await response.json()
    assert set(before) == {"primaryKey", "secondaryKey"}
    assert after["primaryKey"] == before["primaryKey"] and after["secondaryKey"] != before["secondaryKey"]


V1_KEY = "abcdefghijklmnopqrstuvwxyz012345"


async def test_a_key_is_brought_along_in_the_words_of_v1(api: TestClient[Any, Any]) -> None:
    await put(api)
    before = await (await api.get(f"{IRIS}/keys")).json()
    response = await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "Primary", "keyValue": V1_KEY})
    assert await response.json() == {**before, "primaryKey": V1_KEY}
    again = await (await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "Primary", "keyValue": None})).json()
    assert again["primaryKey"] != V1_KEY and again["secondaryKey"] == before["secondaryKey"]


@pytest.mark.parametrize("key", ["too-short", "with space 0123456789", "", 7])
async def test_a_key_of_the_wrong_form_is_refused_without_being_shown(api: TestClient[Any, Any], key: Any) -> None:
    await put(api)
    response = await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "primary", "keyValue": key})
    await error(response, 400, "BadRequest")
    text = await response.text()
    assert "keyValue" in text and (key in ("", 7) or key not in text)


@pytest.mark.parametrize("body", [{}, {"keyType": "third"}, {"keyType": 1}, {"keyType": "primary", "more": 1}, []])
async def test_a_key_type_that_is_none_is_a_bad_request(
    api: TestClient[Any, Any], body: dict[str, Any] | list[Any]
) -> None:
    await put(api)
    await error(await api.post(f"{IRIS}/keys/regenerate", json=body), 400, "BadRequest")


async def test_a_token_is_issued_for_an_endpoint_with_token_auth_only(api: TestClient[Any, Any]) -> None:
    await put(api)
    await error(await api.post(f"{IRIS}/token"), 409, "Conflict")
    await put(api, manifest(tokenAuthEnabled=True))
    token = await (await api.post(f"{IRIS}/token")).json()
    assert set(token) == {"accessToken", "tokenType", "refreshAfter", "expiryOn"}
    claims = jwt.decode(token["accessToken"], options={"verify_signature": False})
    assert (claims["exp"], token["tokenType"]) == (token["expiryOn"], "Bearer")
    assert token["expiryOn"] == token["refreshAfter"] + 12 * 3600


async def test_no_cache_may_keep_keys_or_tokens(api: TestClient[Any, Any]) -> None:
    await put(api, manifest(tokenAuthEnabled=True))
    for response in (await api.get(f"{IRIS}/keys"), await api.post(f"{IRIS}/token")):
        assert response.headers["Cache-Control"] == "no-store"


async def test_keys_and_tokens_are_in_no_log(api: TestClient[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await put(api, manifest(tokenAuthEnabled=True))
        keys = await (await api.get(f"{IRIS}/keys")).json()
        keys |= await (await api.post(f"{IRIS}/keys/regenerate", json={"keyType": "primary"})).json()
        token = (await (await api.post(f"{IRIS}/token")).json())["accessToken"]
        await api.post(f"{IRIS}/keys/regenerate", json={"keyType": keys["primaryKey"]})
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert not any(secret in logged for secret in (*keys.values(), token))


# ---- traffic


async def test_a_traffic_change_keeps_the_versions_that_it_does_not_name(api: TestClient[Any, Any]) -> None:
    await put(api, manifest(versions=[version("blue", isDefault=True), version("green", trafficPercentile=10)]))
    body = {"percentiles": {"green": 25.5}, "default": None, "control": "green"}
    view = await (await api.patch(f"{IRIS}/traffic", json=body)).json()
    assert view["status"]["versions"]["green"]["share"] == 0.255
    assert view["status"]["versions"]["blue"]["isDefault"] is True


@pytest.mark.parametrize("percentiles", [{"green": 101}, {"green": -1}, {"nobody": 5}, {"blue": 60, "green": 60}])
async def test_a_split_that_breaks_a_rule_is_invalid(api: TestClient[Any, Any], percentiles: dict[str, int]) -> None:
    await put(api, manifest(versions=[version("blue"), version("green", trafficPercentile=10)]))
    refused = await error(await api.patch(f"{IRIS}/traffic", json={"percentiles": percentiles}), 400, "InvalidEndpoint")
    assert refused["faults"]


@pytest.mark.parametrize("body", [{}, {"percentiles": {"a": "5"}}, {"percentiles": {"a": True}}, {"percentile": {}}])
async def test_a_split_of_the_wrong_shape_is_a_bad_request(api: TestClient[Any, Any], body: dict[str, Any]) -> None:
    await put(api)
    await error(await api.patch(f"{IRIS}/traffic", json=body), 400, "BadRequest")


# ---- logs and decisions


async def test_logs_are_one_json_object_a_line(api: TestClient[Any, Any], bench: Bench) -> None:
    await put(api)
    bench.provider.logged[BLUE] = {"iris-blue-1": ["one", "two ü"]}
    response = await api.get(f"{IRIS}/logs?version=blue&tail=5")
    assert response.content_type == "application/x-ndjson"
    lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert lines == [{"version": "blue", "replica": "iris-blue-1", "line": each} for each in ("one", "two ü")]


async def test_followed_logs_go_on_after_the_tail_until_the_client_leaves(
    api: TestClient[Any, Any], bench: Bench
) -> None:
    await put(api)
    bench.provider.logged[BLUE] = {"r": ["past"]}
    async with api.get(f"{IRIS}/logs?follow=true&tail=1") as response:
        assert json.loads(await response.content.readline())["line"] == "past"
        bench.provider.log_feed.put_nowait(("r", "new"))
        assert json.loads(await response.content.readline())["line"] == "new"


async def test_an_open_log_stream_does_not_hold_up_the_shutdown(bench: Bench) -> None:
    api = await served(bench, RestSettings())
    await put(api)
    response = await api.get(f"{IRIS}/logs?follow=true")
    assert response.status == 200
    await bench.until(lambda: True)
    await api.server.close()
    await api.close()


QUERIES = ["tail=-1", "tail=x", "tail=10001", "tail=", "follow=perhaps", "since=1", "tail=١"]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_log_query_out_of_range_is_a_bad_request(api: TestClient[Any, Any], query: str) -> None:
    await put(api)
    await error(await api.get(f"{IRIS}/logs?{query}"), 400, "BadRequest")


async def test_decisions_are_listed_newest_last(api: TestClient[Any, Any], bench: Bench) -> None:
    await put(api)
    for waiting in (1, 3):
        row = VersionUsage("iris", "blue", 1, 1, waiting, 0.0, {})
        bench.plane.reports.usage_reported(UsageReport("w", bench.clock.now(), (row,), (BLUE,)))
        await bench.clock.advance(0.06)
    decisions = (await (await api.get(f"{IRIS}/decisions?last=2&version=blue")).json())["value"]
    assert [(each["previous"], each["desired"], each["direction"]) for each in decisions] == [
        (1, 2, "up"),
        (2, 5, "up"),
    ]
    assert all(each["reason"] and each["version"] == "blue" for each in decisions)


@pytest.mark.parametrize("query", ["last=0", "last=1001", "last=many", "limit=3"])
async def test_a_decision_query_out_of_range_is_a_bad_request(api: TestClient[Any, Any], query: str) -> None:
    await put(api)
    await error(await api.get(f"{IRIS}/decisions?{query}"), 400, "BadRequest")


# ---- probes, metrics, documents


async def test_decisions_on_the_front_end_are_listed_as_they_were_made(bench: Bench) -> None:
    one, two = Size(1, 3), Size(2, 3)
    records = [
        FrontEndRecord(FrontEndDecision(1.0, one, two, Direction.UP, "routing", "Slow."), 1000.5),
        FrontEndRecord(FrontEndDecision(9.0, two, two, Direction.HOLD, "enough", "Fast."), 1008.5),
    ]
    api = await served(bench, RestSettings(), lambda last: records[-last:])
    path = "/api/v1/front-end/decisions"
    first, second = (await (await api.get(path)).json())["value"]
    assert first == {
        "at": 1000.5,
        "previous": {"workers": 1, "routers": 3},
        "desired": {"workers": 2, "routers": 3},
        "direction": "up",
        "rule": "routing",
        "reason": "Slow.",
    }
    assert (await (await api.get(f"{path}?last=1")).json())["value"] == [second]
    await error(await api.get(f"{path}?last=0"), 400, "BadRequest")
    await error(await api.get(f"{path}?version=blue"), 400, "BadRequest")
    await api.close()


async def test_health_is_ok(api: TestClient[Any, Any]) -> None:
    response = await api.get("/healthz")
    assert (response.status, await response.text()) == (200, "ok")


async def test_readiness_names_the_missing_conditions(api: TestClient[Any, Any], bench: Bench) -> None:
    assert (await api.get("/readyz")).status == 200
    bench.provider.starts_ready = False
    await put(api)
    waiting = await api.get("/readyz")
    assert waiting.status == 503
    assert await waiting.json() == {"ready": False, "waitingFor": ["iris/blue: 0 of 1 ready: starting"]}
    bench.provider.become(bench.provider.of(BLUE)[0], ReplicaState.READY)
    await bench.clock.advance(0)
    assert await (await api.get("/readyz")).json() == {"ready": True, "waitingFor": []}


async def test_metrics_are_prometheus_text_of_everything(api: TestClient[Any, Any], bench: Bench) -> None:
    await put(api)
    empty = Histogram((0.1,), (0, 0), 0.0)
    row = VersionMetrics("iris", "blue", {200: 5}, empty, empty, empty, busy=1, total=1)
    bench.routers.metrics = [WorkerMetrics("w", (row,), 3, 0, 0.001, {})]
    response = await api.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {
        sample.name
        for family in text_string_to_metric_families(await response.text())
        for sample in family.samples
        if sample.name.startswith("scorefront_")
    }
    assert {
        "scorefront_requests_total",
        "scorefront_request_duration_seconds_bucket",
        "scorefront_queue_wait_seconds_sum",
        "scorefront_routing_seconds_count",
        "scorefront_busy_slots",
        "scorefront_total_slots",
        "scorefront_waiting_requests",
        "scorefront_utilization_ratio",
        "scorefront_replicas",
        "scorefront_desired_replicas",
        "scorefront_scale_decisions_total",
        "scorefront_slot_violations_total",
        "scorefront_connections",
        "scorefront_worker_loop_lag_seconds",
    } <= names


async def test_the_openapi_document_lists_exactly_the_routes_there_are(api: TestClient[Any, Any]) -> None:
    document = await (await api.get("/openapi.json")).json()
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    exist = {(route.method, route.resource.canonical) for route in api.app.router.routes()}
    assert document["openapi"].startswith("3.1") and listed == exist
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)


async def test_every_reference_in_the_openapi_document_leads_somewhere(api: TestClient[Any, Any]) -> None:
    text = await (await api.get("/openapi.json")).text()
    schemas = json.loads(text)["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert references and all(each.removeprefix("#/components/schemas/") in schemas for each in references)


async def test_answers_are_as_the_openapi_document_describes_them(api: TestClient[Any, Any], bench: Bench) -> None:
    """Its schemas are generated from these records; a field that is missing, of another type or unknown would fail."""
    await put(api)
    row = VersionUsage(*BLUE, 1, 1, 3, 0.0, {})
    bench.plane.reports.usage_reported(UsageReport("w1", bench.clock.now(), (row,), (BLUE,)))
    await bench.clock.advance(3)
    shapes = {
        "/readyz": (200, ReadinessAnswer),
        f"{IRIS}/keys": (200, KeysAnswer),
        f"{IRIS}/decisions": (200, DecisionListAnswer),
        "/api/v1/front-end/decisions": (200, FrontEndDecisionListAnswer),
        "/api/v1/endpoints/none": (404, ErrorAnswer),
    }
    for path, (status, shape) in shapes.items():
        response = await api.get(path)
        body = await response.json()
        assert response.status == status and msgspec.convert(body, shape).document() == body, path
    status = (await (await api.get(IRIS)).json())["status"]
    assert msgspec.convert(status, StatusAnswer).document() == status
    refused = await api.put(IRIS, json={**manifest(), "spec": {}})
    body = await refused.json()
    assert refused.status == 400 and msgspec.convert(body, ErrorAnswer).document() == body


async def test_the_dashboard_is_static_and_may_load_nothing_from_elsewhere(api: TestClient[Any, Any]) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    for name in dashboard_files():
        response = await api.get("/" if name == PAGE else f"/dashboard/{name}")
        assert (response.status, response.content_type) == (200, kinds[name.rpartition(".")[2]])
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        body = await response.text()
        if name.startswith("uplot."):
            continue  # vendored: its comments name its home
        assert body and "http://" not in body.replace("http://www.w3.org/", "") and "https://" not in body
        assert MARKUP.search(body) is None and 'style="' not in body and 'onclick="' not in body


async def test_a_browser_that_has_a_file_gets_no_second_copy(api: TestClient[Any, Any]) -> None:
    first = await api.get("/dashboard/dashboard.css")
    again = await api.get("/dashboard/dashboard.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status, again.status, await again.read()) == (200, 304, b"")
    changed = await api.get("/dashboard/dashboard.css", headers={"If-None-Match": '"another"'})
    assert changed.status == 200
    for name in ("index.html", "__init__.py", "..%2frest.py", "none.js"):
        await error(await api.get(f"/dashboard/{name}"), 404, "NotFound")


async def test_a_missing_page_is_a_json_404_and_a_wrong_method_a_405_with_allow(api: TestClient[Any, Any]) -> None:
    for path in ("/nothing", "/api/v1/endpoints/a/b/c", "/api/v2/endpoints", "/dashboard/../x"):
        await error(await api.get(path), 404, "NotFound")
    response = await api.post("/api/v1/endpoints", json={})
    await error(response, 405, "MethodNotAllowed")
    assert response.headers["Allow"] == "GET"
    allowed = (await api.post(IRIS, json={})).headers["Allow"]
    assert set(allowed.split(",")) == {"GET", "PUT", "DELETE"}


async def test_a_fault_of_ours_is_a_500_that_gives_nothing_away(
    api: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("inner detail")

    monkeypatch.setattr(EndpointService, "views", broken)
    response = await api.get("/api/v1/endpoints")
    refused = await error(response, 500, "Internal")
    assert "inner detail" not in refused["message"] and "inner detail" in caplog.text


# ---- authorized callers


@pytest.mark.parametrize("host", ["localhost", "localhost:81", "127.0.0.1", "127.9.9.9:8081", "[::1]", "[::1]:8081"])
async def test_a_name_of_this_machine_is_served(api: TestClient[Any, Any], host: str) -> None:
    assert (await api.get("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[", ""]
)
async def test_a_name_that_was_rebound_to_this_machine_is_refused(api: TestClient[Any, Any], host: str) -> None:
    await error(await api.get("/api/v1/endpoints", headers={"Host": host}), 403, "Forbidden")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", "http://127.0.0.1:1", "["])
async def test_a_page_of_another_origin_may_change_nothing(api: TestClient[Any, Any], origin: str) -> None:
    await put(api)
    headers = {"Origin": origin}
    await error(await api.delete(IRIS, headers=headers), 403, "Forbidden")
    assert (await api.get(IRIS)).status == 200


async def test_a_page_of_our_own_may(api: TestClient[Any, Any]) -> None:
    await put(api)
    origin = f"http://{api.host}:{api.port}"
    assert (await api.delete(IRIS, headers={"Origin": origin})).status == 204


async def test_beyond_loopback_everything_but_the_probes_needs_the_token(guarded: TestClient[Any, Any]) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{name}", "iris")
        response = await guarded.request(operation.method, path)
        if operation.is_open:
            assert response.status == 200
        else:
            await error(response, 401, "Unauthorized")
            assert "Bearer" in response.headers.getall("WWW-Authenticate")[0]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize("credential", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
async def test_the_control_token_opens(guarded: TestClient[Any, Any], credential: str) -> None:
    headers = {"Authorization": credential, "Host": "scorefront.example"}
    assert (await guarded.get("/api/v1/endpoints", headers=headers)).status == 200
    assert (await guarded.get("/", headers=headers)).status == 200


WRONG = [
    f"Bearer {TOKEN}x",
    "Bearer",
    "Bearer ",
    TOKEN,
    "Basic !",
    "Basic /w==",
    basic("wrong"),
    f"Digest {TOKEN}",
    "Bearer ü",
]


@pytest.mark.parametrize("credential", WRONG)
async def test_anything_else_does_not(guarded: TestClient[Any, Any], credential: str) -> None:
    response = await guarded.get("/api/v1/endpoints", headers={"Authorization": credential})
    await error(response, 401, "Unauthorized")


async def test_two_credentials_are_none(guarded: TestClient[Any, Any]) -> None:
    async with ClientSession() as session:
        headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
        async with session.get(guarded.make_url("/api/v1/endpoints"), headers=headers) as response:
            assert response.status == 401


async def test_an_api_beyond_loopback_without_a_token_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="authenticator"):
        build_app(Bench(tmp_path).plane.endpoints, RestSettings(loopback=False), Exposition().render)
