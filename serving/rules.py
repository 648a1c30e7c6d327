"""Rules between fields, checked on the document itself, so that all faults are found at once.

A rule reads the document through `Node`s. If a value it needs is itself broken, the rule is skipped: that value has a
fault already.
"""

import math
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from serving.access_rules import lone_wildcards, one_auth, one_split_value, token_issuers
from serving.document_node import Node, Unjudgeable
from serving.endpoint import ReplicaKind
from serving.faults import Fault, Path, written
from serving.models import MAX_REPLICAS, MAX_VERSIONS, SCALER_DEFAULTS, DeclaredResources
from serving.reserved_variables import reserved_rule
from serving.validation_messages import HIDDEN

KINDS = tuple(kind.value for kind in ReplicaKind)

# Fields without effect for a kind are refused, not ignored.
COMPANIONS: dict[str, frozenset[str]] = {
    "sourceDirectory": frozenset({"entryScript", "command"}),
    "modelDir": frozenset({"entryScript", "command"}),
    "environment": frozenset({"entryScript"}),
    "env": frozenset({"entryScript", "command", "image"}),
    "secretEnv": frozenset({"image", "podTemplate"}),
    "hostHeader": frozenset({"static"}),
    "imagePullSecrets": frozenset({"image"}),
    "nodeSelector": frozenset({"image"}),
    "tolerations": frozenset({"image"}),
    "runAsNonRoot": frozenset({"image"}),
    "port": frozenset(KINDS) - {"static"},
}
"""Field of `replica` -> the kinds that allow it; all kinds allow the other fields."""
MAPPINGS = ("env", "secretEnv")
"""Fields of `replica` that count as absent when empty."""

RESERVED_KEYS = (
    r"^([-a-z0-9.]+[.])?scorefront[.]io/|^app[.]kubernetes[.]io/(name|part-of|component|managed-by|instance)$"
)
"""Reserved keys of labels and annotations of a pod template; compared without case."""
RESERVED_RULE = (
    "is reserved: labels and annotations of a pod template may not begin with scorefront.io/ or a subdomain of it, nor"
    " be app.kubernetes.io/name, part-of, component, managed-by or instance"
)
MAX_NOTES = 100
"""Most labels of a pod template, and most annotations."""
OWN_SECRETS = "scorefront-"
OWN_SECRETS_RULE = f"must not begin with {OWN_SECRETS}: Secrets of that name belong to scorefront"
NAMED_TWICE = "must not name a variable that env sets"
ONE_KIND_RULE = f"must have exactly one of {', '.join(KINDS)}"
ONE_MACHINE_ONLY = frozenset({"entryScript", "command"})
"""Kinds that a cluster cannot run."""
NEEDS_IMAGE = "runs on one machine only; in a cluster use image, podTemplate, workloadRef or static"
OWN_SETTINGS = "must be left out: an adopted workload has its own"
NO_REFERENCE = (
    "takes ${{{name}}} from the environment of `scorefront up`, on one machine only; in a cluster write the value, or"
    " use secretEnv ($${{{name}}}: the text itself)"
)
TRAFFIC_RULE = "the trafficPercentile values of all versions must add up to at most 100"
TOLERATED_VALUE = "must be left out with operator Exists, which tolerates every value"
TOLERATED_KEY = "is required with operator Equal; operator Exists without key tolerates every taint"
TOLERATED_TIME = "goes only with effect NoExecute"
OWN_WORKLOAD_RULE = "must not be a Deployment of scorefront itself"
NO_NUMBER_RULE = "must be left out while autoScaler.autoscaleEnabled is true"
NUMBER_RULE = f"is required while autoScaler.autoscaleEnabled is false: a whole number from 1 to {MAX_REPLICAS}"

RESERVED_VERSIONS: dict[str, tuple[str, ...]] = {"scorefront": ("router", "control")}
"""Endpoint -> names of versions whose workload would have the name of one of scorefront's own Deployments."""
RESERVED_WORKLOADS = tuple(f"{name}-{version}" for name, versions in RESERVED_VERSIONS.items() for version in versions)


Check = Callable[[Node], Iterator[Fault]]


