"""`tests.fakes.kubernetes` over HTTP: for processes that look for a Kubernetes API."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import web

from cluster.kubernetes.client.api_errors import ApiError
from tests.fakes.kubernetes import FakeKubernetes


@asynccontextmanager
async def serve(api: FakeKubernetes, folder: Path) -> AsyncIterator[Path]:
    """The path of a kubeconfig that leads to it."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", _Handler(api).answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield _kubeconfig(folder, f"http://127.0.0.1:{runner.addresses[0][1]}", api.home)
    finally:
        await runner.cleanup()


def _kubeconfig(folder: Path, url: str, namespace: str) -> Path:
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


class _Handler:
    def __init__(self, api: FakeKubernetes) -> None:
        self._api = api

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            if "watch" in request.query:
                return await self._watch(request)
            return web.json_response(await self._once(request))
        except ApiError as error:
            status = {"kind": "Status", "reason": error.reason, "message": error.message, "code": error.status}
            return web.json_response(status, status=error.status)

    async def _once(self, request: web.Request) -> object:
        body = await request.json() if request.body_exists else {}
        match request.method:
            case "GET" if request.path == "/version":
                return {"gitVersion": await self._api.version()}
            case "GET":
                return await self._api.get(request.path, request.query)
            case "POST":
                if request.path.endswith("/selfsubjectreviews"):
                    raise ApiError("no other token than our own is known", 401, "Unauthorized")
                return await self._api.create(request.path, body)
            case "PUT":
                return await self._api.replace(request.path, body)
            case "PATCH" if request.content_type.startswith("application/apply-patch"):
                query = request.query
                return await self._api.apply(request.path, body, query["fieldManager"], query.get("force") == "true")
            case "PATCH":
                return await self._api.merge(request.path, body)
        raise ApiError(f"{request.method} is not played", 405)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        async with aclosing(self._api.lines(request.path, dict(request.query), 60.0)) as lines:
            async for line in lines:
                await response.write(json.dumps(json.loads(line)).encode() + b"\n")
        return response
