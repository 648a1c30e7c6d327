"""Parameters of a deployment: their fields in the payload, and the rules of Azure ML v1."""

from typing import Any

import pytest

from scorefront.sdk import AksEndpoint, AksWebservice
from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.service_rules import service_name_fault, update_faults
from scorefront.sdk.service_settings import PLACES

SCALED = {"autoscale_enabled": True}
PARAMETERS: list[tuple[str, Any, str, Any]] = [
    ("autoscale_enabled", True, "autoScaler.autoscaleEnabled", True),
    ("autoscale_min_replicas", 2, "autoScaler.minReplicas", 2),
    ("autoscale_max_replicas", 4, "autoScaler.maxReplicas", 4),
    ("autoscale_refresh_seconds", 3, "autoScaler.refreshPeriodInSeconds", 3),
    ("autoscale_target_utilization", 30, "autoScaler.targetUtilization", 30),
    ("collect_model_data", True, "dataCollection.storageEnabled", True),
    ("auth_enabled", False, "authEnabled", False),
    ("cpu_cores", 0.2, "containerResourceRequirements.cpu", 0.2),
    ("memory_gb", 0.3, "containerResourceRequirements.memoryInGB", 0.3),
    ("enable_app_insights", True, "appInsightsEnabled", True),
    ("scoring_timeout_ms", 1000, "scoringTimeoutMs", 1000),
    ("replica_max_concurrent_requests", 2, "maxConcurrentRequestsPerContainer", 2),
    ("max_request_wait_time", 700, "maxQueueWaitMs", 700),
    ("num_replicas", 3, "numReplicas", 3),
    ("primary_key", "k" * 32, "keys.primaryKey", "k" * 32),
    ("secondary_key", "l" * 32, "keys.secondaryKey", "l" * 32),
    ("tags", {"a": "b"}, "kvTags", {"a": "b"}),
    ("properties", {"c": "d"}, "properties", {"c": "d"}),
    ("description", "text", "description", "text"),
    ("gpu_cores", 1, "containerResourceRequirements.gpu", 1),
    ("period_seconds", 11, "livenessProbeRequirements.periodSeconds", 11),
    ("initial_delay_seconds", 12, "livenessProbeRequirements.initialDelaySeconds", 12),
    ("timeout_seconds", 13, "livenessProbeRequirements.timeoutSeconds", 13),
    ("success_threshold", 14, "livenessProbeRequirements.successThreshold", 14),
    ("failure_threshold", 15, "livenessProbeRequirements.failureThreshold", 15),
    ("namespace", "team-a", "namespace", "team-a"),
    ("token_auth_enabled", True, "aadAuthEnabled", True),
    ("compute_target_name", "myaks", "computeName", "target"),
    ("cpu_cores_limit", 0.9, "containerResourceRequirements.cpuLimit", 0.9),
    ("memory_gb_limit", 0.8, "containerResourceRequirements.memoryInGBLimit", 0.8),
    ("blobfuse_enabled", False, "storageInitEnabled", True),
]
NEEDED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (f"autoscale_{name}" for name in ("min_replicas", "max_replicas", "refresh_seconds", "target_utilization")),
        SCALED,
    ),
    "secondary_key": {"primary_key": "k" * 32},
}


def at(payload: Any, path: str) -> Any:
    for step in path.split("."):
        payload = payload[step]
    return payload


@pytest.mark.parametrize(("name", "value", "path", "sent"), PARAMETERS, ids=[row[0] for row in PARAMETERS])
def test_each_parameter_arrives_in_its_field(name: str, value: Any, path: str, sent: Any) -> None:
    config = AksWebservice.deploy_configuration(**{**NEEDED.get(name, {}), name: value})
    payload = config.create_payload("iris", {}, "target", overwrite=True)
    assert at(payload, path) == sent
    assert payload["computeType"] == "AKS" and payload["overwrite"] is True


def test_all_31_parameters_are_tried() -> None:
    assert len(PARAMETERS) == 31
    assert {row[0] for row in PARAMETERS} == PLACES.keys() - {
        *("traffic_percentile", "is_default", "is_control_version_type")
    }


def test_an_endpoint_has_its_settings_in_its_first_version() -> None:
    config = AksEndpoint.deploy_configuration(
        cpu_cores=0.1, tags={"a": "b"}, auth_enabled=False, version_name="versiona", traffic_percentile=20
    )
    payload = config.create_payload("mynewendpoint", {"modelIds": []}, "myaks", overwrite=False)
    version = payload["versions"]["versiona"]
    assert payload["computeType"] == "AKSENDPOINT" and payload["authEnabled"] is False
    assert version["trafficPercentile"] == 20 and version["computeName"] == "myaks"
    assert version["containerResourceRequirements"] == {"cpu": 0.1}
    assert payload["kvTags"] == version["kvTags"] == {"a": "b"}
    assert "authEnabled" not in version and "containerResourceRequirements" not in payload


