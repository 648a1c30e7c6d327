"""Routes of environments in the Azure ML v1 protocol."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from controlplane.rest_guard import Handler
from workspace.azureml.environment_object import environment_object
from workspace.azureml.wire import SCOPE, mapping_of, route
from workspace.environments.registry import EnvironmentRegistry, RegisteredEnvironment

ENVIRONMENTS: Final = f"/environment/v1.0{SCOPE}/environments"
_LATEST: Final = "latest"
_KEYS: Final = {
    "name": "name",
    "version": "version",
    "environmentvariables": "environmentVariables",
    "python": "python",
    "docker": "docker",
}
"""Keys of a definition, lower case -> as read; the SDK writes some with a capital."""

OPERATIONS: Final = (
    route("ListEnvironments", "GET", ENVIRONMENTS + "/", "Environments", "environment"),
    route("GetEnvironment", "GET", ENVIRONMENTS + "/{name}", "The latest version of an environment", "environment"),
    route(
        "GetEnvironmentVersion",
        "GET",
        ENVIRONMENTS + "/{name}/versions/{version}",
        "One version of an environment",
        "environment",
    ),
    route(
        "GetEnvironmentLabel", "GET", ENVIRONMENTS + "/{name}/labels/{label}", "An environment by label", "environment"
    ),
    route("PutEnvironment", "PUT", ENVIRONMENTS + "/{name}", "Register an environment", "environment"),
    route(
        "PutEnvironmentVersion",
        "PUT",
        ENVIRONMENTS + "/{name}/versions/{version}",
        "Register a version of an environment",
        "environment",
    ),
)


class EnvironmentRoutes:
    """Handlers of environments."""

    def __init__(self, environments: EnvironmentRegistry) -> None:
        """`environments`: the registry."""
        self._environments = environments

    def handlers(self) -> dict[str, Handler]:
        """Handler by id of OPERATIONS."""
        handlers = (self.listed, self.get, self.get, self.get, self.put, self.put)
        return {operation.id: handler for operation, handler in zip(OPERATIONS, handlers, strict=True)}

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """The latest version of every environment."""
        latest = {each.name: each for each in await self._environments.list()}
        value = [_registered_object(each) for each in latest.values()]
        return web.json_response({"value": value, "continuationToken": None})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One version; without a version, or with the label `latest`, the latest one."""
        match = request.match_info
        version = match.get("version") or (match["label"] if match.get("label", _LATEST) != _LATEST else None)
        return web.json_response(_registered_object(await self._environments.get(match["name"], version)))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Register a definition."""
        payload = await mapping_of(request)
        definition = {_KEYS[key.lower()]: value for key, value in payload.items() if key.lower() in _KEYS}
        if version := request.match_info.get("version"):
            definition["version"] = version
        name = request.match_info["name"]
        return web.json_response(_registered_object(await self._environments.register(name, definition)))


def _registered_object(environment: RegisteredEnvironment) -> dict[str, Any]:
    definition: Mapping[str, Any] = environment.definition
    kept = {key: value for key, value in definition.items() if value is not None}
    return {**environment_object(environment.spec), **kept, "name": environment.name, "version": environment.version}
