"""Pods of routers: the fields read, and the change of their cores in place."""

from typing import Any

import pytest

from cluster.kubernetes.objects.router_pod import Cpu, cores, resized, router_pod, template_cpu


def pod(
    limits: dict[str, str] | None = None,
    requests: dict[str, str] | None = None,
    name: str = "router-1",
    **more: dict[str, Any],
) -> dict[str, Any]:
    resources = {kind: value for kind, value in (("limits", limits), ("requests", requests)) if value is not None}
    container = {"name": "router", "image": "scorefront", "resources": resources}
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "mesh"}, container]}, **more}


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2.0), ("1.5", 1.5), ("500m", 0.5), ("2500m", 2.5), ("100u", 0.0001), ("0", 0.0)]
)
def test_cores_are_read_as_the_api_writes_them(text: str, number: float) -> None:
    assert cores(text) == pytest.approx(number)


def test_the_cores_of_the_router_alone_count() -> None:
    found = pod({"cpu": "2", "memory": "2Gi"}, {"cpu": "1"})
    found["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "9"}}
    assert router_pod(found).cpu == Cpu(2.0, 1.0)
    assert template_cpu({"spec": {"template": found}}) == Cpu(2.0, 1.0)


@pytest.mark.parametrize("found", [pod(), pod({}, {}), pod({"memory": "1Gi"}), {"metadata": {"name": "x"}, "spec": {}}])
def test_a_router_without_a_limit_has_none(found: dict[str, Any]) -> None:
    assert router_pod(found).cpu.limit is None


def test_a_router_that_is_to_go_or_has_ended_does_not_stay() -> None:
    assert not router_pod(pod(status={"phase": "Running"})).leaving
    leaving = pod(status={"phase": "Running"})
    leaving["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert router_pod(leaving).leaving
    assert router_pod(pod(status={"phase": "Failed"})).leaving


def test_a_router_that_finds_no_node_says_why() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert router_pod(pod(status={"phase": "Pending", "conditions": [condition]})).unschedulable == "0/3 nodes"


def test_a_pod_is_resized_without_touching_anything_else() -> None:
    found = pod({"cpu": "2", "memory": "2Gi"}, {"cpu": "1", "memory": "512Mi"})
    grown = resized(found, 3, Cpu(2.0, 1.0))
    mesh, router = grown["spec"]["containers"]
    assert router["resources"] == {
        "limits": {"cpu": "3", "memory": "2Gi"},
        "requests": {"cpu": "1500m", "memory": "512Mi"},
    }
    assert (mesh, router["image"]) == ({"name": "mesh"}, "scorefront")
    assert found["spec"]["containers"][1]["resources"]["limits"]["cpu"] == "2", "what was read stays as it was"


def test_a_guaranteed_pod_stays_guaranteed() -> None:
    grown = resized(pod({"cpu": "2"}, {"cpu": "2"}), 4, Cpu(2.0, 2.0))
    resources = grown["spec"]["containers"][1]["resources"]
    assert cores(resources["limits"]["cpu"]) == cores(resources["requests"]["cpu"]) == 4
