"""From a document to the declared object, to the domain, and back."""

import copy
import dataclasses
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.document import items_of
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    LivenessProbe,
    PayloadCollection,
    ReplicaKind,
    Resources,
    RetryRule,
    VersionType,
)
from serving.faults import Fault, InvalidManifest
from serving.manifest import ScoringEndpoint, parse, resolve_paths, to_document, to_endpoint
from tests.unit.serving.documents import document, valid_documents, version

THE_WHOLE_FORMAT = """
apiVersion: scorefront.io/v1alpha1
kind: ScoringEndpoint
metadata: {name: iris, namespace: models, labels: {team: flowers}, annotations: {note: "any text"}}
spec:
  description: Which iris is it?
  kvTags: {owner: flowers}
  properties: {trained: "2024"}
  authEnabled: false
  tokenAuthEnabled: true
  retry: beforeResponse
  versions:
  - name: blue
    trafficPercentile: 12.5
    isDefault: true
    type: Control
    replica:
      entryScript: score.py
      sourceDirectory: src
      modelDir: model
      env: {GREETING: hello}
      port: 8080
      scorePath: /predict
      healthPath: /healthz
      webSocket: true
    autoScaler: {autoscaleEnabled: true, minReplicas: 2, maxReplicas: 20, targetUtilization: 50,
                 refreshPeriodInSeconds: 3, scaleDownWindowInSeconds: 90}
    maxConcurrentRequestsPerContainer: 4
    maxQueueWaitMs: 1500
    scoringTimeoutMs: 250
    streamIdleTimeoutMs: 5000
    containerResourceRequirements: {cpu: 1, cpuLimit: 1.5, memoryInGB: 1.1, memoryInGBLimit: 2, gpu: 1}
    livenessProbeRequirements: {periodSeconds: 11, initialDelaySeconds: 0, timeoutSeconds: 3, successThreshold: 2,
                                failureThreshold: 4}
    dataCollection: {storageEnabled: true}
  - name: green
    trafficPercentile: 30
    numReplicas: 3
    replica: {command: [python, server.py, --port, "{port}"]}
"""


def faults_of(candidate: object) -> dict[str, str]:
    """Path -> rule of everything that is wrong with a document."""
    with pytest.raises(InvalidManifest) as refusal:
        parse(candidate)
    return {fault.path: fault.rule for fault in refusal.value.faults}


def test_every_field_arrives_in_the_units_of_the_domain() -> None:
    endpoint = to_endpoint(parse(yaml.safe_load(THE_WHOLE_FORMAT)))
    assert (endpoint.name, endpoint.auth, endpoint.retry) == ("iris", Auth.TOKEN, RetryRule.BEFORE_RESPONSE)
    assert (endpoint.description, endpoint.tags) == ("Which iris is it?", {"owner": "flowers"})
    assert endpoint.properties == {"trained": "2024"}
    blue, green = endpoint.versions
    assert (blue.share, green.share) == (0.7, 0.3)
    assert (blue.is_default, blue.type, blue.collection) == (True, VersionType.CONTROL, PayloadCollection())
    assert (green.is_default, green.type, green.collection) == (False, VersionType.TREATMENT, None)
    assert (blue.slots_per_replica, blue.queue_wait_s, blue.scoring_timeout_s) == (4, 1.5, 0.25)
    assert (blue.stream_idle_timeout_s, blue.longest_request_s) == (5.0, 3600.0)
    assert blue.autoscale == AutoscalePolicy(True, 2, 20, 0.5, 3.0, 90.0)
    assert green.autoscale == AutoscalePolicy(enabled=False, min_replicas=3, max_replicas=3)
    assert blue.resources == Resources(1.0, 1.5, 1_100_000_000, 2_000_000_000, 1)
    assert blue.liveness == LivenessProbe(11.0, 0.0, 3.0, 2, 4)
    assert blue.replica.kind is ReplicaKind.ENTRY_SCRIPT
    assert (blue.replica.entry_script, blue.replica.source_directory) == ("score.py", "src")
    assert (blue.replica.model_dir, blue.replica.env) == ("model", {"GREETING": "hello"})
    assert (blue.replica.score_path, blue.replica.health_path) == ("/predict", "/healthz")
    assert (blue.replica.port, blue.replica.web_socket) == (8080, True)
    assert green.replica.kind is ReplicaKind.COMMAND
    assert green.replica.command == ("python", "server.py", "--port", "{port}")