def broken_rules(document: Any, broken: frozenset[Path]) -> Iterator[Fault]:
    """Every fault between fields. `broken`: the paths of fields that are themselves at fault."""
    if not isinstance(document, dict):
        return
    try:
        spec = Node(document, (), broken).node("spec")
        versions = spec.nodes("versions")
    except Unjudgeable:
        return
    of_document = (check(Node(document, (), broken)) for check in DOCUMENT_RULES)
    of_spec = (check(spec) for check in SPEC_RULES)
    of_versions = (check(version) for version in versions for check in VERSION_RULES)
    for faults in chain(of_document, of_spec, of_versions):
        try:
            yield from faults
        except Unjudgeable:
            continue


def _reserved_versions(document: Node) -> Iterator[Fault]:
    endpoint = document.node("metadata").get("name")
    reserved = RESERVED_VERSIONS.get(endpoint, ()) if isinstance(endpoint, str) else ()
    for version in document.node("spec").nodes("versions"):
        if (name := version.sound("name")) in reserved:
            rule = f"must not be {name} in the endpoint {endpoint}: {endpoint}-{name} is a Deployment of scorefront"
            yield version.fault("name", rule)


def _number_of_versions(spec: Node) -> Iterator[Fault]:
    count = len(spec.get("versions", []))
    if spec.has("versions") and not 1 <= count <= MAX_VERSIONS:
        yield Fault("spec.versions", f"{count} versions", f"must be a list of 1 to {MAX_VERSIONS} versions")


def _unique_names(spec: Node) -> Iterator[Fault]:
    seen: set[str] = set()
    for version in spec.nodes("versions"):
        name = version.sound("name")
        if name in seen:
            yield version.fault("name", "must be unique in the endpoint; another version has this name")
        elif name is not None:
            seen.add(name)


def _unique_workloads(spec: Node) -> Iterator[Fault]:
    """A workload has one number of replicas, so only one version may set it."""
    seen: dict[tuple[str, str], str] = {}
    for version in spec.nodes("versions"):
        reference = version.node("replica").node("workloadRef")
        kind, name = reference.sound("kind"), reference.sound("name")
        if not isinstance(kind, str) or not isinstance(name, str):
            continue
        if (other := seen.setdefault((kind, name), written(version.path))) != written(version.path):
            yield reference.fault("name", f"must be unique in the endpoint; {other} names this {kind}")


def _traffic_sum(spec: Node) -> Iterator[Fault]:
    total = math.fsum(version.sound("trafficPercentile", 0) for version in spec.nodes("versions"))
    # 33.3 + 33.3 + 33.4 may come out a hair above 100 in binary.
    if total > 100 + 1e-9:
        yield Fault("spec.versions", round(total, 9), TRAFFIC_RULE)


def _one_default(spec: Node) -> Iterator[Fault]:
    claimed = [version for version in spec.nodes("versions") if version.sound("isDefault") is True]
    for version in claimed[1:]:
        yield version.fault("isDefault", f"at most one version may be the default; {written(claimed[0].path)} is")


def _one_control(spec: Node) -> Iterator[Fault]:
    controls = [version for version in spec.nodes("versions") if version.sound("type") == "Control"]
    for version in controls[1:]:
        yield version.fault("type", f"at most one version may be the Control; {written(controls[0].path)} is")


def _kinds(version: Node) -> list[str]:
    replica = version.node("replica")
    return [kind for kind in KINDS if replica.has(kind)]


def _one_kind(version: Node) -> Iterator[Fault]:
    kinds = _kinds(version)
    if version.has("replica") and len(kinds) != 1:
        yield version.node("replica").at(", ".join(kinds) or None, ONE_KIND_RULE)


def _companions(version: Node) -> Iterator[Fault]:
    """Fields that go with some kinds only; checked if there is exactly one kind."""
    replica, kinds = version.node("replica"), _kinds(version)
    if len(kinds) != 1:
        return
    for field, partners in COMPANIONS.items():
        if kinds[0] not in partners and replica.has(field) and replica.get(field) != {}:
            names = ", ".join(kind for kind in KINDS if kind in partners)
            given = replica.fields[field]
            shown = f"{len(given)} variables" if field in MAPPINGS else given
            yield Fault(written((*replica.path, field)), shown, f"goes only with {names}, not with {kinds[0]}")


