"""Blobs and models over REST: handlers that translate HTTP to calls of the store and the registry."""

import asyncio
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from aiohttp import web

from controlplane import payload
from controlplane.control_errors import InvalidCall
from controlplane.openapi import BINARY, JSON, Operation
from controlplane.rest_guard import Handler
from controlplane.route_sets import RouteSet
from workspace.models.model_answers import (
    RECORDS,
    BlobAnswer,
    ModelChange,
    ModelListEncoder,
    ModelRegistration,
    answer,
)
from workspace.models.model_records import RegisteredModel, parsed_id, parsed_version
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import Blob, FileStore, checked_sha256
from workspace.transfers import receive_blob, send_blob
from workspace.workspace_errors import NoSuchModelFile

LATEST: Final = "latest"
"""In place of a version in a path: the latest one."""
_BLOB: Final = "/api/v1/blobs/{sha256}"
_MODELS: Final = "/api/v1/models"
_MODEL: Final = f"{_MODELS}/{{name}}/{{version}}"


_ALL: Final = (
    Operation("checkBlob", "HEAD", _BLOB, "Existence of a blob", {200: "", 404: ""}),
    Operation(
        "putBlob",
        "PUT",
        _BLOB,
        "Upload a blob, named by its SHA-256; a broken upload leaves nothing",
        {200: "Blob", 400: "Error", 413: "Error", 507: "Error"},
        body=BINARY,
    ),
    Operation(
        "registerModel",
        "POST",
        _MODELS,
        "Register a model of uploaded blobs under the next version of its name",
        {201: "Model", 400: "Error", 404: "Error"},
        body="ModelRegistration",
    ),
    Operation(
        "listModels",
        "GET",
        _MODELS,
        "Models by name, the latest version of each first",
        {200: "ModelList", 400: "Error"},
        query={
            "name": {"type": "string", "description": "only models of this name"},
            "tag": {"type": "string", "description": "KEY or KEY=VALUE; repeatable: only models with all of them"},
            "latest": {"type": "boolean", "default": False, "description": "only the latest version of each name"},
        },
    ),
    Operation("getModel", "GET", _MODEL, "One model with its files", {200: "Model", 400: "Error", 404: "Error"}),
    Operation(
        "updateModel",
        "PATCH",
        _MODEL,
        "Replace tags or description, or add properties",
        {200: "Model", 400: "Error", 404: "Error"},
        body="ModelChange",
    ),
    Operation(
        "deleteModel",
        "DELETE",
        _MODEL,
        "Delete a model that no declared version was deployed from; its number is not given again",
        {204: "", 400: "Error", 404: "Error", 409: "Error"},
    ),
    Operation(
        "getModelFile",
        "GET",
        f"{_MODEL}/files/{{path}}",
        "Content of one file",
        {200: BINARY, 400: "Error", 404: "Error"},
    ),
)
MODEL_OPERATIONS: Final = tuple(replace(operation, subject="model") for operation in _ALL)


def model_routes(store: FileStore, models: ModelRegistry) -> RouteSet:
    """The operations with their handlers."""
    rest = _ModelRest(store, models)
    handlers: dict[str, Handler] = {
        "checkBlob": rest.check_blob,
        "putBlob": rest.put_blob,
        "registerModel": rest.register,
        "listModels": rest.listed,
        "getModel": rest.get,
        "updateModel": rest.update,
        "deleteModel": rest.delete,
        "getModelFile": rest.file,
    }
    return RouteSet(MODEL_OPERATIONS, handlers, RECORDS)


class _ModelRest:
    def __init__(self, store: FileStore, models: ModelRegistry) -> None:
        self._store = store
        self._models = models
        self._list = ModelListEncoder()

    async def check_blob(self, request: web.Request) -> web.StreamResponse:
        found = await asyncio.to_thread(self._store.has_blob, request.match_info["sha256"])
        return web.Response(status=200 if found else 404)

    async def put_blob(self, request: web.Request) -> web.StreamResponse:
        blob = await receive_blob(self._store, request, checked_sha256(request.match_info["sha256"]))
        return web.json_response(BlobAnswer(blob.sha256, blob.size_bytes).document())

    async def register(self, request: web.Request) -> web.StreamResponse:
        registration = payload.read(await request.read(), ModelRegistration)
        return _shown(await self._models.register(registration.draft()), 201)

    async def listed(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "name", "tag", "latest")
        name = request.query.get("name")
        tags = [_tag(text) for text in request.query.getall("tag", [])]
        found = self._models.list(name, tags, payload.yes_no(request.query, "latest"))
        return web.Response(body=self._list.encode(found), content_type=JSON, charset="utf-8")

    async def get(self, request: web.Request) -> web.StreamResponse:
        return _shown(self._model(request))

    async def update(self, request: web.Request) -> web.StreamResponse:
        name, version = _place(request)
        change = payload.read(await request.read(), ModelChange)
        return _shown(await self._models.update(name, version, change.tags, change.properties, change.description))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        await self._models.delete(*_place(request))
        return web.Response(status=204)

    async def file(self, request: web.Request) -> web.StreamResponse:
        model, path = self._model(request), request.match_info["path"]
        found = next((file for file in model.files if file.path == path), None)
        if found is None:
            raise NoSuchModelFile(f"model {model.id} has no file '{path}'")
        name = quote(path.rpartition("/")[2])
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return await send_blob(self._store, request, Blob(found.sha256, found.size_bytes), headers)

    def _model(self, request: web.Request) -> RegisteredModel:
        if request.match_info["version"] == LATEST:
            return self._models.get(parsed_id(request.match_info["name"])[0])
        return self._models.get(*_place(request))


def _place(request: web.Request) -> tuple[str, int]:
    """Name and version in the path. Raises InvalidModel."""
    name, _ = parsed_id(request.match_info["name"])
    return name, parsed_version(request.match_info["version"])


def _tag(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not key:
        raise InvalidCall(f"query parameter 'tag' must be KEY or KEY=VALUE (got {text[:80]!r})")
    return key, value if equals else None


def _shown(model: RegisteredModel, status: int = 200) -> web.Response:
    return web.json_response(answer(model).document(), status=status)
