"""The Azure ML v1 protocol as operations of the control port: composition of its routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.endpoint_service import EndpointService
from controlplane.route_sets import RouteSet
from workspace.artifacts import ArtifactRegistry
from workspace.azureml.artifact_routes import ArtifactRoutes
from workspace.azureml.azure_model_routes import AzureModelRoutes
from workspace.azureml.service_reader import ServiceReader
from workspace.azureml.service_routes import ServiceRoutes
from workspace.azureml.source_assets import SourceAssets
from workspace.azureml.wire import speaking_azure
from workspace.azureml.workspace_routes import WorkspaceRoutes
from workspace.deployments.deployment_service import DeploymentService
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore


@dataclass(frozen=True, slots=True)
class WorkspaceParts:
    """Parts of the workspace that the protocol serves."""

    endpoints: EndpointService
    deployments: DeploymentService
    store: FileStore
    models: ModelRegistry
    artifacts: ArtifactRegistry
    scoring_url: str
    """`http://host:port` of the routers."""
    wall: Callable[[], float]
    """Unix seconds."""
    clock: Callable[[], float]
    """Seconds, monotonic."""
    key: bytes
    """Secret of the addresses of artifacts, for the life of this process."""


class AzureProtocol:
    """The routes of the protocol."""

    def __init__(self, parts: WorkspaceParts) -> None:
        """`parts`: of the workspace."""
        reader = ServiceReader(parts.endpoints, parts.deployments, parts.models, _show_environment, parts.scoring_url)
        sources = SourceAssets(parts.store, parts.artifacts)
        self._artifacts = ArtifactRoutes(parts.store, parts.artifacts, parts.wall, parts.clock, parts.key)
        self._parts = (
            WorkspaceRoutes(parts.scoring_url),
            self._artifacts,
            AzureModelRoutes(parts.models, parts.artifacts),
            ServiceRoutes(parts.endpoints, parts.deployments, reader, sources, _read_environment, parts.wall),
        )

    def routes(self) -> RouteSet:
        """The operations with their handlers, refusals in Azure's shape."""
        handlers = {id: speaking_azure(handler) for part in self._parts for id, handler in part.handlers().items()}
        return RouteSet(tuple(operation for part in self._parts for operation in part.operations), handlers)

    async def close(self) -> None:
        """Give up unfinished uploads."""
        await self._artifacts.close()


def _read_environment(environment: Mapping[str, Any]) -> Any:
    return None


def _show_environment(environment: Any) -> Mapping[str, Any] | None:
    return None
