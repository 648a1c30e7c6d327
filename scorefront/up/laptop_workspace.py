"""The workspace of one machine: store, models, deployments and their routes."""

import asyncio
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from cluster.local.local_provider import LocalProvider
from controlplane.control_errors import StoreError
from controlplane.endpoint_service import EndpointService
from controlplane.route_sets import RouteSet
from serving.clock import Clock
from workspace.artifacts import ArtifactRegistry
from workspace.azureml.protocol import AzureProtocol, WorkspaceParts
from workspace.builders.venv_builder import VenvBuilder
from workspace.deployments.deployment_service import DeploymentService
from workspace.environments.registry import EnvironmentRegistry
from workspace.model_routes import model_routes
from workspace.models.model_registry import ModelRegistry
from workspace.operation_routes import operation_routes
from workspace.store.file_store import PARTS, FileStore
from workspace.store_sweep import sweep_store

_log = logging.getLogger(__name__)


class LaptopWorkspace:
    """Composes the workspace of `scorefront up`."""

    def __init__(
        self,
        store_url: str,
        state_dir: Path,
        endpoints: EndpointService,
        provider: LocalProvider,
        clock: Clock,
        wall: Callable[[], float],
        scoring_url: str,
        builder: VenvBuilder,
    ) -> None:
        """A workspace that is not started.

        store_url: of the files. state_dir: of the installation. scoring_url: `http://host:port` of the routers.
        endpoints: declares endpoints. provider: runs their replicas.
        clock: event-loop clock. wall: unix seconds. builder: of environments, also of those that manifests declare.
        Raises StoreError.
        """
        self.store = FileStore(store_url, state_dir / PARTS)
        self.models = ModelRegistry(self.store, wall)
        self._artifacts = ArtifactRegistry(self.store, wall)
        self._wall = wall
        self.deployments = DeploymentService(
            endpoints,
            self.models,
            self.store,
            builder,
            provider.template_of,
            state_dir,
            clock,
            wall,
            lambda: str(uuid.uuid4()),
        )
        self.models.ask_users(self.deployments.users_of_model)
        builder.ask_users(self.deployments.environments_in_use)
        builder.ask_users(lambda: {builder.folders.key_of(python) for python in provider.interpreters()})
        self._azure = AzureProtocol(
            WorkspaceParts(
                endpoints=endpoints,
                deployments=self.deployments,
                store=self.store,
                models=self.models,
                artifacts=self._artifacts,
                scoring_url=scoring_url,
                wall=wall,
                clock=clock.now,
                key=os.urandom(32),
                environments=EnvironmentRegistry(self.store, wall),
                builds_environments=True,
            )
        )

    def routes(self) -> tuple[RouteSet, ...]:
        """Their operations, for the control port."""
        return (model_routes(self.store, self.models), operation_routes(self.deployments), self._azure.routes())

    async def begin(self) -> None:
        """Read the store; go on with deployments. After the endpoints are applied. Raises StoreError."""
        await self.models.start()
        await asyncio.to_thread(self._sweep)
        await self.deployments.begin()

    def _sweep(self) -> None:
        if not self.models.is_complete:
            return
        try:
            sweep_store(
                self.store, self._artifacts, self.models.blobs_in_use(), self.models.assets_in_use(), self._wall()
            )
        except StoreError as error:
            _log.warning("store: content that is no longer used stays: %s", error)

    async def close(self) -> None:
        """Stop; deployments in progress go on at the next start."""
        await self._azure.close()
        await self.deployments.close()
