"""The rules between fields in CEL agree with those in Python, evaluated on the wrong manifests and on valid ones."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from hypothesis import given
from pydantic import ValidationError

from cluster.kubernetes.objects.confinement import PodTemplates
from cluster.kubernetes.objects.deployment import faults_of
from cluster.kubernetes.objects.validations import ADDRESS, CROSS_FIELD, HOST_HEADER, IN_A_CLUSTER, Place, Validation
from serving.document import to_document
from serving.manifest import parse, to_endpoint
from serving.models import ScoringEndpoint
from serving.rules import NEEDS_IMAGE, OWN_SETTINGS, broken_rules
from tests.unit.serving.documents import document as manifest
from tests.unit.serving.documents import valid_documents

DATA = Path(__file__).parents[4] / "data"
WRONG = yaml.safe_load((DATA / "wrong_manifests.yaml").read_text(encoding="utf-8"))
INDEX = re.compile(r"\[\d+\]")
IN_THE_SCHEMA = re.compile(
    r"spec\.versions: must be a list|spec\.versions\[\]\.name: must be unique"
    r"|spec\.versions\[\]\.replica\.podTemplate|spec\.versions\[\]\.replica\.static\[\]: must be unique"
)
"""Rules that the schema states itself: number and names of versions, pod templates, repeated addresses."""


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lowerAscii": str.lower,
    "sum": sum,
    "isIP": is_ip,
    "substring": lambda text, start, end=None: text[start:end],
    "indexOf": str.find,
    "lastIndexOf": str.rfind,
}


def without_null(value: Any) -> Any:
    """As the API server sees a nullable field: null is absent."""
    if isinstance(value, dict):
        return {name: without_null(item) for name, item in value.items() if item is not None}
    return [without_null(item) for item in value] if isinstance(value, list) else value


def at(value: Any, place: Place) -> Iterator[Any]:
    """The values of a document at a place of the schema."""
    if not place:
        yield value
    elif place[0] == "[]" and isinstance(value, list):
        for item in value:
            yield from at(item, place[1:])
    elif place[0] == "{}" and isinstance(value, dict):
        for item in value.values():
            yield from at(item, place[1:])
    elif isinstance(value, dict) and place[0] in value:
        yield from at(value[place[0]], place[1:])


def holds(rule: str, value: Any) -> bool:
    context = cel.Context(variables={"self": value})
    for name, function in FUNCTIONS.items():
        context.add_function(name, function)
    return bool(cel.evaluate(rule, context))


def refusals(document: Any, rules: Mapping[Place, tuple[Validation, ...]] = CROSS_FIELD) -> set[str]:
    """Paths of the rules in CEL that a document breaks, without indexes, cut before keys."""
    document = without_null(document)
    return {
        (".".join(place).replace(".[]", "[]").partition(".{}")[0] + validation.field).lstrip(".")
        for place, validations in rules.items()
        for value in at(document, place)
        for validation in validations
        if not holds(validation.rule, value)
    }


def between_fields(document: Any) -> set[str]:
    """`path: rule` of the rules between fields in Python that a document breaks, without indexes."""
    faults = broken_rules(document, frozenset())
    return {f"{INDEX.sub('[]', fault.path)}: {fault.rule}" for fault in faults}


def is_valid_by_field(document: Any) -> bool:
    """True if no single field is at fault: the API server evaluates CEL only then."""
    try:
        ScoringEndpoint.model_validate(document)
    except ValidationError:
        return False
    return True


def with_replica(**replica: Any) -> dict[str, Any]:
    return manifest({"name": "blue", "replica": replica})


def with_note(field: str) -> dict[str, Any]:
    template = {"metadata": {field: {"scorefront.io/x": "1"}}, "spec": {"containers": [{"name": "model"}]}}
    return with_replica(podTemplate=template)


TEMPLATE = {"spec": {"containers": [{"name": "model"}]}}
WORKLOAD = {"kind": "Deployment", "name": "m"}
SECRET = {"secret": "mine", "key": "k"}
BETWEEN_FIELDS = {case["name"]: case["manifest"] for case in WRONG if is_valid_by_field(case["manifest"])} | {
    "a model folder for an image": with_replica(image="m", modelDir="/m"),
    "a secret variable for a command": with_replica(command=["serve"], secretEnv={"TOKEN": SECRET}),
    "a port for static replicas": with_replica(static=["10.0.0.1:80"], port=8080),
    "a variable that is set twice": with_replica(image="m", env={"TOKEN": "x"}, secretEnv={"TOKEN": SECRET}),
    "a Secret of scorefront": with_replica(image="m", secretEnv={"TOKEN": {"secret": "scorefront-keys", "key": "k"}}),
    "a pull secret of scorefront": with_replica(image="m", imagePullSecrets=[{"name": "scorefront-keys"}]),
    "a pull secret for a template": with_replica(podTemplate=TEMPLATE, imagePullSecrets=[{"name": "registry"}]),
    "nodes for an adopted workload": with_replica(workloadRef=WORKLOAD, nodeSelector={"fast": "true"}),
    "tolerations for a command": with_replica(command=["serve"], tolerations=[{"operator": "Exists"}]),
    "a user for static replicas": with_replica(static=["10.0.0.1:80"], runAsNonRoot=False),
    "a value beside Exists": with_replica(image="m", tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
    "a toleration of nothing": with_replica(image="m", tolerations=[{"effect": "NoSchedule"}]),
    "a time without NoExecute": with_replica(image="m", tolerations=[{"key": "a", "tolerationSeconds": 5}]),
    "a reserved label": with_note("labels"),
    "a reserved annotation": with_note("annotations"),
}


@pytest.mark.parametrize("document", BETWEEN_FIELDS.values(), ids=BETWEEN_FIELDS)
def test_cel_refuses_at_or_above_the_field_that_python_names(document: dict[str, Any]) -> None:
    assert is_valid_by_field(document)
    told, refused = between_fields(document), refusals(document)
    for path in told:
        assert IN_THE_SCHEMA.match(path) or any(map(path.startswith, refused)), (path, refused)
    for place in refused:
        assert any(path.startswith(place) for path in told), (place, told)


def test_every_rule_in_cel_refuses_one_of_the_manifests() -> None:
    rules = {(place, each.rule) for place in CROSS_FIELD.keys() - {ADDRESS, HOST_HEADER} for each in CROSS_FIELD[place]}
    for document in map(without_null, BETWEEN_FIELDS.values()):
        rules -= {
            (place, rule) for place, rule in rules if not all(holds(rule, value) for value in at(document, place))
        }
    assert not rules


@given(document=valid_documents())
def test_cel_accepts_every_valid_document(document: dict[str, Any]) -> None:
    assert refusals(document) == refusals(to_document(parse(document))) == set()


@given(document=valid_documents())
def test_cel_refuses_kinds_and_settings_that_a_cluster_cannot_use(document: dict[str, Any]) -> None:
    faults = faults_of(to_endpoint(parse(document)), PodTemplates.ANY)
    unrun = [fault.path for fault in faults if fault.rule in (NEEDS_IMAGE, OWN_SETTINGS)]
    assert refusals(document, IN_A_CLUSTER) == {INDEX.sub("[]", path) for path in unrun}


OWN = {
    "cpu": ({"cpu": 1}, {}, {"containerResourceRequirements.cpu"}),
    "the defaults": ({"cpu": 0.1, "memoryInGB": 0.5, "gpu": 0, "cpuLimit": None}, {"periodSeconds": 10}, set()),
    "limits": (
        {"cpuLimit": 2, "memoryInGBLimit": 0.5},
        {},
        {"containerResourceRequirements.cpuLimit", "containerResourceRequirements.memoryInGBLimit"},
    ),
    "liveness": (
        {"gpu": 1},
        {"failureThreshold": 9},
        {"containerResourceRequirements.gpu", "livenessProbeRequirements"},
    ),
}


@pytest.mark.parametrize(("resources", "probe", "refused"), OWN.values(), ids=OWN)
def test_resources_and_liveness_beside_an_adopted_workload(
    resources: dict[str, Any], probe: dict[str, Any], refused: set[str]
) -> None:
    fields = {"containerResourceRequirements": resources, "livenessProbeRequirements": probe}
    adopted = manifest({"name": "blue", "replica": {"workloadRef": WORKLOAD}, **fields})
    assert refusals(adopted, IN_A_CLUSTER) == {f"spec.versions[].{path}" for path in refused}
    faults = faults_of(to_endpoint(parse(adopted)), PodTemplates.ANY)
    assert {INDEX.sub("[]", each.path) for each in faults} == refusals(adopted, IN_A_CLUSTER)
    assert refusals(manifest({"name": "blue", "replica": {"image": "m"}, **fields}), IN_A_CLUSTER) == set()


@given(document=valid_documents(in_a_cluster=True))
def test_a_cluster_runs_its_own_kinds(document: dict[str, Any]) -> None:
    assert refusals(document, IN_A_CLUSTER) == set()


@pytest.mark.parametrize(
    ("address", "valid"),
    [("10.0.0.1:80", True), ("[::1]:80", True), ("a-b.c:65535", True), ("1.2.3:80", False), ("a:0", False)],
)
def test_addresses_in_cel(address: str, valid: bool) -> None:
    assert all(holds(each.rule, address) for each in CROSS_FIELD[ADDRESS]) is valid


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        *(("10.0.0.1", True), ("10.0.0.1:80", True), ("[::1]", True), ("[::1]:80", True), ("a-b.c", True)),
        *(("model.internal:65535", True), ("1.2.3", False), ("a:0", False), ("a:65536", False), ("::1", False)),
        *(("[zz]", False), ("", False), ("http://a", False), ("a b", False), ("a:", False)),
    ],
)
def test_host_headers_in_cel_and_python(host: str, valid: bool) -> None:
    assert all(holds(each.rule, host) for each in CROSS_FIELD[HOST_HEADER]) is valid
    assert is_valid_by_field(with_replica(static=["127.0.0.1:80"], hostHeader=host)) is valid