def test_omitted_fields_have_the_defaults_of_the_v1_service() -> None:
    endpoint = to_endpoint(parse(document()))
    (only,) = endpoint.versions
    assert (endpoint.auth, endpoint.retry, endpoint.description) == (Auth.KEY, RetryRule.NEVER_BEGUN, "")
    assert (only.share, only.is_default, only.type) == (1.0, True, VersionType.TREATMENT)
    assert only.autoscale == AutoscalePolicy(True, 1, 10, 0.7, 1.0, 60.0)
    assert (only.slots_per_replica, only.queue_wait_s, only.scoring_timeout_s) == (1, 0.5, 60.0)
    assert (only.stream_idle_timeout_s, only.longest_request_s) == (None, 60.0)
    assert only.resources == Resources(0.1, None, 500_000_000, None, 0)
    assert only.liveness == LivenessProbe(10.0, 310.0, 2.0, 1, 3)
    assert (only.replica.port, only.replica.score_path, only.replica.health_path) == (5001, "/score", "/")
    assert (only.replica.web_socket, only.collection) == (False, None)


def with_nulls(full: Any, bare: Any) -> Any:
    """`bare` with every field that only `full` has set to null."""
    if isinstance(full, dict) and isinstance(bare, dict):
        return {key: with_nulls(full[key], bare.get(key)) for key in full} | {
            key: value for key, value in bare.items() if key not in full
        }
    if isinstance(full, list) and isinstance(bare, list):
        return [with_nulls(*pair) for pair in zip(full, bare, strict=True)]
    return bare


def test_null_means_the_default_in_every_optional_field() -> None:
    bare = document(version())
    full = yaml.safe_load(THE_WHOLE_FORMAT)
    del full["spec"]["versions"][1]
    nulls = with_nulls(full, bare)
    nulls["spec"]["versions"][0]["numReplicas"] = None
    assert nulls["spec"]["versions"][0]["autoScaler"] is None
    assert parse(nulls) == parse(bare)


@pytest.mark.parametrize("field", ["autoScaler", "containerResourceRequirements", "livenessProbeRequirements"])
def test_null_means_the_default_inside_a_mapping_too(field: str) -> None:
    full = yaml.safe_load(THE_WHOLE_FORMAT)["spec"]["versions"][0][field]
    assert parse(document({**version(), field: dict.fromkeys(full)})) == parse(document())


@pytest.mark.parametrize(
    ("switches", "auth"),
    [
        ({}, Auth.KEY),
        ({"authEnabled": True}, Auth.KEY),
        ({"authEnabled": False}, Auth.NONE),
        ({"tokenAuthEnabled": True}, Auth.TOKEN),
        ({"tokenAuthEnabled": True, "authEnabled": None}, Auth.TOKEN),
        ({"tokenAuthEnabled": True, "authEnabled": False}, Auth.TOKEN),
        ({"tokenAuthEnabled": False, "authEnabled": False}, Auth.NONE),
    ],
)
def test_token_auth_turns_key_auth_off_unless_it_was_asked_for(switches: dict[str, Any], auth: Auth) -> None:
    declared = parse(document(**switches))
    assert to_endpoint(declared).auth is auth
    assert to_document(declared)["spec"]["authEnabled"] is (auth is Auth.KEY)


def test_there_are_as_many_static_replicas_as_addresses() -> None:
    addresses = ["127.0.0.1:9400", "[::1]:9400", "model.local:1", "cache_1:65535"]
    (only,) = to_endpoint(parse(document(version(replica={"static": addresses})))).versions
    assert only.replica.static == tuple(addresses)
    assert only.autoscale == AutoscalePolicy(enabled=False, min_replicas=4, max_replicas=4)


def test_six_versions_and_traffic_of_exactly_100_are_allowed() -> None:
    shares = [33.3, 33.3, 33.4, 0, 0, 0]
    endpoint = to_endpoint(parse(document(*(version(f"v-{i}x", trafficPercentile=p) for i, p in enumerate(shares)))))
    assert [round(v.share, 6) for v in endpoint.versions] == [0.333, 0.333, 0.334, 0, 0, 0]


@pytest.mark.parametrize("name", ["abc", "a--b", "a1-", "a" * 32, "ab", "-ab", "Version1", "a" * 33])
def test_names_follow_the_rule_of_the_v1_sdk(name: str) -> None:
    allowed = name in {"abc", "a--b", "a" * 32}
    candidate = document(version(name))
    if allowed:
        parse(candidate)
    else:
        assert set(faults_of(candidate)) == {"spec.versions[0].name"}


def test_the_output_of_get_can_be_applied_again_and_its_status_is_dropped() -> None:
    shown = {**to_document(parse(document())), "status": {"ready": 1, "at": {7: float("nan")}}}
    assert parse(shown) == parse(to_document(parse(document())))


