"""Routes of the workspace itself: ARM, discovery of services, compute targets."""

import hashlib
import os
from typing import Final

from aiohttp import web

from controlplane.rest_guard import Handler
from workspace.azureml.compute_object import check_name, compute_object
from workspace.azureml.wire import SCOPE, base_url, mapping_of, route, scope_of

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
GROUP: Final = "scorefront"
WORKSPACE: Final = "scorefront"
LOCATION: Final = "local"
DISCOVERY: Final = "/azureml/discovery"
SERVICES: Final = (
    *("api", "experimentation", "history", "hyperdrive", "modelmanagement", "artifacts", "assets", "metrics"),
    *("jasmine", "project", "execution", "environment", "mlflow", "pipelines", "studio", "catalog", "datastore"),
    *("notebooks", "inferencing", "credential", "labeling", "automl", "cert", "portal", "workspacerp"),
)
"""Names that the SDK looks up; all are this control port, which answers 404 for what has no counterpart."""
_COMPUTES: Final = SCOPE + "/computes"
_OPERATION: Final = "/azureml/computeOperations/done"

OPERATIONS: Final = (
    route("GetWorkspace", "GET", SCOPE, "The workspace", "workspace"),
    route("Discover", "GET", DISCOVERY, "Addresses of the services", "workspace"),
    *(
        operation
        for id, prefix in (("Rp", f"/rp/workspaces{_COMPUTES}"), ("Arm", _COMPUTES))
        for operation in (
            route(f"{id}ListComputes", "GET", prefix, "Compute targets", "compute"),
            route(f"{id}GetCompute", "GET", prefix + "/{name}", "One compute target", "compute"),
            route(f"{id}PutCompute", "PUT", prefix + "/{name}", "Create or attach a compute target", "compute"),
            route(f"{id}PatchCompute", "PATCH", prefix + "/{name}", "Change a compute target", "compute"),
            route(f"{id}DeleteCompute", "DELETE", prefix + "/{name}", "Detach a compute target", "compute"),
        )
    ),
    route("GetComputeOperation", "GET", _OPERATION, "State of a change of a compute target", "compute"),
)


class WorkspaceRoutes:
    """Handlers of the workspace."""

    def __init__(self, scoring_url: str) -> None:
        """`scoring_url`: `http://host:port` of the routers."""
        self._scoring_url = scoring_url

    def handlers(self) -> dict[str, Handler]:
        """Handler by id of OPERATIONS."""
        computes = (self.computes, self.compute, self.put_compute, self.compute, self.delete_compute)
        handlers = (self.workspace, self.discovery, *computes, *computes, self.compute_operation)
        return {operation.id: handler for operation, handler in zip(OPERATIONS, handlers, strict=True)}

    async def workspace(self, request: web.Request) -> web.StreamResponse:
        """The workspace, as Azure Resource Manager shows it."""
        scope = scope_of(request)
        return web.json_response(
            {
                "id": scope,
                "name": request.match_info["workspace"],
                "type": "Microsoft.MachineLearningServices/workspaces",
                "location": LOCATION,
                "tags": {},
                "sku": {"name": "Basic", "tier": "Basic"},
                "identity": None,
                "properties": {
                    "friendlyName": request.match_info["workspace"],
                    "description": "scorefront",
                    "creationTime": "2020-01-01T00:00:00+00:00",
                    "workspaceId": _workspace_id(base_url(request)),
                    "discoveryUrl": base_url(request) + DISCOVERY,
                    "provisioningState": "Succeeded",
                    "hbiWorkspace": False,
                },
            }
        )

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        """Addresses of the services, and the names of the workspace."""
        base = base_url(request)
        workspace = {
            "subscriptionId": SUBSCRIPTION,
            "resourceGroup": GROUP,
            "workspaceName": WORKSPACE,
            "workspaceId": _workspace_id(base),
            "location": LOCATION,
        }
        return web.json_response({**dict.fromkeys(SERVICES, base), "workspace": workspace})

    async def computes(self, request: web.Request) -> web.StreamResponse:
        """Compute targets: the one that there is, under its own name."""
        return web.json_response({"value": [self._compute(request, "local")]})

    async def compute(self, request: web.Request) -> web.StreamResponse:
        """One compute target."""
        return web.json_response(self._named(request))

    async def put_compute(self, request: web.Request) -> web.StreamResponse:
        """Create or attach: done at once, since every name stands for this machine."""
        await mapping_of(request)
        headers = {"Azure-AsyncOperation": base_url(request) + _OPERATION}
        return web.json_response(self._named(request), status=201, headers=headers)

    async def delete_compute(self, request: web.Request) -> web.StreamResponse:
        """Detach: nothing to do."""
        self._named(request)
        return web.Response(status=202, headers={"Azure-AsyncOperation": base_url(request) + _OPERATION})

    async def compute_operation(self, request: web.Request) -> web.StreamResponse:
        """A change of a compute target: done."""
        return web.json_response({"status": "Succeeded", "error": None})

    def _named(self, request: web.Request) -> dict[str, object]:
        name = request.match_info["name"]
        check_name(name)
        return self._compute(request, name)

    def _compute(self, request: web.Request, name: str) -> dict[str, object]:
        return compute_object(name, scope_of(request), os.cpu_count() or 1, self._scoring_url.partition("://")[2])


def _workspace_id(base: str) -> str:
    """An id of this installation in the form of a GUID."""
    digest = hashlib.sha256(base.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
