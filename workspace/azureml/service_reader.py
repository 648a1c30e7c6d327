"""Services as they are now: declared endpoints, deployments in progress, and those that have failed."""

from collections.abc import Iterable
from typing import Any

from controlplane.control_errors import ControlError
from controlplane.endpoint_service import EndpointService
from serving.faults import InvalidManifest
from workspace.azureml.azure_errors import service_not_found
from workspace.azureml.environment_object import environment_object
from workspace.azureml.model_object import model_object
from workspace.azureml.operation_answer import operation_error
from workspace.azureml.service_answer import ServiceFacts, VersionCode, service_object
from workspace.deployments.deployment_rules import check
from workspace.deployments.deployment_service import DeploymentService
from workspace.deployments.records import DeploymentOperation, DeploymentRequest
from workspace.models.model_registry import ModelRegistry


class ServiceReader:
    """Reads services."""

    def __init__(
        self,
        endpoints: EndpointService,
        deployments: DeploymentService,
        models: ModelRegistry,
        scoring_url: str,
    ) -> None:
        """A reader.

        endpoints: declared endpoints. deployments: operations. models: the registry.
        scoring_url: `http://host:port` of the routers.
        """
        self._endpoints = endpoints
        self._deployments = deployments
        self._models = models
        self._scoring_url = scoring_url

    def exists(self, name: str) -> bool:
        """True if a service of that name is declared or being deployed."""
        return self._endpoints.declared(name) is not None or self._running(name) is not None

    def is_known(self, name: str) -> bool:
        """True if there is such a service, even if its first deployment has failed."""
        return self.exists(name) or self._deployments.failed_endpoint(name) is not None

    def check_models(self, models: Iterable[tuple[str, int]]) -> None:
        """Raises NoSuchModel for a model that is not registered. `models`: (name, version) each."""
        for name, version in models:
            self._models.get(name, version)

    async def get(self, name: str) -> dict[str, Any]:
        """One service object. Raises AzureError."""
        facts = await self._facts(name)
        if facts is None:
            raise service_not_found(name)
        return service_object(facts)

    async def all(self) -> list[dict[str, Any]]:
        """All service objects, by name."""
        names = {*self._endpoints.names(), *(each.name for each in self._deployments.failed_endpoints())}
        names |= {each.endpoint for each in self._deployments.list() if not each.is_ended}
        found = [await self._facts(name) for name in sorted(names)]
        return [service_object(facts) for facts in found if facts is not None]

    def last_operation(self, name: str) -> DeploymentOperation | None:
        """The newest operation of a service."""
        return next(iter(self._deployments.list(name)), None)

    def _running(self, name: str) -> DeploymentOperation | None:
        last = self.last_operation(name)
        return last if last is not None and not last.is_ended else None

    async def _facts(self, name: str) -> ServiceFacts | None:
        last, running = self.last_operation(name), self._running(name)
        failed = self._deployments.failed_endpoint(name)
        declared = self._endpoints.declared(name)
        shown = running or (failed.operation if failed is not None else None)
        request = self._deployments.request_of(shown.id) if shown is not None else None
        if declared is not None:
            document = await self._endpoints.get(name)
            if request is not None:
                document = {**_filled(request), "status": document["status"]}
        elif request is not None:
            document = _filled(request)
        else:
            return None
        return ServiceFacts(
            document=document,
            scoring_uri=f"{self._scoring_url}/api/v1/service/{name}/score",
            deploying=running.version if running is not None else None,
            operation=last.id if last is not None else "",
            error=operation_error(failed.operation) if failed is not None and declared is None else None,
            code=self._code(name, request, is_declared=declared is not None),
        )

    def _code(self, name: str, request: DeploymentRequest | None, is_declared: bool) -> dict[str, VersionCode]:
        """Version -> its origin.

        name: of the service. request: of the deployment in progress, or failed. is_declared: True if declared.
        """
        found: dict[str, VersionCode] = {}
        if is_declared:
            for each in self._deployments.provenance(name):
                origin = self._deployments.request_of(each.operation)
                found[each.version] = self._version_code(each.models, origin)
        if request is not None:
            found[request.version] = self._version_code(request.models, request)
        return found

    def _version_code(self, models: tuple[tuple[str, int], ...], request: DeploymentRequest | None) -> VersionCode:
        objects = []
        for model, version in models:
            try:
                objects.append(model_object(self._models.get(model, version)))
            except ControlError:
                continue  # deleted since: the id is shown
        ids = tuple(f"{model}:{version}" for model, version in models)
        environment = None if request is None else environment_object(request.environment)
        return VersionCode(tuple(objects), ids, environment)


def _filled(request: DeploymentRequest) -> dict[str, Any]:
    """The requested document with defaults."""
    try:
        return check(request)
    except InvalidManifest:
        return dict(request.document)  # accepted by an earlier release