def as_served(declared: ScoringEndpoint) -> dict[str, Any]:
    """The document of an endpoint as `kubectl get -o json` prints it."""
    filled = to_document(declared)
    notes = {**filled["metadata"].get("annotations", {}), "kubectl.kubernetes.io/last-applied-configuration": "{}\n"}
    return {
        **filled,
        "metadata": {
            **filled["metadata"],
            "annotations": notes,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0,
            "deletionTimestamp": "2026-01-02T00:00:00Z",
            "finalizers": ["scorefront.io/drain"],
            "generation": 3,
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            "ownerReferences": [{"kind": "Deployment", "name": "x"}],
            "resourceVersion": "12",
            "selfLink": "/apis/x",
            "uid": "4f6f0c5e-0000-4000-8000-000000000000",
        },
        "status": {"ready": True},
    }


@given(valid_documents())
def test_what_an_api_server_adds_is_ignored(candidate: Any) -> None:
    declared = parse(candidate)
    again = parse(as_served(declared))
    assert to_endpoint(again) == to_endpoint(declared)
    expected, found = to_document(declared), to_document(again)
    if not expected["metadata"].get("annotations"):  # no notes, and an empty mapping of notes, are the same
        expected["metadata"].pop("annotations", None)
        found["metadata"].pop("annotations", None)
    assert found == expected


def test_a_field_of_metadata_that_no_server_adds_is_still_refused() -> None:
    candidate = as_served(parse(document()))
    candidate["metadata"]["generatedName"] = "x"
    assert set(faults_of(candidate)) == {"metadata.generatedName"}


@pytest.mark.parametrize(
    ("listing", "count"),
    [
        ({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [1, 2]}, 2),
        ({"apiVersion": "scorefront.io/v1alpha1", "kind": "ScoringEndpointList", "metadata": {}, "items": [1]}, 1),
        ({"value": [1], "skipped": [{"name": "wine", "message": "damaged"}]}, 1),
        (document(), None),
        ({"kind": "ScoringEndpoint", "value": [1]}, None),
        ("text", None),
        ({"kind": ["List"]}, None),
    ],
)
def test_lists_are_taken_apart(listing: Any, count: Any) -> None:
    items = items_of(listing)
    assert (items if items is None else len(items)) == count


@pytest.mark.parametrize(
    ("listing", "path"),
    [
        ({"apiVersion": "apps/v1", "kind": "List", "items": [1]}, "apiVersion"),
        ({"apiVersion": "v1", "kind": "List", "items": []}, "items"),
        ({"apiVersion": "v1", "kind": "List"}, "items"),
        ({"apiVersion": "v1", "kind": "List", "items": {"a": 1}}, "items"),
        ({"apiVersion": "v1", "kind": "List", "items": [1], "spec": {}}, "spec"),
        ({"value": []}, "value"),
        ({"value": [1], "items": [1]}, "items"),
    ],
)
def test_a_list_that_is_none_is_refused_with_its_field(listing: Any, path: Any) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        items_of(listing)
    assert [fault.path for fault in refusal.value.faults] == [path]


def test_judging_changes_nothing_in_the_document() -> None:
    candidate = yaml.safe_load(THE_WHOLE_FORMAT) | {"status": {}}
    before = copy.deepcopy(candidate)
    to_document(parse(candidate))["spec"]["versions"][0]["replica"]["env"]["GREETING"] = "changed"
    assert candidate == before


@given(valid_documents())
def test_a_document_with_its_defaults_filled_in_means_the_same(candidate: dict[str, Any]) -> None:
    declared = parse(candidate)
    filled = to_document(declared)
    assert to_endpoint(parse(filled)) == to_endpoint(declared)
    assert to_document(parse(filled)) == filled


@given(valid_documents())
def test_null_inside_a_pod_template_is_kept(candidate: dict[str, Any]) -> None:
    for given_version, filled in zip(
        candidate["spec"]["versions"], to_document(parse(candidate))["spec"]["versions"], strict=True
    ):
        assert given_version["replica"].get("podTemplate") == filled["replica"].get("podTemplate")


_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=6)
    | st.just(10**400)
    | st.binary(max_size=3)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.booleans() | st.none(), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def spoiled_documents(draw: st.DrawFn) -> Any:
    """A valid document with one part replaced by junk, removed or added."""
    spoiled = copy.deepcopy(draw(valid_documents()))
    for _ in range(draw(st.integers(1, 3))):
        spot: Any = spoiled
        while True:
            keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
            key = draw(st.sampled_from(keys)) if keys else None
            inside = key is not None and isinstance(spot[key], dict | list)
            if not inside or draw(st.integers(0, 3)) == 0:
                break
            spot = spot[key]
        if isinstance(spot, dict) and (key is None or draw(st.booleans())):
            spot[draw(st.text(st.characters(exclude_categories=()), max_size=12) | st.integers())] = draw(_junk)
        elif key is not None:
            spot[key] = draw(_junk)
    return spoiled


