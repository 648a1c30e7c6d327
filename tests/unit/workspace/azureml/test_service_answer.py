"""Service and operation objects, as azureml-core reads them."""

from typing import Any

import pytest

from cluster.timed_line import TimedLine
from serving.manifest import parse, to_document
from tests.unit.workspace.azureml.payloads import NOW, aks, endpoint
from workspace.azureml.operation_answer import operation_object
from workspace.azureml.service_answer import ServiceFacts, has_pairs, service_object
from workspace.azureml.service_payload import create_draft
from workspace.deployments.records import (
    DeploymentOperation,
    OperationError,
    OperationKind,
    OperationState,
    OperationStep,
)

URI = "http://127.0.0.1:8080/api/v1/service/myservice/score"


def facts(payload: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **more: Any) -> ServiceFacts:
    """A service. `status`: of each of its versions; None: not declared."""
    document = to_document(parse(create_draft(payload or aks(), NOW).document))
    if status is not None:
        document["status"] = {"versions": {each["name"]: status for each in document["spec"]["versions"]}}
    return ServiceFacts(document=document, scoring_uri=URI, **more)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"ready": 1, "desired": 1, "message": ""}, "Healthy"),
        ({"ready": 1, "desired": 5, "message": "no room", "problems": {"limited": "no room"}}, "Healthy"),
        ({"ready": 0, "starting": 1, "message": "starting"}, "Transitioning"),
        ({"ready": 0, "message": "no room", "problems": {"limited": "no room"}}, "Unschedulable"),
        ({"ready": 0, "message": "exit 1", "problems": {"failing": "exit 1"}}, "Unhealthy"),
        ({"ready": 0, "failed": 1, "message": "exit 1"}, "Unhealthy"),
        (None, "Transitioning"),
    ],
)
@pytest.mark.parametrize("make", [aks, endpoint])
def test_the_state_follows_the_replicas(make: Any, status: dict[str, Any] | None, state: str) -> None:
    service = service_object(facts(make(), status))
    assert service["state"] == state
    assert (service["error"] is not None) == (state in ("Unhealthy", "Unschedulable"))
    if service["error"]:
        assert service["error"]["message"] == (status or {})["message"]


def test_a_running_operation_is_a_transition_and_a_failed_one_an_error() -> None:
    ready = {"ready": 1, "desired": 1, "message": ""}
    assert service_object(facts(status=ready, deploying="myservice"))["state"] == "Transitioning"
    assert service_object(facts(status=ready, deploying=""))["state"] == "Transitioning"
    error = {"code": "BuildFailed", "message": "environment: numpy: no such version"}
    failed = service_object(facts(error=error))
    assert (failed["state"], failed["error"]) == ("Failed", error)


def test_a_version_has_its_own_address_and_texts() -> None:
    payload = endpoint(trafficPercentile=20, description="d", kvTags={"a": "b"})
    version = service_object(facts(payload, {"ready": 1}))["versions"]["versiona"]
    assert version["scoringUri"] == URI.replace("/score", "/versions/versiona/score")
    assert (version["description"], version["kvTags"], version["trafficPercentile"]) == ("d", {"a": "b"}, 20)
    assert version["computeType"] == "AKS"


def test_a_fixed_number_is_shown_with_every_key_of_the_scaler() -> None:
    service = service_object(facts(aks(numReplicas=3)))
    assert service["numReplicas"] == 3
    assert service["autoScaler"] == {
        "autoscaleEnabled": False,
        **dict.fromkeys(("minReplicas", "maxReplicas", "refreshPeriodInSeconds", "targetUtilization")),
    }


def test_an_endpoint_that_was_declared_otherwise_is_a_service_too() -> None:
    versions = [{"name": name, "replica": {"static": ["127.0.0.1:9400"]}} for name in ("blue", "green")]
    manifest = {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": "iris"},
        "spec": {"versions": versions},
    }
    service = service_object(ServiceFacts(to_document(parse(manifest)), URI))
    assert (service["computeType"], list(service["versions"])) == ("AKSENDPOINT", ["blue", "green"])


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (None, True),
        ("", True),
        ("a", True),
        ("a=b", True),
        ("a=c", False),
        ("x", False),
        ("a=b,c=d", True),
        ("a,x", False),
    ],
)
def test_a_filter_names_pairs(wanted: str | None, fits: bool) -> None:
    assert has_pairs({"a": "b", "c": "d"}, wanted) is fits


@pytest.mark.parametrize(
    ("step", "kind"), [(OperationStep.ENVIRONMENT, "BuildEnvironment"), (OperationStep.READY, "DeployService")]
)
def test_a_failed_operation_has_step_reason_and_the_log_of_the_replica(step: OperationStep, kind: str) -> None:
    error = OperationError("ScriptFailed", "exit code 3", step, ("Traceback", "ImportError"))
    operation = DeploymentOperation(
        "op-1", OperationKind.CREATE, "iris", "blue", 0.0, OperationState.FAILED, step, 2.0, error
    )
    answer = operation_object(operation, (), None, "http://log")
    assert answer["state"] == "Failed"
    assert answer["operationDetails"]["subOperationType"] == kind
    assert answer["error"]["message"] == f"{step.value}: exit code 3"
    assert [detail["message"] for detail in answer["error"]["details"]] == ["Traceback\nImportError"]


def test_separators_in_a_log_do_not_break_it() -> None:
    operation = DeploymentOperation("op-1", OperationKind.CREATE, "iris", "blue", 0.0)
    log = (TimedLine(0.0, "a#b|c"), TimedLine(1.0, "d"))
    text = operation_object(operation, log, 0, "http://log")["streamingOperationLog"]
    assert text == "19700101000000|a b c#19700101000001|d"
