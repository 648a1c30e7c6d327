"""REST of operations: responses as described, errors, the followed log."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from controlplane.rest import RestSettings, build_app
from scorefront.exposition import Exposition
from tests.fakes.deployments import DeploymentBench
from tests.integration.controlplane.test_openapi import Contract
from workspace.operation_routes import OPERATIONS, operation_routes

Client = TestClient[Any, Any]


@pytest.fixture
async def api(bench: DeploymentBench) -> AsyncIterator[Client]:
    plane = bench.bench.plane
    routes = operation_routes(bench.service)
    app = build_app(plane.endpoints, RestSettings(), Exposition().render, more=(routes,))
    client = TestClient(TestServer(app))
    await client.start_server()
    yield client
    await client.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_every_operation_answers_as_its_document_says(
    bench: DeploymentBench, api: Client, operation: Any
) -> None:
    ended = await bench.deployed(bench.request())
    contract = Contract(await (await api.get("/openapi.json")).json())
    statuses = []
    for identifier, name in ((ended.id, "iris"), ("nowhere", "nowhere")):
        response = await api.request(operation.method, operation.path.format(id=identifier, name=name))
        statuses.append(response.status)
        await contract.judge(operation.method, operation.path, response)
    expected = {"listOperations": [200, 200], "cancelOperation": [409, 404]}
    assert statuses == expected.get(operation.id, [200, 404])


async def test_an_operation_shows_its_steps(bench: DeploymentBench, api: Client) -> None:
    ended = await bench.deployed(bench.request())
    found = await (await api.get(f"/api/v1/operations/{ended.id}")).json()
    assert (found["state"], found["kind"], found["endpoint"], found["version"]) == (
        "Succeeded",
        "Create",
        "iris",
        "blue",
    )
    assert [each["step"] for each in found["steps"]] == [
        "validate",
        "snapshot",
        "environment",
        "models",
        "start",
        "ready",
    ]


async def test_the_origin_of_each_version_is_served(bench: DeploymentBench, api: Client) -> None:
    ended = await bench.deployed(bench.request())
    (found,) = (await (await api.get("/api/v1/endpoints/iris/deployments")).json())["value"]
    assert (found["operation"], found["version"], found["entryScript"]) == (ended.id, "blue", "score.py")
    assert [each["path"] for each in found["source"]] == ["score.py"]


async def test_the_list_can_be_of_one_endpoint(bench: DeploymentBench, api: Client) -> None:
    await bench.deployed(bench.request())
    second = await bench.deployed(bench.request("rose"))
    found = (await (await api.get("/api/v1/operations?endpoint=rose")).json())["value"]
    assert [each["id"] for each in found] == [second.id]
    assert (await api.get("/api/v1/operations?name=rose")).status == 400


async def test_a_followed_log_ends_with_the_operation(bench: DeploymentBench, api: Client) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())

    async def read() -> list[str]:
        response = await api.get(f"/api/v1/operations/{running.id}/logs?follow=true")
        return [json.loads(line)["line"] async for line in response.content]

    following = asyncio.create_task(read())
    await bench.reaches(running.id, "ready")
    assert (await api.post(f"/api/v1/operations/{running.id}/cancel")).status == 202
    await bench.ended(running.id)
    lines = await following
    assert lines == await bench.lines(running.id)
    assert lines[-1].startswith("Create Cancelled after")
    past = await api.get(f"/api/v1/operations/{running.id}/logs?from=2")
    assert [json.loads(line)["line"] for line in (await past.text()).splitlines()] == lines[2:]
