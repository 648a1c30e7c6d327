"""Operations of the workspace in a cluster: listed, and refused with the reason."""

from typing import Final

from controlplane import failure_routes, trace_routes, trial_routes
from controlplane.route_sets import RouteSet, unavailable
from telemetry import history_answers, history_routes
from workspace import model_routes, operation_routes
from workspace.azureml.protocol import AZURE_OPERATIONS
from workspace.models import model_answers

_WORKSPACE: Final = (
    "models and deployments are kept by `scorefront up` on one machine; in a cluster apply a ScoringEndpoint with an"
    " image (docs/kubernetes.md)"
)
_TRIALS: Final = "trials belong to `scorefront up` on one machine; in a cluster use `scorefront score NAME`"
_RECORDED: Final = (
    "traces, history and failed requests are kept by `scorefront up` on one machine; in a cluster Prometheus keeps the"
    " metrics of the routers, and their access log has the failed requests (docs/kubernetes.md)"
)


def lacking_operations() -> RouteSet:
    """The operations of `scorefront up` that a cluster does not have."""
    workspace = unavailable(
        (*model_routes.MODEL_OPERATIONS, *operation_routes.OPERATIONS, *AZURE_OPERATIONS),
        _WORKSPACE,
        (*model_answers.RECORDS, *operation_routes.RECORDS),
    )
    recorded = unavailable(
        (*trace_routes.OPERATIONS, *history_routes.OPERATIONS, *failure_routes.OPERATIONS),
        _RECORDED,
        (*history_answers.RECORDS, *failure_routes.RECORDS),
    )
    trials = unavailable(trial_routes.OPERATIONS, _TRIALS, trial_routes.RECORDS)
    sets = (workspace, recorded, trials)
    return RouteSet(
        tuple(operation for each in sets for operation in each.operations),
        {name: handler for each in sets for name, handler in each.handlers.items()},
        tuple(record for each in sets for record in each.records),
    )