def _reserved_variables(version: Node) -> Iterator[Fault]:
    replica, kinds = version.node("replica"), _kinds(version)
    env = replica.sound("env", {})
    for name in env if isinstance(env, dict) and len(kinds) == 1 else ():
        if (rule := reserved_rule(name, kinds[0])) is not None:
            yield Fault(written((*replica.path, "env", name)), HIDDEN, rule)


def _program(version: Node) -> Iterator[Fault]:
    replica = version.node("replica")
    if replica.has("command") and replica.get("command")[0] == "":
        yield Fault(written((*replica.path, "command", 0)), "", "must be the program to run, not empty")


def _unique_addresses(version: Node) -> Iterator[Fault]:
    replica = version.node("replica")
    addresses = replica.get("static", [])
    if not isinstance(addresses, list):
        return
    seen: set[str] = set()
    for index, address in enumerate(addresses):
        if not isinstance(address, str):
            continue
        if address.lower() in seen:
            at = (*replica.path, "static", index)
            yield Fault(written(at), address, "must be unique in the list; it is there already")
        seen.add(address.lower())


def _pod_template(version: Node) -> Iterator[Fault]:
    replica = version.node("replica")
    if not replica.has("podTemplate"):
        return
    template = replica.node("podTemplate")
    inner = template.fields.get("spec")
    containers = inner.get("containers") if isinstance(inner, dict) else None
    if not isinstance(containers, list) or not containers or not all(isinstance(one, dict) for one in containers):
        at = written((*template.path, "spec", "containers"))
        yield Fault(at, None, "is required: a list of at least one container, each a mapping")


def _template_notes(version: Node) -> Iterator[Fault]:
    """Labels and annotations of a pod template; some identify the pods of the installation."""
    replica = version.node("replica")
    if not replica.has("podTemplate"):
        return
    template = replica.node("podTemplate")
    if not template.has("metadata"):
        return
    if not isinstance(template.get("metadata"), dict):
        yield template.fault("metadata", "must be a mapping: metadata of pods")
        return
    metadata = template.node("metadata")
    for field in ("labels", "annotations"):
        yield from _notes(metadata, field)


def _notes(metadata: Node, field: str) -> Iterator[Fault]:
    if not metadata.has(field):
        return
    notes = metadata.get(field)
    if not isinstance(notes, dict) or len(notes) > MAX_NOTES:
        yield metadata.fault(field, f"must be a mapping of text to text with at most {MAX_NOTES} entries")
        return
    for key, value in notes.items():
        at = written((*metadata.path, field, key))
        if re.search(RESERVED_KEYS, key, re.IGNORECASE):
            yield Fault(at, value, RESERVED_RULE)
        elif not isinstance(value, str):
            yield Fault(at, value, 'must be text; put quotes around numbers: "1"')


def _literal_names(replica: Node) -> set[str]:
    """Variables set by `env` and by the containers of a pod template."""
    env = replica.sound("env", {})
    found = set(env) if isinstance(env, dict) else set()
    match replica.sound("podTemplate", {}):
        case {"spec": {"containers": [*containers]}}:
            listed = [one.get("env") for one in containers if isinstance(one, dict)]
            pairs = [pair for each in listed if isinstance(each, list) for pair in each if isinstance(pair, dict)]
            found |= {pair["name"] for pair in pairs if isinstance(pair.get("name"), str)}
    return found


def _secret_variables(version: Node) -> Iterator[Fault]:
    replica = version.node("replica")
    literal = _literal_names(replica)
    for name, entry in replica.get("secretEnv", {}).items() if isinstance(replica.get("secretEnv", {}), dict) else ():
        at = (*replica.path, "secretEnv", name)
        if name in literal:
            yield Fault(written(at), name, NAMED_TWICE)
        secret = entry.get("secret") if isinstance(entry, dict) else None
        if isinstance(secret, str) and secret.startswith(OWN_SECRETS):
            yield Fault(written((*at, "secret")), secret, OWN_SECRETS_RULE)