ABOVE_ZERO = (
    *("cpu_cores", "memory_gb", "period_seconds", "initial_delay_seconds", "timeout_seconds", "success_threshold"),
    *("failure_threshold", "scoring_timeout_ms", "replica_max_concurrent_requests", "max_request_wait_time"),
    "num_replicas",
)
WRONG: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, f"{name} must be greater than zero.") for name in ABOVE_ZERO for value in (0, -1)),
    ({"gpu_cores": -1}, "gpu_cores must be greater than or equal to zero."),
    ({"cpu_cores": 1, "cpu_cores_limit": 0.5}, "cpu_cores_limit must be greater than or equal to cpu_cores."),
    ({"memory_gb": 1, "memory_gb_limit": 0.5}, "memory_gb_limit must be greater than or equal to memory_gb."),
    ({"namespace": "A_b"}, "namespace must be a valid Kubernetes namespace."),
    ({"namespace": "a" * 64}, "namespace must be a valid Kubernetes namespace."),
    ({"autoscale_enabled": True, "num_replicas": 2}, "autoscale enabled and num_replicas provided."),
    ({"autoscale_enabled": False}, "autoscale disabled but num_replicas not provided."),
    *(
        ({f"autoscale_{name}": 2}, f"autoscale_{name} provided without enabling autoscaling.")
        for name in ("min_replicas", "max_replicas", "refresh_seconds", "target_utilization")
    ),
    *(
        ({**SCALED, f"autoscale_{name}": 0}, f"autoscale_{name} must be greater than zero.")
        for name in ("min_replicas", "max_replicas", "refresh_seconds", "target_utilization")
    ),
    (
        {**SCALED, "autoscale_min_replicas": 4, "autoscale_max_replicas": 2},
        "autoscale_min_replicas cannot be greater than autoscale_max_replicas.",
    ),
    ({**SCALED, "autoscale_target_utilization": 101}, "autoscale_target_utilization must be at most 100."),
    ({"auth_enabled": True, "token_auth_enabled": True}, "auth_enabled and token_auth_enabled cannot both be true."),
    ({"cpu_cores": "one"}, "cpu_cores must be a number"),
    ({"auth_enabled": "yes"}, "auth_enabled must be True or False"),
    ({"tags": ["a"]}, "tags must be a dictionary"),
]


@pytest.mark.parametrize(("given", "rule"), WRONG, ids=str)
def test_wrong_parameters_are_refused_with_the_messages_of_azure_ml(given: dict[str, Any], rule: str) -> None:
    with pytest.raises(WebserviceException) as refused:
        AksWebservice.deploy_configuration(**given)
    assert str(refused.value).startswith(f"Invalid configuration, {rule}")


@pytest.mark.parametrize("share", [-1, 100.5])
def test_a_share_outside_0_to_100_is_refused(share: float) -> None:
    with pytest.raises(WebserviceException, match="Invalid configuration, traffic_percentile cannot be negative"):
        AksEndpoint.deploy_configuration(traffic_percentile=share)


@pytest.mark.parametrize("share", [0, 12.5, 100])
def test_a_share_from_0_to_100_is_taken(share: float) -> None:
    assert AksEndpoint.deploy_configuration(traffic_percentile=share).traffic_percentile == share


def test_all_broken_rules_are_named_a_line_each() -> None:
    with pytest.raises(WebserviceException) as refused:
        AksWebservice.deploy_configuration(cpu_cores=-1, memory_gb=0)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["ab", "Version1", "a" * 33, "a-", "-ab", "1ab", "a_b", 7])
def test_invalid_names_of_services_are_refused(name: object) -> None:
    assert (service_name_fault(name) or "").startswith("Error, provided service name is invalid")


@pytest.mark.parametrize("name", ["abc", "a--b", "a" * 32])
def test_valid_names_of_services_are_taken(name: str) -> None:
    assert service_name_fault(name) is None


UPDATES: list[tuple[dict[str, Any], bool, bool, str | None]] = [
    ({"cpu_cores": 0}, True, False, "cpu_cores must be greater than zero."),
    ({"cpu_cores_limit": 0.5}, True, False, "cpu_cores_limit must be greater than or equal to cpu_cores."),
    ({"memory_gb": 9}, True, False, "memory_gb_limit must be greater than or equal to memory_gb."),
    ({"autoscale_max_replicas": 4}, True, False, "autoscale_max_replicas provided without enabling autoscaling."),
    ({"token_auth_enabled": True}, True, False, "cannot set token_auth_enabled without disabling key auth"),
    ({"auth_enabled": True}, False, True, "cannot set auth_enabled without disabling token auth"),
    ({"auth_enabled": True, "token_auth_enabled": True}, True, False, "cannot set both"),
    ({"auth_enabled": False, "token_auth_enabled": True}, True, False, None),
    ({"token_auth_enabled": True}, False, False, None),
]


@pytest.mark.parametrize(("given", "keys", "tokens", "rule"), UPDATES, ids=str)
def test_updates_are_checked_against_the_service_as_it_is(
    given: dict[str, Any], keys: bool, tokens: bool, rule: str | None
) -> None:
    current = {"cpu_cores": 1, "memory_gb": 1, "cpu_cores_limit": None, "memory_gb_limit": 2}
    faults = update_faults(given, keys, tokens, current)
    assert [fault.startswith(f"Error, {rule}") for fault in faults] == ([] if rule is None else [True])


def test_keys_are_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    config = AksWebservice.deploy_configuration(primary_key="k" * 32, cpu_cores=1)
    config.print_deploy_configuration()
    assert "kkk" not in capsys.readouterr().out + repr(config) and "cpu_cores=1" in repr(config)
