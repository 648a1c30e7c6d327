"""Decisions on the PodDisruptionBudget of a version."""

from typing import Any

import pytest

from cluster.kubernetes.objects.disruption_budget import BudgetStep, budget_step, disruption_budget
from cluster.kubernetes.objects.labels import labels_of
from serving.endpoint import VersionKey

KEY = VersionKey("iris", "blue")
Object = dict[str, Any]


def deployment(**metadata: Any) -> Object:
    labels = labels_of(KEY)
    return {
        "metadata": {"name": "iris-blue", "namespace": "ml", "uid": "d-1", "labels": labels, **metadata},
        "spec": {"template": {"metadata": {"labels": {**labels, "app": "iris"}}}},
    }


def budget(name: str = "theirs", selector: Object | None = None, **changed: Any) -> Object:
    spec = {"minAvailable": 1, "selector": selector}
    return {"metadata": {"name": name, "namespace": "ml", "uid": "b-1", **changed}, "spec": spec}


OURS = disruption_budget(KEY, deployment())


def test_two_replicas_get_a_budget_of_one_that_may_be_away() -> None:
    made = budget_step(deployment(), 2, []).create
    assert made is not None and made["spec"]["maxUnavailable"] == 1
    assert made["spec"]["selector"] == {"matchLabels": labels_of(KEY)}
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Deployment", "d-1", True)


def test_replicas_that_are_not_ready_never_keep_a_node_from_being_drained() -> None:
    assert OURS["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_version_with_one_replica_has_no_budget(replicas: int) -> None:
    assert budget_step(deployment(), replicas, []) == BudgetStep()
    assert budget_step(deployment(), replicas, [OURS]).delete is OURS


def test_a_budget_that_is_there_stays() -> None:
    assert budget_step(deployment(), 5, [OURS]) == BudgetStep()


def test_a_changed_budget_is_replaced() -> None:
    changed = {**OURS, "spec": {**OURS["spec"], "maxUnavailable": 0}}
    assert budget_step(deployment(), 5, [changed]).delete is changed


def test_a_deployment_that_is_deleted_gets_no_budget() -> None:
    assert budget_step(deployment(deletionTimestamp="2026-01-01T00:00:00Z"), 5, []) == BudgetStep()


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"app": "iris"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["iris", "x"]}]},
        {"matchExpressions": [{"key": "scorefront.io/version", "operator": "Exists"}]},
        {},
    ],
)
def test_pods_with_a_budget_of_others_get_none_since_two_would_refuse_every_eviction(selector: Object) -> None:
    step = budget_step(deployment(), 5, [budget(selector=selector)])
    assert step.create is None and "ml/theirs selects its pods" in step.obstacle
    step = budget_step(deployment(), 5, [OURS, budget(selector=selector)])
    assert step.delete is OURS


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"app": "other"}},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["iris"]}]},
        None,
    ],
)
def test_budgets_of_other_pods_do_not_matter(selector: Object | None) -> None:
    assert budget_step(deployment(), 2, [budget(selector=selector)]).create is not None


def test_a_budget_of_others_under_the_name_is_left_as_it_is() -> None:
    step = budget_step(deployment(), 5, [budget("iris-blue", {"matchLabels": {"app": "other"}})])
    assert (step.create, step.delete) == (None, None)
    assert "ml/iris-blue exists and is not scorefront's" in step.obstacle


def test_a_budget_of_a_former_deployment_of_this_name_is_left_to_the_garbage_collection() -> None:
    step = budget_step(deployment(uid="d-2"), 5, [OURS])
    assert (step.create, step.delete) == (None, None)
