"""Other writers of our workloads: autoscalers, and owners of fields that we own. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.kubernetes.client.api_errors import WriteConflict
from serving.endpoint import WorkloadRef


def scaled_by(autoscalers: Iterable[Mapping[str, Any]], namespace: str, workload: WorkloadRef) -> str:
    """The name of the HorizontalPodAutoscaler that sets this workload's number; "" if none does."""
    return next((_name(each) for each in autoscalers if _aims_at(each, namespace, workload)), "")


def field_conflict(error: WriteConflict) -> str:
    """The fields that made an apply fail, with their owners: `.spec.template… is owned by kubectl-edit`; "" if none."""
    causes = (error.body.get("details") or {}).get("causes") or ()
    texts = [
        f"{cause.get('field') or '?'} is owned by {_owner(cause.get('message') or '')}"
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]
    return "; ".join(texts)


def _owner(message: str) -> str:
    """The manager in `conflict with "kubectl-edit" using apps/v1`."""
    found = re.search(r'conflict with "([^"]*)"', message)
    return found.group(1) if found else message


def _aims_at(autoscaler: Mapping[str, Any], namespace: str, workload: WorkloadRef) -> bool:
    target = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
    return (
        autoscaler["metadata"]["namespace"] == namespace
        and autoscaler["metadata"].get("deletionTimestamp") is None
        and (target.get("kind"), target.get("name")) == (workload.kind, workload.name)
        and str(target.get("apiVersion", "apps/v1")).partition("/")[0] == "apps"
    )


def _name(found: Mapping[str, Any]) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
