"""Operations of the workspace in a cluster: listed, and refused with the reason."""

from typing import Final

from controlplane import trace_routes
from controlplane.route_sets import RouteSet, unavailable
from telemetry import history_answers, history_routes
from workspace import model_routes, operation_routes
from workspace.azureml.protocol import AZURE_OPERATIONS
from workspace.models import model_answers

_WORKSPACE: Final = (
    "models and deployments are kept by `scorefront up` on one machine; in a cluster apply a ScoringEndpoint with an"
    " image (docs/kubernetes.md)"
)
_RECORDED: Final = (
    "traces and history are kept by `scorefront up` on one machine; in a cluster Prometheus keeps the metrics of the"
    " routers (docs/kubernetes.md)"
)


def lacking_operations() -> RouteSet:
    """The operations of `scorefront up` that a cluster does not have."""
    workspace = unavailable(
        (*model_routes.MODEL_OPERATIONS, *operation_routes.OPERATIONS, *AZURE_OPERATIONS),
        _WORKSPACE,
        (*model_answers.RECORDS, *operation_routes.RECORDS),
    )
    recorded = unavailable((*trace_routes.OPERATIONS, *history_routes.OPERATIONS), _RECORDED, history_answers.RECORDS)
    return RouteSet(
        (*workspace.operations, *recorded.operations),
        {**workspace.handlers, **recorded.handlers},
        (*workspace.records, *recorded.records),
    )
