"""Operations of `scorefront up` for people who watch endpoints: overview, history, failures, trials, payloads."""

from collections.abc import Iterator

from controlplane.failure_routes import failure_routes
from controlplane.overview_routes import OverviewRows, overview_routes
from controlplane.plane import ControlPlane
from controlplane.route_sets import RouteSet
from controlplane.trace_routes import trace_routes
from controlplane.trial_routes import trial_routes
from router.supervisor.worker_records import WorkerRecords
from scorefront.up.endpoint_trials import LaptopTrials
from scorefront.up.history_feed import HistoryFeed
from scorefront.up.model_description import fetch
from serving.clock import Clock
from telemetry.data_routes import data_routes
from telemetry.history_routes import history_routes
from telemetry.payload_files import StoredPayloads
from workspace.store.file_store import FileStore


def watching_routes(
    plane: ControlPlane, records: WorkerRecords, history: HistoryFeed, store: FileStore, clock: Clock
) -> Iterator[RouteSet]:
    """The operations with their handlers.

    plane: declares the endpoints.
    records: traces and failed requests.
    history: of the versions.
    store: of collected payloads.
    clock: event-loop clock.
    """
    payloads, endpoints = StoredPayloads(store), plane.endpoints
    yield data_routes(lambda: payloads, lambda name: endpoints.declared(name) is not None)
    yield trace_routes(plane.keys_of, records)
    yield history_routes(plane.keys_of, endpoints.declared, history.points, history.moves)
    yield failure_routes(plane.keys_of, records)
    yield trial_routes(LaptopTrials(endpoints, plane.sources.scoring_url, fetch))
    rows = OverviewRows(plane.declared_endpoints, plane.sources, history, clock)
    yield overview_routes(rows, endpoints.skipped)
