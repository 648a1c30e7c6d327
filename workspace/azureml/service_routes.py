"""Routes of services and operations in the Azure ML v1 protocol."""

import asyncio
import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from controlplane.endpoint_service import EndpointService
from controlplane.keys import KeyType
from controlplane.payload import whole_number
from controlplane.rest_guard import Handler
from serving.manifest import ScoringEndpoint
from workspace.azureml.azure_errors import AzureError, bad_request, service_not_found, translated
from workspace.azureml.image_request import ImageRequest
from workspace.azureml.operation_answer import operation_object
from workspace.azureml.service_answer import matches
from workspace.azureml.service_patch import ServiceChange, check_change, patched
from workspace.azureml.service_payload import ServiceDraft, create_draft
from workspace.azureml.service_reader import ServiceReader
from workspace.azureml.source_assets import SourceAssets
from workspace.azureml.wire import MODEL_MANAGEMENT, Now, accepted, at, base_url, body_of, mapping_of, route
from workspace.deployments.deployment_rules import check
from workspace.deployments.deployment_service import DeploymentService
from workspace.deployments.documents import version_of
from workspace.deployments.records import DeploymentRequest, OperationKind, OperationState

SERVICES: Final = MODEL_MANAGEMENT + "/services"
ONE: Final = SERVICES + "/{name}"
MAX_TAIL = 100_000
MOST_LINES = 10_000
"""Lines of one replica that are read."""
SETTLED_S = 1.0
"""Longest wait of a request for the end of a change without new code."""

OPERATIONS: Final = (
    route("ValidateName", "POST", SERVICES + "/validate/name/{name}", "Check that the name of a service is free"),
    route("ValidateResource", "POST", SERVICES + "/validate/resource", "Check that there is room for a service"),
    route("ValidateService", "POST", SERVICES + "/validate", "Check a request before it is made"),
    route("CreateService", "POST", SERVICES, "Deploy a service"),
    route("ListServices", "GET", SERVICES, "Services that fit"),
    route("GetService", "GET", ONE, "One service"),
    route("PatchService", "PATCH", ONE, "Change a service"),
    route("DeleteService", "DELETE", ONE, "Delete a service"),
    route("ListKeys", "POST", ONE + "/listkeys", "Both keys of a service", reads_credential=True),
    route("RegenerateKeys", "POST", ONE + "/regenerateKeys", "Replace a key of a service"),
    route("GetToken", "POST", ONE + "/token", "A token for a service", reads_credential=True),
    route("GetServiceLogs", "GET", ONE + "/logs", "Log of a service"),
    route("GetServiceOperation", "GET", MODEL_MANAGEMENT + "/operations/{operation}", "One operation"),
)

ReadEnvironment = Callable[[Mapping[str, Any]], Any]
"""Environment object of Azure ML v1 -> environment of a deployment. Raises InvalidManifest, ControlError."""


