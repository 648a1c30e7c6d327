"""Create payloads of services, as azureml-core sends them, become declared objects."""

import json
from typing import Any

import pytest

from serving.manifest import parse, to_document, to_endpoint
from tests.unit.workspace.azureml.payloads import IMAGE, NOW, aks, endpoint
from workspace.azureml.azure_errors import AzureError
from workspace.azureml.image_request import inner_script, read_image_request, script_in_driver
from workspace.azureml.service_payload import create_draft
from workspace.azureml.service_record import ANNOTATION, record_of

SCALED = {
    "autoscaleEnabled": True,
    "minReplicas": 2,
    "maxReplicas": 4,
    "targetUtilization": 30,
    "refreshPeriodInSeconds": 5,
}

PARAMETERS: list[tuple[str, dict[str, Any], tuple[Any, ...], Any]] = [
    ("autoscale_enabled", {"autoScaler": SCALED}, ("autoScaler", "autoscaleEnabled"), True),
    ("autoscale_min_replicas", {"autoScaler": SCALED}, ("autoScaler", "minReplicas"), 2),
    ("autoscale_max_replicas", {"autoScaler": SCALED}, ("autoScaler", "maxReplicas"), 4),
    ("autoscale_refresh_seconds", {"autoScaler": SCALED}, ("autoScaler", "refreshPeriodInSeconds"), 5),
    ("autoscale_target_utilization", {"autoScaler": SCALED}, ("autoScaler", "targetUtilization"), 30),
    (
        "collect_model_data",
        {"dataCollection": {"storageEnabled": True, "eventHubEnabled": False}},
        ("dataCollection", "storageEnabled"),
        True,
    ),
    ("cpu_cores", {"containerResourceRequirements": {"cpu": 0.5}}, ("containerResourceRequirements", "cpu"), 0.5),
    (
        "cpu_cores_limit",
        {"containerResourceRequirements": {"cpuLimit": 2}},
        ("containerResourceRequirements", "cpuLimit"),
        2,
    ),
    (
        "memory_gb",
        {"containerResourceRequirements": {"memoryInGB": 1.5}},
        ("containerResourceRequirements", "memoryInGB"),
        1.5,
    ),
    (
        "memory_gb_limit",
        {"containerResourceRequirements": {"memoryInGBLimit": 3}},
        ("containerResourceRequirements", "memoryInGBLimit"),
        3,
    ),
    ("gpu_cores", {"containerResourceRequirements": {"gpu": 1}}, ("containerResourceRequirements", "gpu"), 1),
    ("scoring_timeout_ms", {"scoringTimeoutMs": 1234}, ("scoringTimeoutMs",), 1234),
    (
        "replica_max_concurrent_requests",
        {"maxConcurrentRequestsPerContainer": 3},
        ("maxConcurrentRequestsPerContainer",),
        3,
    ),
    ("max_request_wait_time", {"maxQueueWaitMs": 750}, ("maxQueueWaitMs",), 750),
    ("num_replicas", {"numReplicas": 3}, ("numReplicas",), 3),
    *(
        (name, {"livenessProbeRequirements": {key: 7}}, ("livenessProbeRequirements", key), 7)
        for name, key in (
            ("period_seconds", "periodSeconds"),
            ("initial_delay_seconds", "initialDelaySeconds"),
            ("timeout_seconds", "timeoutSeconds"),
            ("success_threshold", "successThreshold"),
            ("failure_threshold", "failureThreshold"),
        )
    ),
]
"""Parameter of deploy_configuration, what the SDK sends, place in the version, value there."""


@pytest.mark.parametrize(("parameter", "settings", "place", "value"), PARAMETERS, ids=[each[0] for each in PARAMETERS])
@pytest.mark.parametrize("make", [aks, endpoint])
def test_a_parameter_of_the_version_arrives(
    parameter: str, settings: dict[str, Any], place: tuple[str, ...], value: Any, make: Any
) -> None:
    found: Any = to_document(parse(create_draft(make(**settings), NOW).document))["spec"]["versions"][0]
    for step in place:
        found = found[step]
    assert found == value, parameter


@pytest.mark.parametrize("make", [aks, endpoint])
def test_parameters_of_the_service_arrive(make: Any) -> None:
    payload = make(
        description="d",
        kvTags={"a": "b"},
        properties={"c": "d"},
        authEnabled=True,
        aadAuthEnabled=False,
        namespace="ns",
    )
    payload |= {"keys": {"primaryKey": "p" * 20, "secondaryKey": "s" * 20}}
    draft = create_draft({**payload, "overwrite": True}, NOW)
    spec = draft.document["spec"]
    assert (spec["description"], spec["kvTags"], spec["properties"]) == ("d", {"a": "b"}, {"c": "d"})
    assert (spec["authEnabled"], spec["tokenAuthEnabled"]) == (True, False)
    assert draft.document["metadata"]["namespace"] == "ns"
    assert (draft.keys.primary, draft.keys.secondary) == ("p" * 20, "s" * 20)
    assert draft.overwrite
    assert "p" * 20 not in repr(draft)


@pytest.mark.parametrize("make", [aks, endpoint])
def test_compute_target_insights_and_blobfuse_are_kept(make: Any) -> None:
    document = create_draft(make(appInsightsEnabled=True, storageInitEnabled=True), NOW).document
    record = record_of(document)
    assert (record.compute_name, document["spec"]["appInsightsEnabled"], record.storage_init) == ("myaks", True, True)
    assert record.created == NOW


