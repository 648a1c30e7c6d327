"""Removal of folders and records of deployments that are no longer needed."""

import asyncio
import logging
from collections.abc import Callable, Iterator

from controlplane.control_errors import StoreError
from controlplane.endpoint_service import EndpointService
from serving.clock import Clock
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from workspace.deployments import history
from workspace.deployments.operation_journal import OperationJournal
from workspace.deployments.places import DeploymentPlaces

SWEEP_S = 5.0
"""Interval of looking for folders that no declared version uses."""

_log = logging.getLogger(__name__)


class PlaceSweeper:
    """Removes the folders that no declared version, no replica and no operation in progress uses."""

    def __init__(
        self,
        journal: OperationJournal,
        places: DeploymentPlaces,
        endpoints: EndpointService,
        template_of: Callable[[VersionKey], str],
        clock: Clock,
    ) -> None:
        """A sweeper; run `run` as a task.

        journal: all operations. places: their folders. endpoints: the declared ones.
        template_of: version -> digest of its declared replica template. clock: event-loop clock.
        """
        self._journal = journal
        self._places = places
        self._endpoints = endpoints
        self._template_of = template_of
        self._clock = clock

    def used(self) -> frozenset[str]:
        """Ids of the operations in progress, and of those that declared versions were deployed by.

        A version that an operation in progress replaces counts as declared, because it may come back.
        """
        running, records = self._journal.in_progress(), self._journal.all()
        bases = [base for each in running if (base := records[each].base) is not None]
        paths = {*self._declared_paths(), *(path for base in bases for path in history.paths_of(base))}
        return running | frozenset(found for path in paths if (found := self._places.operation_of(path)) is not None)

    def _declared_paths(self) -> Iterator[str]:
        """Paths of all declared versions; of domain records, because their documents take milliseconds each."""
        for name in self._endpoints.names():
            declared = self._endpoints.declared(name)
            for version in declared.endpoint.versions if declared is not None else ():
                source = version.replica
                yield from filter(None, (source.source_directory, source.model_dir, source.entry_script))

    async def run(self) -> None:
        """Sweep every few seconds until cancelled."""
        while True:
            try:
                await self.sweep()
            except (OSError, StoreError) as error:
                _log.warning("unused folders of deployments: not removed: %s", error)
            await self._clock.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """Remove unused folders, and the oldest records. Raises OSError, StoreError."""
        present = await asyncio.to_thread(self._places.operations)
        if not present and not self._journal.ended():
            return
        used = self.used()
        for operation in present - used:
            if not self._has_old_replicas(operation):
                await asyncio.to_thread(self._places.remove, operation)
        for operation in history.surplus(self._journal.ended(), used):
            await self._journal.drop(operation)

    def _has_old_replicas(self, operation: str) -> bool:
        """True while a replica of the version of an operation may still run from its folder."""
        record = self._journal.all().get(operation)
        if record is None:
            return False
        key = VersionKey(record.operation.endpoint, record.operation.version)
        template, replicas = self._template_of(key), self._endpoints.replicas(key)
        return any(each.template != template or each.state is ReplicaState.DRAINING for each in replicas)
