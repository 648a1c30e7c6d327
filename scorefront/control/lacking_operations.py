"""Operations of the workspace in a cluster: listed, and refused with the reason."""

from typing import Final

from controlplane import trace_routes
from controlplane.route_sets import RouteSet, unavailable
from workspace import model_routes, operation_routes
from workspace.azureml.protocol import AZURE_OPERATIONS
from workspace.models import model_answers

REASON: Final = (
    "models and deployments are kept by `scorefront up` on one machine; in a cluster apply a ScoringEndpoint with an"
    " image (docs/kubernetes.md)"
)


def lacking_operations() -> RouteSet:
    """The operations of `scorefront up` that a cluster does not have."""
    return unavailable(
        (*model_routes.MODEL_OPERATIONS, *operation_routes.OPERATIONS, *AZURE_OPERATIONS, *trace_routes.OPERATIONS),
        REASON,
        (*model_answers.RECORDS, *operation_routes.RECORDS),
    )
