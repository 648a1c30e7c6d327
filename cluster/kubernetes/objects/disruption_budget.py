"""The PodDisruptionBudget of a version: one replica at a time is away while nodes are drained. Pure.

It belongs to the Deployment of the version, and is removed with it. A version with one replica has none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.client.labelselector import written
from cluster.kubernetes.client.selectors import SelectorError, parsed
from cluster.kubernetes.objects.labels import MANAGED_BY, MANAGER, key_of, labels_of
from serving.endpoint import VersionKey

LEAST_REPLICAS = 2
"""A version with fewer replicas has no budget."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BudgetStep:
    """The next change of the budgets of a namespace for one Deployment; nothing if both are None."""

    create: Object | None = None
    delete: Object | None = None
    obstacle: str = ""
    """The reason for the lack of a wanted budget."""


def disruption_budget(key: VersionKey, deployment: Mapping[str, Any]) -> Object:
    """The budget of the version whose Deployment this is."""
    metadata = deployment["metadata"]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels_of(key), MANAGED_BY: MANAGER},
            "ownerReferences": [owner],
        },
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels_of(key)},
            # A replica that is not Ready serves no request, so its eviction is always allowed.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def budget_step(deployment: Mapping[str, Any], replicas: int, budgets: Iterable[Object]) -> BudgetStep:
    """The next step towards the right budget.

    deployment: the Deployment of a version, owned by its ScoringEndpoint.
    replicas: its wanted number of pods.
    budgets: all budgets of its namespace.
    """
    metadata = deployment["metadata"]
    key = key_of(metadata)
    if key is None:
        return BudgetStep()
    made, ours, others = disruption_budget(key, deployment), None, []
    for budget in budgets:
        if _belongs_to(metadata["uid"], budget):
            ours = budget
        else:
            others.append(budget)
    obstacle = _obstacle(deployment, others)
    wanted = replicas >= LEAST_REPLICAS and not metadata.get("deletionTimestamp")
    if ours is None:
        return BudgetStep(create=made if wanted and not obstacle else None, obstacle=obstacle if wanted else "")
    if not wanted or obstacle or ours["spec"] != made["spec"]:
        return BudgetStep(delete=ours, obstacle=obstacle if wanted else "")
    return BudgetStep()


def _obstacle(deployment: Mapping[str, Any], others: Iterable[Object]) -> str:
    """Another budget in the way of ours."""
    metadata = deployment["metadata"]
    labels = ((deployment["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    for budget in others:
        name = budget["metadata"]["name"]
        if name == metadata["name"]:
            return f"PodDisruptionBudget {metadata['namespace']}/{name} exists and is not scorefront's"
        if _selects(budget["spec"].get("selector"), labels):
            # The API refuses every eviction of a pod with two budgets.
            return f"PodDisruptionBudget {metadata['namespace']}/{name} selects its pods"
    return ""


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """True if a budget with this selector applies to pods with these labels."""
    if selector is None:
        return False
    if not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True  # an empty selector of a budget selects every pod
    try:
        return parsed(written(selector)).fits(labels)
    except SelectorError:
        return False


def _belongs_to(uid: str, budget: Mapping[str, Any]) -> bool:
    owners = budget["metadata"].get("ownerReferences") or ()
    return any(each.get("controller") is True and each.get("uid") == uid for each in owners)