@settings(max_examples=200)
@given(_junk | spoiled_documents())
def test_any_document_is_accepted_whole_or_refused_with_printable_faults(candidate: Any) -> None:
    faults: tuple[Fault, ...] = ()
    try:
        to_endpoint(parse(to_document(parse(candidate))))
    except InvalidManifest as refusal:
        faults = refusal.faults
        assert_some(faults)
    for fault in faults:
        str(fault).encode()
        assert str(fault).isprintable()
        assert fault.path and fault.rule


def assert_some(faults: tuple[Fault, ...]) -> None:
    assert faults, "a refusal says why"


def test_a_number_too_long_to_print_is_refused() -> None:
    faults = faults_of(document(version(numReplicas=10**5000), version("green", trafficPercentile=10**5000)))
    assert set(faults) == {"spec.versions[0].numReplicas", "spec.versions[1].trafficPercentile"}


def test_an_endless_document_is_refused() -> None:
    endless: dict[str, Any] = document()
    endless["spec"]["versions"][0]["replica"] = {"podTemplate": endless}
    assert "nested at most 64 deep" in next(iter(faults_of(endless).values()))


def test_a_document_that_grows_by_its_aliases_is_refused() -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 9
    assert "at most 100000 values" in next(iter(faults_of(document(description=laughs)).values()))


def test_text_that_cannot_be_encoded_is_refused_wherever_it_stands() -> None:
    faults = faults_of(document(description="\ud800", kvTags={"\udfff": "x", "ok": "\ud800"}))
    assert set(faults) == {"spec.description", "spec.kvTags['\\udfff']", "spec.kvTags.ok"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, yaml.safe_load("2024-01-01"), b"x", {1: 2}])
def test_a_pod_template_holds_only_json(value: bytes | dict[int, int] | float | date) -> None:
    pod = {"spec": {"containers": [{"name": "model"}], "x": value}}
    (path,) = faults_of(document(version(replica={"podTemplate": pod})))
    assert path.startswith("spec.versions[0].replica.podTemplate.spec.x")


def test_possible_secrets_are_not_shown() -> None:
    wrong = document(version(replica={**version()["replica"], "env": {"A": "s3cret\0", "B-": 5}}), keys={"x": "s3cret"})
    wrong["spec"]["primaryKey"] = "s3cret"
    wrong["auth"] = {"tokens": ["s3cret"]}
    with pytest.raises(InvalidManifest) as refusal:
        parse(wrong)
    assert len(refusal.value.faults) == 5
    assert "s3cret" not in str(refusal.value)


# ---- paths

HOME = PurePosixPath("/home/ada/iris")


def resolved(**replica: Any) -> dict[str, Any]:
    return resolve_paths(document(version(replica=replica)), HOME)["spec"]["versions"][0]["replica"]


def test_paths_are_relative_to_the_folder_of_the_manifest() -> None:
    assert resolved(entryScript="score.py", modelDir="model") == {
        "entryScript": "/home/ada/iris/score.py",
        "sourceDirectory": "/home/ada/iris",
        "modelDir": "/home/ada/iris/model",
    }


def test_an_entry_script_is_relative_to_its_source_directory() -> None:
    assert resolved(entryScript="score.py", sourceDirectory="src") == {
        "entryScript": "/home/ada/iris/src/score.py",
        "sourceDirectory": "/home/ada/iris/src",
    }


def test_absolute_paths_stay_as_they_are() -> None:
    paths = {"entryScript": "/opt/score.py", "sourceDirectory": "/srv/src", "modelDir": "/srv/model"}
    assert resolved(**paths) == paths


def test_a_command_runs_in_the_folder_of_the_manifest() -> None:
    assert resolved(command=["python", "server.py"])["sourceDirectory"] == "/home/ada/iris"
    assert resolved(image="model:1") == {"image": "model:1"}


def test_resolving_twice_changes_nothing() -> None:
    once = resolve_paths(yaml.safe_load(THE_WHOLE_FORMAT), HOME)
    assert resolve_paths(once, PurePosixPath("/elsewhere")) == once


@given(_junk | spoiled_documents())
def test_resolving_never_fails_and_leaves_the_document_alone(candidate: Any) -> None:
    before = copy.deepcopy(candidate)
    resolve_paths(candidate, HOME)
    assert repr_of(candidate) == repr_of(before)


def repr_of(value: Any) -> Any:
    """Comparable even with NaN inside and ints too long to print."""
    if isinstance(value, dict):
        return [(repr_of(key), repr_of(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [repr_of(item) for item in value]
    return repr(value) if isinstance(value, float) else value


def test_the_defaults_of_the_records_are_those_of_the_format() -> None:
    """One truth: the defaults of `serving.endpoint` are those of an empty manifest."""
    (only,) = to_endpoint(parse(document())).versions
    for record in (only.autoscale, only.resources, only.liveness):
        assert record == type(record)()
    for field in dataclasses.fields(only):
        if field.default is not dataclasses.MISSING:
            assert getattr(only, field.name) == field.default, field.name
