"""Responses of every operation against the OpenAPI document that is served with them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from openapi_spec_validator import validate

from controlplane.openapi import OPERATIONS, OUTCOME_HEADER
from controlplane.rest import RestSettings
from serving.endpoint import VersionKey
from serving.usage import UsageReport, VersionUsage
from tests.fakes.plane import Bench, manifest, version
from tests.integration.controlplane.test_rest import served

BLUE = VersionKey("iris", "blue")
Client = TestClient[Any, Any]
FULL = manifest(
    description="Which iris is it?",
    kvTags={"owner": "flowers"},
    versions=[
        version("blue", isDefault=True, type="Control", trafficPercentile=12.5),
        version("green", numReplicas=2, autoScaler={"autoscaleEnabled": False}),
        {"name": "grey", "replica": {"static": ["127.0.0.1:9400"]}},
    ],
)
FULL["metadata"] |= {"namespace": "models", "labels": {"team": "flowers"}, "annotations": {"note": "x"}}


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Client]:
    client = await served(bench, RestSettings(max_body_bytes=100_000))
    for document in (FULL, manifest("wine", tokenAuthEnabled=True)):
        made = await client.put(f"/api/v1/endpoints/{document['metadata']['name']}", json=document)
        assert made.status == 201, await made.text()
    row = VersionUsage(*BLUE, 1, 1, 3, 0.0, {})
    bench.plane.reports.usage_reported(UsageReport("w1", bench.clock.now(), (row,), (BLUE,)))
    await bench.clock.advance(3)
    yield client
    await client.close()


class Contract:
    """The served document, as a judge of responses."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    async def judge(self, method: str, path: str, response: ClientResponse) -> None:
        """Fails unless status, media type, header and body are as described for this operation."""
        described = self.document["paths"][path][method.lower()]["responses"]
        answer = described.get(str(response.status)) or described["default"]
        where = f"{method} {path} {response.status}"
        for name in answer.get("headers", {}):
            jsonschema.validate(response.headers.get(name), answer["headers"][name]["schema"])
        content = answer.get("content")
        if content is None:
            assert await response.read() == b"", where
            return
        assert response.content_type in content, where
        body: Any = await response.text()
        if response.content_type == "application/json":
            body = json.loads(body)
        schema = {**content[response.content_type]["schema"], "components": self.document["components"]}
        faults = [fault.message[:200] for fault in jsonschema.Draft202012Validator(schema).iter_errors(body)]
        assert faults == [], where


GOOD: dict[str, tuple[str, Any, int]] = {
    "putEndpoint": ("", FULL, 200),
    "regenerateKey": ("", {"keyType": "primary"}, 200),
    "setTraffic": ("", {"percentiles": {"blue": 20}}, 200),
    "restartEndpoint": ("", {"version": "blue"}, 200),
    "deleteEndpoint": ("", None, 204),
    "getWhatIf": ("?policy=target=50", None, 200),
}
"""Operation -> query, body and status of a request that succeeds; the others need neither query nor body."""
WITH_TOKENS = ("issueToken", "revokeTokens")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_every_operation_answers_as_its_document_says(api: Client, operation: Any) -> None:
    contract = Contract(await (await api.get("/openapi.json")).json())
    query, body, status = GOOD.get(operation.id, ("", None, 200))
    name = "wine" if operation.id in WITH_TOKENS else "iris"
    response = await api.request(
        operation.method, operation.path.format(name=name, file="dashboard.js") + query, json=body
    )
    assert response.status in (status, 503 if operation.id == "readiness" else status)
    await contract.judge(operation.method, operation.path, response)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if "{name}" in each.path], ids=lambda each: each.id)
async def test_errors_are_as_the_document_says(api: Client, operation: Any) -> None:
    contract = Contract(await (await api.get("/openapi.json")).json())
    absent, here = (operation.path.format(name=name) for name in ("none", "iris"))
    calls = [
        api.request(operation.method, absent, json={} if operation.body else None),
        api.request(operation.method, here, data=b"{broken" if operation.body else None, params={"last": "x"}),
        api.request(operation.method, here, data=b"x" * 200_000),
        api.request(operation.method, here, headers={"Origin": "http://evil.example"}),
        api.request(operation.method, here, headers={"Host": "evil.example"}),
    ]
    statuses = []
    for call in calls:
        response = await call
        statuses.append(response.status)
        await contract.judge(operation.method, operation.path, response)
    assert any(status >= 400 for status in statuses)


async def test_the_outcome_of_a_declaration_is_created_changed_or_unchanged(api: Client) -> None:
    document, changed = manifest("rose"), manifest("rose", description="red")
    outcomes = []
    for each in (document, document, changed, document):
        response = await api.put("/api/v1/endpoints/rose", json=each)
        outcomes.append((response.status, response.headers[OUTCOME_HEADER]))
    assert outcomes == [(201, "created"), (200, "unchanged"), (200, "changed"), (200, "changed")]


async def test_the_listing_with_skipped_endpoints_is_as_the_document_says(bench: Bench) -> None:
    folder = bench.directory / "endpoints"
    damaged = folder / "wine.json"
    damaged.write_text("{}")
    damaged.chmod(0o600)
    await bench.plane.stop()
    again = await Bench(bench.directory).start()
    client = await served(again, RestSettings())
    contract = Contract(await (await client.get("/openapi.json")).json())
    for path in ("/api/v1/endpoints", "/readyz"):
        response = await client.get(path)
        assert (await response.json())["skipped"]
        await contract.judge("GET", path, response)
    await client.close()
    await again.plane.stop()


async def test_the_document_is_valid_openapi(api: Client) -> None:
    validate(await (await api.get("/openapi.json")).json())
