"""The files of the v1 command line become declared objects."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.deploymentconfig import DeclaredKeys, declared_keys, deploymentconfig_notes, from_deploymentconfig
from serving.endpoint import Auth, AutoscalePolicy, LivenessProbe, PayloadCollection, Resources
from serving.faults import InvalidManifest
from serving.inferenceconfig import from_inferenceconfig
from serving.manifest import parse, to_endpoint

SCRIPT = {"entryScript": "score.py"}
EVERY_KEY: dict[str, Any] = {
    "computeType": "AKS",
    "autoScaler": {
        "autoscaleEnabled": True,
        "minReplicas": 2,
        "maxReplicas": 3,
        "refreshPeriodInSeconds": 4,
        "targetUtilization": 50,
    },
    "dataCollection": {"storageEnabled": True},
    "authEnabled": False,
    "tokenAuthEnabled": True,
    "containerResourceRequirements": {"cpu": 0.5, "memoryInGB": 1.0, "cpuLimit": 2, "memoryInGBLimit": 4},
    "appInsightsEnabled": True,
    "scoringTimeoutMs": 1000,
    "maxConcurrentRequestsPerContainer": 5,
    "maxQueueWaitMs": 700,
    "numReplicas": 0,
    "keys": {"primaryKey": "first-key-of-v1-0123", "secondaryKey": "second-key-of-v1-012"},
    "gpuCores": 1,
    "livenessProbeRequirements": {
        "periodSeconds": 1,
        "initialDelaySeconds": 2,
        "timeoutSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
    },
    "namespace": "models",
    "computeTargetName": "my-cluster",
    "versionName": "blue",
    "trafficPercentile": 30,
}


def faults_of(config: object, replica: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidManifest) as refusal:
        from_deploymentconfig(config, "iris", SCRIPT if replica is None else replica)
    return {fault.path: fault.rule for fault in refusal.value.faults}


def test_every_key_is_honoured() -> None:
    declared = parse(from_deploymentconfig(EVERY_KEY, "iris", SCRIPT))
    endpoint = to_endpoint(declared)
    (only,) = endpoint.versions
    assert (endpoint.name, only.name, endpoint.auth) == ("iris", "blue", Auth.TOKEN)
    assert declared.metadata.namespace == "models"
    assert endpoint.properties == {"computeTargetName": "my-cluster"}
    assert declared.spec.versions[0].trafficPercentile == 30
    assert only.autoscale == AutoscalePolicy(True, 2, 3, 0.5, 4.0, 60.0)
    assert only.resources == Resources(0.5, 2.0, 1_000_000_000, 4_000_000_000, 1)
    assert only.liveness == LivenessProbe(1.0, 2.0, 3.0, 4, 5)
    assert (only.scoring_timeout_s, only.queue_wait_s, only.slots_per_replica) == (1.0, 0.7, 5)
    assert only.collection == PayloadCollection()
    assert only.replica.env == {"AML_APP_INSIGHTS_ENABLED": "true"} and endpoint.app_insights


def test_the_smallest_config_gives_the_defaults() -> None:
    bare = from_deploymentconfig({"computeType": "aks"}, "iris", SCRIPT)
    (only,) = to_endpoint(parse(bare)).versions
    assert only.name == "iris", "as in the v1 SDK, the version is named after its endpoint"
    assert only.autoscale == AutoscalePolicy()
    nulls = dict.fromkeys(EVERY_KEY) | {"computeType": "AksEndpoint"}
    assert from_deploymentconfig(nulls, "iris", SCRIPT) == bare


def test_a_fixed_number_of_replicas_turns_autoscaling_off() -> None:
    config = {"computeType": "aks", "numReplicas": 3}
    (only,) = to_endpoint(parse(from_deploymentconfig(config, "iris", SCRIPT))).versions
    assert only.autoscale == AutoscalePolicy(enabled=False, min_replicas=3, max_replicas=3)


def test_insights_are_switched_on_if_scorefront_sets_the_environment() -> None:
    config = {"computeType": "aks", "appInsightsEnabled": True}
    own = from_deploymentconfig(config, "iris", {**SCRIPT, "env": {"AML_APP_INSIGHTS_ENABLED": "false", "A": "b"}})
    assert own["spec"]["versions"][0]["replica"]["env"] == {"AML_APP_INSIGHTS_ENABLED": "false", "A": "b"}
    static = from_deploymentconfig(config, "iris", {"static": ["127.0.0.1:80"]})
    assert own["spec"]["appInsightsEnabled"] is static["spec"]["appInsightsEnabled"] is True
    assert "env" not in static["spec"]["versions"][0]["replica"]


def test_faults_are_named_by_their_place_in_the_config() -> None:
    faults = faults_of(
        {
            "computeType": "ACI",
            "gpuCores": -1,
            "containerResourceRequirements": {"cpu": 2, "cpuLimit": 1},
            "autoScaler": {"minReplicas": 0, "scaleUp": 1},
            "numReplicas": -1,
            "namespace": "My_Space",
            "versionName": "Blue",
            "trafficPercentile": 101,
            "authEnabled": True,
            "tokenAuthEnabled": True,
            "appInsightsEnabled": "yes",
            "computeTargetName": 5,
            "sslOn": True,
            "keys": {"primaryKey": "a b"},
        }
    )
    assert set(faults) == {
        "computeType",
        "gpuCores",
        "containerResourceRequirements.cpuLimit",
        "autoScaler.minReplicas",
        "autoScaler.scaleUp",
        "numReplicas",
        "namespace",
        "versionName",
        "trafficPercentile",
        "tokenAuthEnabled",
        "appInsightsEnabled",
        "computeTargetName",
        "sslOn",
        "keys.primaryKey",
    }
    assert "ACI" in faults["computeType"]


def test_keys_that_az_ml_printed_are_honoured_or_dropped_with_a_note_each() -> None:
    shown = {
        **{"computeType": "AKS", "name": "svc", "aadAuthEnabled": False, "description": "d", "kvTags": {"a": "b"}},
        **{"cpu": 0.5, "memoryInGB": 2, "gpu": 1, "isDefault": True, "type": "Control", "computeName": "cluster"},
        **{"sslEnabled": False, "location": "westeurope", "scoringUri": "http://x", "enableAppInsights": "True"},
        "dataCollection": {"storageEnabled": False, "eventHubEnabled": False},
    }
    document = from_deploymentconfig(shown, "iris", SCRIPT)
    endpoint = to_endpoint(parse(document))
    (only,) = endpoint.versions
    assert (endpoint.description, endpoint.tags, only.resources.gpu) == ("d", {"a": "b"}, 1)
    assert endpoint.properties == {"computeTargetName": "cluster"}
    assert only.replica.env == {"AML_APP_INSIGHTS_ENABLED": "true"}
    notes = deploymentconfig_notes(shown, "iris")
    assert sorted(note.partition(":")[0] for note in notes) == [
        *("dataCollection.eventHubEnabled", "location", "name", "scoringUri", "sslEnabled")
    ]
    assert not any("None" in note for note in notes)


def test_switches_in_text_and_empty_names_are_read_as_they_were_meant() -> None:
    written = {
        **{"computeType": "aks", "authEnabled": "False", "namespace": "", "versionName": "", "computeTargetName": ""},
        **{"autoScaler": {"autoscaleEnabled": "true"}, "dataCollection": {"storageEnabled": "TRUE"}},
        "keys": {"primaryKey": "", "secondaryKey": ""},
    }
    endpoint = to_endpoint(parse(from_deploymentconfig(written, "iris", SCRIPT)))
    assert (
        endpoint.auth is Auth.NONE
        and endpoint.versions[0].collection is not None
        and endpoint.versions[0].name == "iris"
    )
    assert declared_keys(written) == DeclaredKeys()


def test_nulls_are_ignored_at_every_depth() -> None:
    nulls = {"autoScaler": dict.fromkeys(("minReplicas", "maxReplicas")), "keys": {"primaryKey": None}, "cpu": None}
    assert from_deploymentconfig({"computeType": "aks", **nulls}, "iris", SCRIPT) == from_deploymentconfig(
        {"computeType": "aks"}, "iris", SCRIPT
    )


def test_a_missing_required_field_is_named_by_its_place_in_the_config_too() -> None:
    assert set(faults_of({"computeType": "aks", "autoScaler": {"autoscaleEnabled": False}})) == {"numReplicas"}
    assert set(faults_of({})) == {"computeType"}


def test_faults_of_the_replica_keep_their_place_in_the_document() -> None:
    assert set(faults_of({"computeType": "aks"}, {"entryscript": "x"})) == {
        "spec.versions[0].replica",
        "spec.versions[0].replica.entryscript",
    }


def test_the_config_and_the_replica_stay_as_they_were() -> None:
    replica: dict[str, Any] = {**SCRIPT, "env": {}}
    resources = {"cpu": 1}
    config = {
        "computeType": "aks",
        "gpuCores": 1,
        "appInsightsEnabled": True,
        "containerResourceRequirements": resources,
    }
    from_deploymentconfig(config, "iris", replica)
    assert (replica["env"], resources) == ({}, {"cpu": 1})


# ---- keys


def test_keys_are_read_apart_and_do_not_get_into_the_document() -> None:
    assert declared_keys(EVERY_KEY) == DeclaredKeys("first-key-of-v1-0123", "second-key-of-v1-012")
    assert declared_keys({"computeType": "aks", "keys": None}) == DeclaredKeys(None, None)
    assert "first-key-of-v1-0123" not in str(from_deploymentconfig(EVERY_KEY, "iris", SCRIPT))


@pytest.mark.parametrize(
    ("keys", "paths"),
    [
        ("s3cret", {"keys"}),
        ({"primaryKey": 5}, {"keys.primaryKey"}),
        ({"primaryKey": "s3cret\r\n"}, {"keys.primaryKey"}),
        ({"primaryKey": "", "secondaryKey": "s3cret s"}, {"keys.primaryKey", "keys.secondaryKey"}),
        ({"secondaryKey": "s3cret-s3cret-s3cret"}, {"keys.primaryKey"}),
        ({"primaryKey": "s3cret-s3cret-s3cret", "secondaryKey": "s3cret-s3cret-s3cret"}, {"keys.secondaryKey"}),
        ({"primarykey": "s3cret"}, {"keys.primarykey"}),
    ],
)
def test_wrong_keys_are_refused_and_never_shown(keys: dict[str, Any] | str, paths: set[str]) -> None:
    config = {"computeType": "aks", "keys": keys}
    assert set(faults_of(config)) == paths
    with pytest.raises(InvalidManifest) as refusal:
        declared_keys(config)
    assert "s3cret" not in str(refusal.value)
    assert "s3cret" not in repr(DeclaredKeys("s3cret"))


# ---- inferenceconfig.json


def test_an_inferenceconfig_becomes_a_replica() -> None:
    config = {
        "entryScript": "score.py",
        "sourceDirectory": "./src",
        "environment": {
            "name": "iris-env",
            "version": "1",
            "environmentVariables": {"GREETING": "hello"},
            "python": {"condaDependencies": {}},
            "docker": {"baseImage": "x"},
        },
    }
    replica = from_inferenceconfig(config, model_dir="model")
    assert replica == {
        "entryScript": "score.py",
        "sourceDirectory": "./src",
        "modelDir": "model",
        "env": {"GREETING": "hello"},
    }
    from_deploymentconfig({"computeType": "aks"}, "iris", replica)


def test_a_small_inferenceconfig_is_enough() -> None:
    assert from_inferenceconfig({"entryScript": "score.py", "environment": None}) == SCRIPT


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        ([], {"(document)"}),
        ({}, {"entryScript"}),
        ({"entryScript": "score.py", "entrypoint": "python"}, {"entrypoint"}),
        ({"entryScript": "score.py", "environment": ["env"]}, {"environment"}),
        ({"entryScript": "score.py", "enableGpu": "yes"}, {"enableGpu"}),
        ({"environment": {"environmentVariable": {}}}, {"entryScript", "environment.environmentVariable"}),
    ],
)
def test_a_wrong_inferenceconfig_is_refused(config: dict[str, Any] | list[Any], paths: set[str]) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        from_inferenceconfig(config)
    assert {fault.path for fault in refusal.value.faults} == paths


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2),
    max_leaves=5,
)


@given(_values | st.dictionaries(st.sampled_from([*EVERY_KEY, "entryScript", "environment", "other"]), _values))
def test_files_of_any_content_are_read_or_refused(config: Any) -> None:
    for read in (
        lambda: parse(from_deploymentconfig(config, "iris", SCRIPT)),
        lambda: declared_keys(config),
        lambda: from_inferenceconfig(config),
    ):
        try:
            read()
        except InvalidManifest as refusal:
            str(refusal).encode()