def _pull_secrets(version: Node) -> Iterator[Fault]:
    for secret in version.node("replica").nodes("imagePullSecrets"):
        if isinstance(name := secret.sound("name"), str) and name.startswith(OWN_SECRETS):
            yield secret.fault("name", OWN_SECRETS_RULE)


def _tolerations(version: Node) -> Iterator[Fault]:
    for toleration in version.node("replica").nodes("tolerations"):
        operator = toleration.sound("operator", "Equal")
        if operator == "Exists" and toleration.has("value"):
            yield toleration.fault("value", TOLERATED_VALUE)
        if operator == "Equal" and not toleration.has("key"):
            yield toleration.fault("key", TOLERATED_KEY)
        if toleration.has("tolerationSeconds") and toleration.sound("effect") != "NoExecute":
            yield toleration.fault("tolerationSeconds", TOLERATED_TIME)


def _foreign_workload(version: Node) -> Iterator[Fault]:
    reference = version.node("replica").node("workloadRef")
    if reference.get("name") in RESERVED_WORKLOADS:
        yield reference.fault("name", OWN_WORKLOAD_RULE)


def _never_scaled(version: Node) -> Iterator[Fault]:
    if _kinds(version) != ["static"]:
        return
    rule = "must be left out: static replicas run elsewhere and are never scaled; there are as many as addresses"
    if version.has("numReplicas"):
        yield version.fault("numReplicas", rule)
    scaler = version.node("autoScaler")
    yield from (scaler.fault(field, rule) for field in scaler.fields if scaler.has(field))


def _fixed_or_scaled(version: Node) -> Iterator[Fault]:
    """A fixed number and autoscaling exclude each other, as in the v1 SDK."""
    if "static" in _kinds(version):
        return
    scaler, fixed = version.node("autoScaler"), version.has("numReplicas")
    enabled = scaler.get("autoscaleEnabled")
    if fixed and enabled is True:
        yield version.fault("numReplicas", NO_NUMBER_RULE)
    if not fixed and enabled is False:
        yield version.fault("numReplicas", NUMBER_RULE)
    if enabled is False or (fixed and enabled is None):
        rule = "must be left out while autoscaling is off (numReplicas is given, or autoscaleEnabled is false)"
        yield from (scaler.fault(field, rule) for field in SCALER_DEFAULTS if scaler.has(field))


def _least_below_most(version: Node) -> Iterator[Fault]:
    scaler = version.node("autoScaler")
    least, most = (scaler.get(name, SCALER_DEFAULTS[name]) for name in ("minReplicas", "maxReplicas"))
    if least > most:
        given = "" if scaler.has("maxReplicas") else ", the default"
        yield scaler.fault("minReplicas", f"must be at most maxReplicas ({most}{given})")


def _request_below_limit(version: Node) -> Iterator[Fault]:
    resources = version.node("containerResourceRequirements")
    for request, limit in (("cpu", "cpuLimit"), ("memoryInGB", "memoryInGBLimit")):
        least = resources.sound(request, DeclaredResources.model_fields[request].default)
        most = resources.sound(limit)
        if most is not None and (*resources.path, request) not in resources.broken and most < least:
            given = "" if resources.has(request) else ", the default"
            yield resources.fault(limit, f"must be at least {request} ({least}{given})")


DOCUMENT_RULES: tuple[Check, ...] = (_reserved_versions,)
SPEC_RULES: tuple[Check, ...] = (
    _number_of_versions,
    _unique_names,
    _unique_workloads,
    _traffic_sum,
    _one_default,
    _one_control,
    one_auth,
    lone_wildcards,
    one_split_value,
    token_issuers,
)
VERSION_RULES: tuple[Check, ...] = (
    _one_kind,
    _companions,
    _reserved_variables,
    _program,
    _unique_addresses,
    _pod_template,
    _template_notes,
    _secret_variables,
    _pull_secrets,
    _tolerations,
    _foreign_workload,
    _never_scaled,
    _fixed_or_scaled,
    _least_below_most,
    _request_below_limit,
)
