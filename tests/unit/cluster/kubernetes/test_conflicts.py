from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import WriteConflict
from cluster.kubernetes.conflicts import field_conflict, scaled_by
from serving.endpoint import WorkloadRef

IRIS = WorkloadRef("Deployment", "iris-blue")


def hpa(
    kind: str = "Deployment", name: str = "iris-blue", namespace: str = "a", api: str = "apps/v1", **metadata: str
) -> dict[str, Any]:
    target = {"kind": kind, "name": name, "apiVersion": api}
    return {"metadata": {"name": "h", "namespace": namespace, **metadata}, "spec": {"scaleTargetRef": target}}


def test_an_autoscaler_of_the_same_workload_is_named() -> None:
    assert scaled_by([hpa()], "a", IRIS) == "a/h"


@pytest.mark.parametrize(
    "other",
    [
        hpa(kind="StatefulSet"),
        hpa(name="iris-green"),
        hpa(namespace="b"),
        hpa(api="argoproj.io/v1alpha1"),
        hpa(deletionTimestamp="2026-01-01T00:00:00Z"),
    ],
)
def test_an_autoscaler_of_something_else_or_one_that_goes_is_no_conflict(other: dict[str, Any]) -> None:
    assert scaled_by([other], "a", IRIS) == ""


def test_a_refused_apply_names_the_owners_of_the_fields() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-edit" using apps/v1',
            "field": ".spec.template.spec.containers[0].image",
        }
    ]
    error = WriteConflict("apply failed", 409, "Conflict", body={"details": {"causes": causes}})
    assert field_conflict(error) == ".spec.template.spec.containers[0].image is owned by kubectl-edit"


def test_an_object_that_has_changed_meanwhile_is_no_field_conflict() -> None:
    assert field_conflict(WriteConflict("modified", 409, "Conflict")) == ""
