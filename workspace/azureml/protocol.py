"""The Azure ML v1 protocol as operations of the control port: composition of its routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.endpoint_service import EndpointService
from controlplane.route_sets import RouteSet
from workspace.artifacts import ArtifactRegistry
from workspace.azureml import (
    artifact_routes,
    azure_model_routes,
    environment_routes,
    service_routes,
    workspace_routes,
)
from workspace.azureml.artifact_routes import ArtifactRoutes
from workspace.azureml.azure_model_routes import AzureModelRoutes
from workspace.azureml.environment_routes import EnvironmentRoutes
from workspace.azureml.service_reader import ServiceReader
from workspace.azureml.service_routes import ServiceRoutes
from workspace.azureml.source_assets import SourceAssets
from workspace.azureml.wire import speaking_azure
from workspace.azureml.workspace_routes import WorkspaceRoutes
from workspace.deployments.deployment_service import DeploymentService
from workspace.environments.definitions import from_definition
from workspace.environments.registry import EnvironmentRegistry
from workspace.environments.spec import EnvironmentSpec
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore

AZURE_OPERATIONS: Final = (
    *workspace_routes.OPERATIONS,
    *artifact_routes.OPERATIONS,
    *environment_routes.OPERATIONS,
    *azure_model_routes.OPERATIONS,
    *service_routes.OPERATIONS,
)


@dataclass(frozen=True, slots=True)
class WorkspaceParts:
    """Parts of the workspace that the protocol serves."""

    endpoints: EndpointService
    deployments: DeploymentService
    store: FileStore
    models: ModelRegistry
    artifacts: ArtifactRegistry
    environments: EnvironmentRegistry
    scoring_url: str
    """`http://host:port` of the routers."""
    wall: Callable[[], float]
    """Unix seconds."""
    clock: Callable[[], float]
    """Seconds, monotonic."""
    key: bytes
    """Secret of the addresses of artifacts, for the life of this process."""
    builds_environments: bool
    """False: every version runs in the Python of scorefront."""


class AzureProtocol:
    """The routes of the protocol."""

    def __init__(self, parts: WorkspaceParts) -> None:
        """`parts`: of the workspace."""
        reader = ServiceReader(parts.endpoints, parts.deployments, parts.models, parts.scoring_url)
        sources = SourceAssets(parts.store, parts.artifacts)
        read = _read(parts.builds_environments)
        self._artifacts = ArtifactRoutes(parts.store, parts.artifacts, parts.wall, parts.clock, parts.key)
        self._parts = (
            WorkspaceRoutes(parts.scoring_url),
            self._artifacts,
            EnvironmentRoutes(parts.environments),
            AzureModelRoutes(parts.models, parts.artifacts),
            ServiceRoutes(parts.endpoints, parts.deployments, reader, sources, read, parts.wall),
        )

    def routes(self) -> RouteSet:
        """The operations with their handlers, refusals in Azure's shape."""
        handlers = {id: speaking_azure(handler) for part in self._parts for id, handler in part.handlers().items()}
        return RouteSet(AZURE_OPERATIONS, handlers)

    async def close(self) -> None:
        """Give up unfinished uploads."""
        await self._artifacts.close()


def _read(builds: bool) -> Callable[[Mapping[str, Any]], EnvironmentSpec | None]:
    """The reader of environment objects. `builds`: False: it checks them, and names the Python of scorefront.

    That is taken as well for an object without `python`: it has variables only.
    """

    def read(environment: Mapping[str, Any]) -> EnvironmentSpec | None:
        spec = from_definition(environment)
        return spec if builds and environment.get("python") else None

    return read
