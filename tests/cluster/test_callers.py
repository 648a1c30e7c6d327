"""Callers of REST before a real API server: identity and rights come from its answers for their own token."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, Misconfigured
from cluster.kubernetes.client.paths import CONFIGMAPS, path
from controlplane import rest_guard as guard
from controlplane.kubernetes.cluster_callers import KubernetesCallers
from controlplane.openapi import OPERATIONS
from scorefront.process.process_main import ProcessClock
from tests.cluster.accounts import account, kubeconfig
from tests.cluster.played.kube import Kube, Object

NAMESPACE = "callers"
IRIS = "/api/v1/endpoints/iris"
VIEWER: list[Object] = [
    {"apiGroups": ["scorefront.io"], "resources": ["scoringendpoints"], "verbs": ["get", "list"]},
    {"apiGroups": ["scorefront.io"], "resources": ["scoringendpoints/log"], "verbs": ["get"]},
]
KEEPER: list[Object] = [
    {"apiGroups": ["scorefront.io"], "resources": ["scoringendpoints/keys"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tokens(kube: Kube) -> AsyncIterator[dict[str, str]]:
    """Tokens of service accounts: a reader, a reader of keys, and the process itself without rights."""
    await kube.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    try:
        rules: dict[str, list[Object]] = {"viewer": VIEWER, "keeper": KEEPER, "itself": []}
        yield {name: await account(kube, NAMESPACE, name, each) for name, each in rules.items()}
    finally:
        await kube.delete(f"/api/v1/namespaces/{NAMESPACE}")


@pytest_asyncio.fixture(loop_scope="session")
async def api(kube: Kube, tokens: dict[str, str], tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.connect({"KUBECONFIG": str(kubeconfig(kube, tokens["itself"], tmp_path / "itself"))})
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def rest(api: Api) -> AsyncIterator["TestClient[Any, Any]"]:
    """Every operation, answered with the caller's name."""

    async def named(request: web.Request) -> web.StreamResponse:
        visible = request.get(guard.VISIBLE)
        return web.json_response({"caller": request[guard.CALLER], "visible": None if visible is None else [*visible]})

    judge = KubernetesCallers(api, NAMESPACE, lambda: {"iris": NAMESPACE, "wine": "default"}, ProcessClock())
    app = web.Application(middlewares=[guard.json_errors(), guard.credential_required((judge,), ())])
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, named, name=operation.id)
    async with TestClient(TestServer(app)) as client:
        yield client


async def asked(rest: "TestClient[Any, Any]", token: str, where: str, method: str = "GET") -> tuple[int, Any]:
    async with rest.request(method, where, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, await answer.json()


async def test_a_service_account_has_the_rights_of_its_role(
    rest: "TestClient[Any, Any]", tokens: dict[str, str]
) -> None:
    status, told = await asked(rest, tokens["viewer"], IRIS)
    assert (status, told["caller"]) == (200, f"system:serviceaccount:{NAMESPACE}:viewer")
    assert (await asked(rest, tokens["viewer"], f"{IRIS}/logs"))[0] == 200
    status, told = await asked(rest, tokens["viewer"], "/api/v1/endpoints")
    assert (status, told["visible"]) == (200, ["iris"])
    for method, where, right in (
        ("GET", f"{IRIS}/keys", "get scoringendpoints/keys.scorefront.io in namespace callers"),
        ("DELETE", IRIS, "delete scoringendpoints.scorefront.io in namespace callers"),
        ("GET", "/api/v1/endpoints/wine", "get scoringendpoints.scorefront.io in namespace default"),
        ("GET", "/metrics", "get /metrics"),
    ):
        status, told = await asked(rest, tokens["viewer"], where, method)
        assert status == 403 and right in told["error"]["message"], where
    assert (await asked(rest, tokens["keeper"], f"{IRIS}/keys"))[0] == 200
    assert (await asked(rest, tokens["keeper"], IRIS))[0] == 403


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
async def test_a_token_unknown_to_the_api_server_is_401(rest: "TestClient[Any, Any]", token: str) -> None:
    assert (await asked(rest, token, IRIS))[0] == 401


async def test_a_write_with_a_callers_token_has_the_callers_rights(api: Api, tokens: dict[str, str]) -> None:
    body: Object = {"metadata": {"name": "made"}}
    dry = {"dryRun": "All"}
    await api.with_token(tokens["keeper"]).create(path(CONFIGMAPS, NAMESPACE), body, dry)
    for other in (api, api.with_token(tokens["viewer"])):
        with pytest.raises(ApiError) as refused:
            await other.create(path(CONFIGMAPS, NAMESPACE), body, dry)
        assert refused.value.status == 403


async def test_a_client_certificate_is_never_sent_beside_a_callers_token(kube: Kube, tokens: dict[str, str]) -> None:
    admin = await Api.connect()
    try:
        with pytest.raises(Misconfigured):
            await admin.with_token(tokens["viewer"]).get(path(CONFIGMAPS, NAMESPACE))
    finally:
        await admin.close()
