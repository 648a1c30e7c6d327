"""YAML of v2 for Kubernetes becomes a declared object."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.endpoint import Auth, AutoscalePolicy, PayloadCollection
from serving.faults import InvalidManifest
from serving.inferenceconfig import from_inferenceconfig
from serving.manifest import parse, to_endpoint
from serving.online_deployment import OnlineFile, from_online, is_online

ENDPOINT: dict[str, Any] = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/kubernetesOnlineEndpoint.schema.json",
    **{"name": "churn", "compute": "azureml:cluster", "auth_mode": "key", "traffic": {"blue": 90, "green": 10}},
    "tags": {"team": "a"},
}
BLUE: dict[str, Any] = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/kubernetesOnlineDeployment.schema.json",
    **{"name": "blue", "endpoint_name": "churn", "type": "kubernetes", "model": {"path": "../model/m.pkl"}},
    "code_configuration": {"code": "../onlinescoring/", "scoring_script": "score.py"},
    "environment": {"conda_file": "env.yml", "image": None},
    "environment_variables": {"A": "1", "WORKER_COUNT": "2"},
    "request_settings": {
        "request_timeout_ms": 3000,
        "max_concurrent_requests_per_instance": 2,
        "max_queue_wait_ms": 100,
    },
    "scale_settings": {
        "type": "target_utilization",
        "min_instances": 1,
        "max_instances": 3,
        "polling_interval": "PT2S",
    },
    "liveness_probe": {"initial_delay": 10, "period": "PT1M", "failure_threshold": 30},
    "resources": {"requests": {"cpu": "500m", "memory": "0.5Gi"}, "limits": {"cpu": 1, "nvidia.com/gpu": 1}},
    "instance_type": "small",
    "instance_count": 1,
    "app_insights_enabled": True,
    "data_collector": {"sampling_rate": 0.25, "collections": {"model_inputs": {"enabled": "True"}}},
}
GREEN = {"name": "green", "endpoint_name": "churn", "model": "azureml:m:1", "code_configuration": {"code": "."}}


def imported(*contents: dict[str, Any], name: str | None = None) -> tuple[dict[str, Any], list[str]]:
    return from_online([OnlineFile(f"{i}.yml", each, "azure") for i, each in enumerate(contents)], name)


def test_an_endpoint_and_its_deployments_become_versions_with_their_shares() -> None:
    document, notes = imported(ENDPOINT, BLUE, GREEN)
    endpoint = to_endpoint(parse(document))
    blue, green = endpoint.versions
    assert (endpoint.name, endpoint.auth, endpoint.tags) == ("churn", Auth.KEY, {"team": "a"})
    assert endpoint.app_insights
    assert (blue.share, green.share, blue.is_default) == (0.9, 0.1, True)
    assert document["spec"]["versions"][0]["replica"] == {
        **{"entryScript": "score.py", "sourceDirectory": "onlinescoring", "modelDir": "model"},
        "env": {"A": "1", "AML_APP_INSIGHTS_ENABLED": "true"},
    }
    assert blue.autoscale == AutoscalePolicy(True, 1, 3, 0.7, 2.0, 60.0)
    assert (blue.scoring_timeout_s, blue.slots_per_replica, blue.queue_wait_s) == (3.0, 2, 0.1)
    assert (blue.resources.cpu, blue.resources.cpu_limit, blue.resources.gpu) == (0.5, 1.0, 1)
    assert blue.resources.memory_bytes == 536_871_000 and blue.collection == PayloadCollection(0.25)
    assert (blue.liveness.period_s, blue.liveness.failure_threshold) == (60.0, 30)
    assert (green.autoscale.max_replicas, green.scoring_timeout_s) == (1, 5.0), "the defaults of v2"
    for words in (
        "compute",
        "instance_type",
        "instance_count",
        "data_collector",
        "environment_variables.WORKER_COUNT",
        "azureml:m:1",
    ):
        assert any(words in note for note in notes), words


def test_a_deployment_alone_is_enough_and_an_image_keeps_its_routes() -> None:
    routes = {"scoring_route": {"port": 8080, "path": "/predict"}, "readiness_route": {"port": 8080, "path": "/ready"}}
    own = {"name": "own", "endpoint_name": "churn", "environment": {"image": "r/m:1", "inference_config": routes}}
    document, _ = imported(own, name="other")
    assert document["metadata"]["name"] == "other"
    (version,) = document["spec"]["versions"]
    assert version["replica"] == {"image": "r/m:1", "port": 8080, "scorePath": "/predict", "healthPath": "/ready"}


@pytest.mark.parametrize(
    ("contents", "path"),
    [
        ((ENDPOINT,), "(document)"),
        ((ENDPOINT, ENDPOINT, BLUE), "name"),
        ((ENDPOINT, {**BLUE, "endpoint_name": "other"}), "endpoint_name"),
        ((ENDPOINT, {**BLUE, "type": "managed"}), "type"),
        ((ENDPOINT, {**BLUE, "request_setings": {}}), "request_setings"),
        ((ENDPOINT, {**BLUE, "request_settings": {"timeout": 1}}), "request_settings.timeout"),
        ((ENDPOINT, {**BLUE, "resources": {"limits": {"disk": 1}}}), "resources.limits.disk"),
        (({**ENDPOINT, "auth_mode": "aad_token"}, BLUE), "auth_mode"),
        ((ENDPOINT, {**BLUE, "resources": {"requests": {"cpu": "many"}}}), "resources.requests.cpu"),
        ((ENDPOINT, {**BLUE, "code_configuration": None}), "code_configuration"),
        ((ENDPOINT, {**BLUE, "scale_settings": {"min_instances": 5}}), "spec.versions[0].autoScaler.minReplicas"),
    ],
)
def test_a_wrong_file_is_refused_by_its_key(contents: tuple[dict[str, Any], ...], path: str) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        imported(*contents)
    assert path in {fault.path for fault in refusal.value.faults}


def test_a_model_is_found_by_its_name_in_the_folder_around_it_as_in_azure() -> None:
    environment = {"image": "mcr/base", "conda_file": "env.yml"}
    document, notes = imported({**BLUE, "model": {"path": "../model-1/model/"}, "environment": environment})
    assert document["spec"]["versions"][0]["replica"]["modelDir"] == "model-1"
    assert any("environment" in note and "packages" in note for note in notes)


def test_choices_are_read_in_any_case() -> None:
    token = {**ENDPOINT, "auth_mode": "AMLToken"}
    document, _ = imported(token, {**BLUE, "type": "Kubernetes", "scale_settings": {"type": "Default"}})
    assert document["spec"]["tokenAuthEnabled"] and document["spec"]["versions"][0]["numReplicas"] == 1
    assert imported({**ENDPOINT, "auth_mode": "Key"}, BLUE)[0]["spec"]["authEnabled"]


def test_files_of_v1_and_v2_are_told_apart() -> None:
    assert is_online(ENDPOINT) and is_online(BLUE) and is_online({"name": "x", "endpoint_name": "y"})
    assert (
        not is_online({"computeType": "aks", "name": "x"}) and not is_online({"entryScript": "x"}) and not is_online([])
    )


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@example("name", "$schema", {}, None)
@given(st.sampled_from(sorted(BLUE)), st.sampled_from(sorted(ENDPOINT)), _values, _values)
def test_whatever_a_key_holds_is_read_or_refused(blue_key: str, key: str, blue_value: object, value: object) -> None:
    try:
        imported({**ENDPOINT, key: value}, {**BLUE, blue_key: blue_value})
        from_inferenceconfig({"entryScript": value, "environment": blue_value})
    except InvalidManifest as refusal:
        str(refusal).encode()
