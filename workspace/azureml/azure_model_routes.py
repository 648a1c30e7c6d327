"""Routes of models in the Azure ML v1 protocol."""

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from controlplane.payload import whole_number
from controlplane.rest_guard import Handler
from workspace.artifacts import Artifact, ArtifactRegistry
from workspace.azureml.model_object import asset_id_of, model_change, model_fields, model_object
from workspace.azureml.service_answer import has_pairs
from workspace.azureml.wire import MODEL_MANAGEMENT, base_url, body_of, mapping_of, route
from workspace.models.model_records import ModelDraft, ModelFile, RegisteredModel, parsed_id
from workspace.models.model_registry import ModelRegistry

MODELS: Final = MODEL_MANAGEMENT + "/models"
MAX_PAGE = 1000

OPERATIONS: Final = (
    route("RegisterModel", "POST", MODELS, "Register a model", "model"),
    route("ListModels", "GET", MODELS, "Models that fit", "model"),
    route("GetModel", "GET", MODELS + "/{name}", "One model, name:version", "model"),
    route("PatchModel", "PATCH", MODELS + "/{name}", "Change a model", "model"),
    route("DeleteModel", "DELETE", MODELS + "/{name}", "Remove a model", "model"),
)


class AzureModelRoutes:
    """Handlers of models."""

    def __init__(self, models: ModelRegistry, artifacts: ArtifactRegistry) -> None:
        """`models`, `artifacts`: the registries."""
        self._models = models
        self._artifacts = artifacts

    def handlers(self) -> dict[str, Handler]:
        """Handler by id of OPERATIONS."""
        handlers = (self.register, self.listed, self.get, self.patch, self.delete)
        return {operation.id: handler for operation, handler in zip(OPERATIONS, handlers, strict=True)}

    async def register(self, request: web.Request) -> web.StreamResponse:
        """Register the artifacts of an asset as a model."""
        payload = await mapping_of(request)
        asset = await self._artifacts.asset(asset_id_of(payload))
        files: list[ModelFile] = []
        for prefix in asset.prefixes:
            files += files_below(prefix, await self._artifacts.list(prefix))
        draft = ModelDraft(files=tuple(files), asset_id=asset.id, **model_fields(payload))
        return web.json_response(model_object(await self._models.register(draft)))

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """Models that fit the filters, in pages: the newest of a name first."""
        query = request.query
        latest = query.get("latestVersionOnly", "").lower() == "true"
        found = self._models.list(query.get("name") or None, latest=latest)
        fitting = [model for model in found if _fits(model, query)]
        start = whole_number(query, "$skipToken", default=0, least=0, most=10_000_000)
        count = whole_number(query, "count", default=MAX_PAGE, least=1, most=MAX_PAGE)
        page = fitting[start : start + count]
        answer: dict[str, object] = {"value": [model_object(model) for model in page]}
        if start + count < len(fitting):
            following = request.url.update_query({"$skipToken": str(start + count), "count": str(count)})
            answer["nextLink"] = f"{base_url(request)}{following.raw_path_qs}"
        return web.json_response(answer)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One model."""
        return web.json_response(model_object(self._named(request)))

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Change tags, properties, description."""
        model = self._named(request)
        change = model_change(model, await body_of(request))
        return web.json_response(model_object(await self._models.update(model.name, model.version, **change)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove a model."""
        model = self._named(request)
        await self._models.delete(model.name, model.version)
        return web.Response(status=200)

    def _named(self, request: web.Request) -> RegisteredModel:
        return self._models.get(*parsed_id(request.match_info["name"]))


def files_below(prefix: str, artifacts: Sequence[Artifact]) -> list[ModelFile]:
    """The files of a model: paths from the folder that holds the prefix, as the SDK downloads them.

    prefix: `origin/container/path`. artifacts: found below it.
    """
    inner = prefix.split("/", 2)[2].rstrip("/")
    folder, _, _ = inner.rpartition("/")
    strip = f"{folder}/" if folder else ""
    return [
        ModelFile(each.path.removeprefix(strip), each.sha256, each.size_bytes)
        for each in artifacts
        if each.path == inner or each.path.startswith(f"{inner}/") or not inner
    ]


def _fits(model: RegisteredModel, query: Mapping[str, str]) -> bool:
    framework = query.get("framework")
    return (
        (not framework or framework.lower() == model.framework.lower())
        and has_pairs(model.tags, query.get("tags") or query.get("tag"))
        and has_pairs(model.properties, query.get("properties"))
        and not query.get("runId")
        and not query.get("datasetId")
    )