def test_token_auth_alone_turns_key_auth_off() -> None:
    declared = parse(create_draft(aks(aadAuthEnabled=True), NOW).document)
    assert to_endpoint(declared).auth.value == "token"


def test_an_endpoint_keeps_texts_share_and_role_of_its_version() -> None:
    payload = endpoint(trafficPercentile=20, isDefault=True, type="Control", description="d", kvTags={"a": "b"})
    draft = create_draft(payload, NOW)
    version = draft.document["spec"]["versions"][0]
    assert (version["name"], version["trafficPercentile"], version["isDefault"]) == ("versiona", 20, True)
    assert version["type"] == "Control"
    texts = record_of(draft.document).versions["versiona"]
    assert (texts.description, texts.tags, texts.created) == ("d", {"a": "b"}, NOW)


def test_settings_of_the_endpoint_win_over_those_in_its_version() -> None:
    payload = endpoint(authEnabled=True) | {"aadAuthEnabled": True, "authEnabled": False}
    spec = create_draft(payload, NOW).document["spec"]
    assert (spec["authEnabled"], spec["tokenAuthEnabled"]) == (False, True)


def test_variables_of_the_environment_reach_the_replica_without_reserved_ones() -> None:
    replica = create_draft(aks(), NOW).document["spec"]["versions"][0]["replica"]
    assert replica["env"] == {"GREETING": "hello"}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (aks(computeType="ACI"), ("computeType", "AKS", "ACI")),
        (aks(name="A"), ("name", "3 to 32")),
        (aks(autoScaler={**SCALED, "targetUtilization": 150}), ("autoScaler.targetUtilization", "100", "150")),
        (aks(autoScaler={**SCALED, "minReplicas": 9}), ("autoScaler.minReplicas", "9")),
        (aks(scoringTimeoutMs=300_001), ("scoringTimeoutMs", "300000", "300001")),
        (aks(scoringTimeoutMs="1"), ("scoringTimeoutMs",)),
        (aks(numReplicas=2, autoScaler=SCALED), ("numReplicas",)),
        (aks(authEnabled=True, aadAuthEnabled=True), ("authEnabled",)),
        (aks(kvTags={"a": 1}), ("kvTags",)),
        (aks(keys={"primaryKey": "short"}), ("keys.primaryKey",)),
        (aks(unknownSetting=1), ("unknownSetting",)),
        (endpoint(trafficPercentile=101), ("trafficPercentile", "101")),
        ({**endpoint(), "versions": {}}, ("versions",)),
        (aks(environmentImageRequest={"modelIds": ["iris:1"]}), ("entry script", "InferenceConfig")),
        (aks(environmentImageRequest={**IMAGE, "modelIds": ["iris"]}), ("modelIds[0]", "name:version")),
        (aks(imageId="image:1", environmentImageRequest=None), ("imageId",)),
        ([], ("body",)),
    ],
)
def test_wrong_payloads_are_refused_in_azures_shape(payload: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(AzureError) as caught:
        create_draft(payload, NOW)
    document = caught.value.document
    assert document["statusCode"] == 400
    assert document["code"]
    for word in words:
        assert word in document["message"]


def test_every_fault_is_named_at_once() -> None:
    payload = aks(scoringTimeoutMs=0, maxQueueWaitMs=0, containerResourceRequirements={"cpu": 0})
    with pytest.raises(AzureError) as caught:
        create_draft(payload, NOW)
    targets = {detail["target"] for detail in caught.value.details}
    assert targets == {"scoringTimeoutMs", "maxQueueWaitMs", "containerResourceRequirements.cpu"}


def test_the_code_of_a_version_is_read() -> None:
    image = read_image_request(IMAGE)
    assert image.driver is not None
    assert image.driver.artifact == "LocalUpload/c1/tmpx.py"
    assert [(each.artifact, each.is_archive) for each in image.sources] == [("LocalUpload/c2/1a2b.tar.gz", True)]
    assert image.models == (("iris", 1),)
    assert image.named_script == "src/score.py"


def test_the_driver_names_the_script_where_no_environment_does() -> None:
    line = "script_location = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'src/deep/score.py')\n"
    assert script_in_driver(f"import os\n{line}") == "src/deep/score.py"
    assert script_in_driver("import os") is None


@pytest.mark.parametrize(
    ("script", "paths", "found"),
    [
        ("src/score.py", ["src/score.py", "src/help.py"], ("src", "score.py")),
        ("src/deep/score.py", ["src/deep/score.py", "src/help.py"], ("src", "deep/score.py")),
        ("./src/./score.py", ["src/score.py"], ("src", "score.py")),
        ("score.py", ["score.py"], ("", "score.py")),
        ("score.py", ["score.py", "lib/help.py"], ("", "score.py")),
    ],
)
def test_the_script_is_found_in_its_source_directory(script: str, paths: list[str], found: tuple[str, str]) -> None:
    assert inner_script(script, paths) == found


def test_a_script_that_was_not_uploaded_is_named() -> None:
    with pytest.raises(AzureError, match=r"score\.py.*main\.py"):
        inner_script("score.py", ["main.py"])


def test_a_record_written_before_insights_were_declared_is_read() -> None:
    document = create_draft(aks(), NOW).document
    kept = json.loads(document["metadata"]["annotations"][ANNOTATION])
    document["metadata"]["annotations"][ANNOTATION] = json.dumps({**kept, "insights": True})
    assert record_of(document).created == NOW