class ServiceRoutes:
    """Handlers of services and operations."""

    def __init__(
        self,
        endpoints: EndpointService,
        deployments: DeploymentService,
        reader: ServiceReader,
        sources: SourceAssets,
        read_environment: ReadEnvironment,
        wall: Now,
    ) -> None:
        """Handlers.

        endpoints: keys, tokens, logs. deployments: starts operations. reader: of services.
        sources: of uploaded code. read_environment: makes the environment of a deployment. wall: unix seconds.
        """
        self._endpoints = endpoints
        self._deployments = deployments
        self._reader = reader
        self._sources = sources
        self._read_environment = read_environment
        self._wall = wall

    def handlers(self) -> dict[str, Handler]:
        """Handler by id of OPERATIONS."""
        handlers = (
            *(self.validate_name, self.validate_resource, self.validate, self.create, self.listed, self.get),
            *(self.patch, self.delete, self.keys, self.regenerate, self.token, self.logs, self.operation),
        )
        return {operation.id: handler for operation, handler in zip(OPERATIONS, handlers, strict=True)}

    # ---- checks before a request: refusals are reported in a successful answer

    async def validate_name(self, request: web.Request) -> web.StreamResponse:
        """Check that a name is free."""
        name = request.match_info["name"]
        taken = self._reader.exists(name)
        return web.json_response({"error": {"message": str(_taken(name))}} if taken else {})

    async def validate_resource(self, request: web.Request) -> web.StreamResponse:
        """Nothing is checked: room is found, or missed, when replicas start."""
        return web.json_response({})

    async def validate(self, request: web.Request) -> web.StreamResponse:
        """Check a create or an update request."""
        payload = await mapping_of(request)
        try:
            match str(payload.get("type")).lower():
                case "create":
                    draft = create_draft(payload.get("createRequest"), at(self._wall))
                    self._reader.check_models(draft.image.models)
                case "update":
                    name = str(payload.get("serviceName"))
                    check_change(patched(self._manifest(name), payload.get("updateRequest"), at(self._wall)))
        except Exception as error:
            found = translated(error)
            if found is None:
                raise
            return web.json_response({"error": {"code": found.code, "message": str(found)}})
        return web.json_response({})

    # ---- services

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Deploy a service, or replace one."""
        draft = create_draft(await body_of(request), at(self._wall))
        if not draft.overwrite and self._reader.exists(draft.name):
            raise _taken(draft.name)
        wanted = await self._with_code(_request_of(draft), draft.image)
        operation = await self._deployments.start(wanted)
        return accepted(request, operation.id, await self._reader.get(draft.name))

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """Services that fit the filters."""
        services = await self._reader.all()
        return web.json_response({"value": [each for each in services if matches(each, request.query)]})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One service."""
        return web.json_response(await self._reader.get(request.match_info["name"]))

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Change a service; new code of a version is deployed."""
        name = request.match_info["name"]
        change = patched(self._manifest(name), await body_of(request), at(self._wall))
        check_change(change)
        if change.image is None:
            operation = await self._deployments.update(name, change.document)
            await self._settled(operation.id)
        else:
            wanted = await self._with_code(_request_of_change(name, change), change.image)
            operation = await self._deployments.start(wanted)
        return accepted(request, operation.id, await self._reader.get(name))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a service; 204 where there is none."""
        name = request.match_info["name"]
        if not self._reader.is_known(name):
            return web.Response(status=204)
        await self._deployments.delete(name)
        return web.json_response({})

    # ---- keys, tokens, logs

    async def keys(self, request: web.Request) -> web.StreamResponse:
        """Both keys."""
        pair = self._endpoints.keys(self._declared(request))
        return web.json_response({"primaryKey": pair.primary, "secondaryKey": pair.secondary})

    async def regenerate(self, request: web.Request) -> web.StreamResponse:
        """Replace one key."""
        name = self._declared(request)
        payload = await mapping_of(request)
        kind, value = str(payload.get("keyType")).lower(), payload.get("keyValue")
        if kind not in set(KeyType):
            raise bad_request("keyType: must be Primary or Secondary", "keyType")
        if not isinstance(value, str | None):
            raise bad_request("keyValue: must be text, or null for a generated key", "keyValue")
        await self._endpoints.regenerate(name, KeyType(kind), value or None)
        operation = await self._deployments.completed(OperationKind.REGENERATE_KEYS, name)
        return accepted(request, operation.id, {})

    async def token(self, request: web.Request) -> web.StreamResponse:
        """A token."""
        issued = self._endpoints.token(self._declared(request))
        answer = {
            "accessToken": issued.access_token,
            "tokenType": "Bearer",
            "refreshAfter": issued.refresh_after,
            "expiryOn": issued.expires_on,
        }
        return web.json_response(answer)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """The last lines of the replicas; before them, those of a deployment that runs or has failed."""
        name = request.match_info["name"]
        tail = whole_number(request.query, "tail", default=5000, least=0, most=MAX_TAIL)
        lines: list[str] = []
        if not self._reader.is_known(name):
            raise service_not_found(name)
        last = self._reader.last_operation(name)
        is_declared = self._endpoints.declared(name) is not None
        if last is not None and last.state is not OperationState.SUCCEEDED:
            lines += [line.text for line in await self._deployments.log(last.id)]
            if last.error is not None:
                lines += [f"{last.state.value}: {last.error.message}", *last.error.log_tail]
        if is_declared:
            lines += [line.line for line in await self._endpoints.logs(name, None, min(tail, MOST_LINES))]
        return web.json_response({"content": "\n".join(lines[-tail:] if tail else []) + "\n"})

    async def operation(self, request: web.Request) -> web.StreamResponse:
        """One operation; with `offset`, the part of its log from that character on."""
        found = self._deployments.get(request.match_info["operation"])
        text = request.query.get("offset")
        offset = None if text is None else whole_number(request.query, "offset", default=0, least=0, most=10**9 - 1)
        log = await self._deployments.log(found.id) if offset is not None else ()
        address = f"{base_url(request)}/api/v1/operations/{found.id}/logs"
        return web.json_response(operation_object(found, log, offset, address))

    # ---- internal

    async def _with_code(self, wanted: DeploymentRequest, image: ImageRequest) -> DeploymentRequest:
        """The request with the uploaded code. Raises AzureError with every fault."""
        code = await self._sources.code_of(image)
        environment = None if image.environment is None else self._read_environment(image.environment)
        document = _with_script(wanted.document, wanted.version, code.script)
        whole = DeploymentRequest(
            endpoint=wanted.endpoint,
            version=wanted.version,
            document=document,
            source=code.files,
            models=image.models,
            environment=environment,
            keys=wanted.keys,
            replaces=wanted.replaces,
        )
        check(whole)
        return whole

    async def _settled(self, operation: str) -> None:
        """Wait for a change that takes no time, e.g. of tags: the next call would find it in progress."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                await self._deployments.wait(operation)

    def _manifest(self, name: str) -> ScoringEndpoint:
        """A declared service. Raises AzureError."""
        declared = self._endpoints.declared(name)
        if declared is not None:
            return declared.manifest
        if self._reader.is_known(name):
            raise AzureError(
                409, "ServiceNotReady", f"Service '{name}' is not deployed yet, or its deployment has failed."
            )
        raise service_not_found(name)

    def _declared(self, request: web.Request) -> str:
        """The name in the path, of a declared service. Raises AzureError."""
        return self._manifest(request.match_info["name"]).metadata.name


def _request_of(draft: ServiceDraft) -> DeploymentRequest:
    keys = (draft.keys.primary, draft.keys.secondary)
    return DeploymentRequest(
        endpoint=draft.name,
        version=draft.version,
        document=draft.document,
        keys=keys if any(keys) else None,
        replaces=True,
    )


def _request_of_change(name: str, change: ServiceChange) -> DeploymentRequest:
    return DeploymentRequest(
        endpoint=name, version=change.version, document=change.document, replaces=not change.is_new
    )


def _with_script(document: Mapping[str, Any], version: str, script: str) -> dict[str, Any]:
    """A copy of the document in which one version has its entry script.

    document: declared object. version: its name. script: relative to the source directory.
    """
    changed = copy.deepcopy(dict(document))
    if (entry := version_of(changed, version)) is not None:
        entry["replica"]["entryScript"] = script
    return changed


def _taken(name: str) -> AzureError:
    message = (
        f"Service {name} with the same name already exists, please use a different service name or delete the existing"
        " service; overwrite=True replaces it."
    )
    return AzureError(409, "ServiceExists", message)
