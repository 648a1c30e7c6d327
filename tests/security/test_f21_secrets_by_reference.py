"""F21: a replica's secrets are named, not written down, and routers keep nothing that only replicas need."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes import slim_objects as kept
from cluster.kubernetes.objects.deployment import pod_template
from cluster.kubernetes.objects.scoring_endpoint import endpoint_of
from cluster.kubernetes.snapshot import Snapshot, SnapshotFile
from serving.endpoint import SecretRef, VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_document, to_endpoint
from tests.unit.serving.documents import document, version

Object = dict[str, Any]
KEY = VersionKey("iris", "blue")
BY_NAME = {"DB_PASSWORD": {"secret": "database", "key": "password"}}
REFERENCE = {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}


def template(**container: Any) -> Object:
    return {"spec": {"containers": [{"name": "side"}, {"name": "m", "ports": [{"containerPort": 5001}], **container}]}}


def faults(**replica: Any) -> dict[str, str]:
    with pytest.raises(InvalidManifest) as refused:
        parse(document(version(replica=replica)))
    return {fault.path.removeprefix("spec.versions[0].replica."): str(fault) for fault in refused.value.faults}


def test_a_secret_is_rendered_as_a_reference_beside_the_literal_variables() -> None:
    declared = parse(document(version(replica={"image": "m:1", "env": {"A": "b"}, "secretEnv": BY_NAME})))
    [made] = to_endpoint(declared).versions
    assert made.replica.secret_env == {"DB_PASSWORD": SecretRef("database", "password")}
    [container] = pod_template(KEY, made)["spec"]["containers"]
    assert container["env"][:2] == [{"name": "A", "value": "b"}, REFERENCE]
    assert parse(to_document(declared)) == parse(to_document(parse(to_document(declared))))
    assert to_document(declared)["spec"]["versions"][0]["replica"]["secretEnv"] == BY_NAME


@pytest.mark.parametrize("own", [{}, {"env": None}, {"env": [{"name": "A", "value": "b"}]}])
def test_in_a_pod_template_it_goes_to_the_container_that_serves(own: Object) -> None:
    [made] = to_endpoint(
        parse(document(version(replica={"podTemplate": template(**own), "secretEnv": BY_NAME})))
    ).versions
    side, serving = pod_template(KEY, made)["spec"]["containers"]
    assert "env" not in side
    assert serving["env"][:-1] == [*(own.get("env") or ()), REFERENCE]


@pytest.mark.parametrize(
    "replica",
    [
        {"entryScript": "score.py"},
        {"command": ["python", "x.py"]},
        {"static": ["10.0.0.1:80"]},
        {"workloadRef": {"kind": "Deployment", "name": "own"}},
    ],
)
def test_it_goes_with_pods_that_are_made_only(replica: Object) -> None:
    [(path, told)] = faults(**replica, secretEnv=BY_NAME).items()
    assert path == "secretEnv"
    assert "goes only with image, podTemplate" in told


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"secret": "database"}, "secretEnv.PW.key"),
        ({"key": "password"}, "secretEnv.PW.secret"),
        ({"secret": "Data Base", "key": "k"}, "secretEnv.PW.secret"),
        ({"secret": "database", "key": "pass/word"}, "secretEnv.PW.key"),
        ({"secret": "database", "key": "k", "optional": True}, "secretEnv.PW.optional"),
        ({"secret": "scorefront-peers-ca", "key": "tls.key"}, "secretEnv.PW.secret"),
        ({"secret": "scorefront-control-token", "key": "token"}, "secretEnv.PW.secret"),
    ],
)
def test_a_wrong_reference_is_refused_with_its_place(entry: Object, path: str) -> None:
    assert set(faults(image="m:1", secretEnv={"PW": entry})) == {path}


def test_a_password_that_is_written_instead_of_named_is_refused_and_not_repeated() -> None:
    for wrong in ({"PW": "hunter2"}, "hunter2", ["hunter2"]):
        [told] = faults(image="m:1", secretEnv=wrong).values()
        assert "secretEnv" in told
        assert "hunter2" not in told


def test_one_variable_has_one_value() -> None:
    assert set(faults(image="m:1", env={"DB_PASSWORD": "x"}, secretEnv=BY_NAME)) == {"secretEnv.DB_PASSWORD"}
    twice = template(env=[{"name": "DB_PASSWORD", "value": "x"}])
    assert set(faults(podTemplate=twice, secretEnv=BY_NAME)) == {"secretEnv.DB_PASSWORD"}


# ---- kept by routers

SECRET = "hunter2"


def custom_resource(replica: Object, spec: Object | None = None) -> Object:
    manifest = document(version(replica=replica, **(spec or {})))
    return {**manifest, "metadata": {"name": "iris", "namespace": "home", "uid": "u", "generation": 1}}


REPLICAS: dict[str, Object] = {
    "env": {"image": "m:1", "env": {"PW": SECRET, "OTHER": SECRET}},
    "secretEnv": {"image": "m:1", "secretEnv": {"PW": {"secret": SECRET, "key": SECRET}}},
    "template": {
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}},
            "spec": {
                "containers": [
                    {"name": "m", "env": [{"name": "PW", "value": SECRET}], "args": [SECRET]},
                    {"name": "n"},
                ],
                "initContainers": [{"command": [SECRET]}],
                "volumes": [{"name": "v", "secret": {"secretName": SECRET}}],
            },
        }
    },
}


@pytest.mark.parametrize("kind", REPLICAS)
def test_a_router_keeps_no_secret_in_memory_nor_on_disk(kind: str, tmp_path: Path) -> None:
    known = kept.endpoint_for_routers(custom_resource(REPLICAS[kind]))
    assert SECRET not in json.dumps(known)
    file = SnapshotFile(tmp_path / "snapshot.json")
    file.write(Snapshot("router-1", "u", {"": [known]}, {}, []))
    assert SECRET not in (tmp_path / "snapshot.json").read_text()


@pytest.mark.parametrize("kind", REPLICAS)
def test_a_stored_object_keeps_its_routing(kind: str) -> None:
    full = custom_resource({**REPLICAS[kind], "port": 8000, "scorePath": "/x", "healthPath": "/y"})
    [before], [after] = endpoint_of(full).versions, endpoint_of(kept.endpoint_for_routers(full)).versions
    assert (after.replica.kind, after.replica.port) == (before.replica.kind, before.replica.port)
    assert (after.replica.score_path, after.replica.health_path) == ("/x", "/y")
    assert after.share == before.share


def test_the_object_itself_is_not_written_to() -> None:
    full = custom_resource(REPLICAS["template"])
    before = json.dumps(full)
    kept.endpoint_for_routers(full)
    assert json.dumps(full) == before


@pytest.mark.parametrize(
    "replica",
    [
        {"podTemplate": {"metadata": {"labels": {"scorefront.io/component": "router"}}, **template()}},
        {"podTemplate": {"spec": {"containers": []}}},
        {"podTemplate": {"spec": {"containers": ["x"]}}},
        {"podTemplate": {"spec": {}}},
        {"podTemplate": "x"},
        {"image": "m:1", "env": {"A": 1}},
        {"image": "m:1", "env": {"1 A": "x"}},
        {"image": "m:1", "env": "x"},
        {},
    ],
)
def test_an_invalid_stored_object_stays_invalid(replica: Object) -> None:
    for known in (custom_resource(replica), kept.endpoint_for_routers(custom_resource(replica))):
        with pytest.raises(InvalidManifest):
            endpoint_of(known)
