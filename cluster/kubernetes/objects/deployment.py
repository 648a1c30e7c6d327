"""The Deployment that runs a version: an apply configuration with the fields that scorefront owns, and no other.

The number of replicas is not among them: it is set through the scale subresource. Applied once and left out the next
time, it would fall back to its default, 1.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.objects.confinement import SETTING, PodTemplates, refused
from cluster.kubernetes.objects.labels import (
    FENCE,
    MANAGED_BY,
    MANAGER,
    OwnerRef,
    labels_of,
    owner_references,
    workload_name,
)
from serving.endpoint import (
    SERVER_TIMEOUT_VARIABLE,
    Endpoint,
    LivenessProbe,
    PodFields,
    ReplicaKind,
    ReplicaSource,
    Resources,
    Version,
    VersionKey,
    WorkloadRef,
)
from serving.faults import Fault, Path, written
from serving.rules import NEEDS_IMAGE, NO_REFERENCE, OWN_SETTINGS
from serving.validation_messages import HIDDEN
from serving.variable_references import expanded, referenced

CONTAINER = "model"
PORT_NAME = "scoring"
GPU = "nvidia.com/gpu"

PRE_STOP_S = 5
"""Seconds for which a deleted pod continues to serve, until every router knows: watches take less than one."""
GRACE_MARGIN_S = 5
READY_PERIOD_S = 1
LEAST_READY_FAILURES = 3
PROGRESS_DEADLINE_S = 600

MADE = frozenset({ReplicaKind.IMAGE, ReplicaKind.POD_TEMPLATE})
"""The kinds of replica that run in a Deployment made by scorefront."""
ELSEWHERE = {
    ReplicaKind.ENTRY_SCRIPT: "entry_script",
    ReplicaKind.COMMAND: "command",
}


RESOURCE_FIELDS = {
    "cpu": ("cpu", "requests", "cpu"),
    "cpuLimit": ("cpu_limit", "limits", "cpu"),
    "memoryInGB": ("memory_bytes", "requests", "memory"),
    "memoryInGBLimit": ("memory_limit_bytes", "limits", "memory"),
    "gpu": ("gpu", "limits", GPU),
}
"""Field of containerResourceRequirements -> field of the record, section and name in a container."""


def faults_of(endpoint: Endpoint, pod_templates: PodTemplates = PodTemplates.RESTRICTED) -> list[Fault]:
    """Faults of an endpoint that this cluster cannot run, or refuses with this limit for pod templates."""
    faults = []
    for index, version in enumerate(endpoint.versions):
        source, kind = version.replica, version.replica.kind
        at = ("spec", "versions", index, "replica", kind.value)
        if kind in ELSEWHERE:
            faults.append(Fault(written(at), getattr(source, ELSEWHERE[kind]), NEEDS_IMAGE))
        if source.pod_template is not None:
            faults += refused(source.pod_template, at, pod_templates)
        faults += _unused(version, at[:-2])
        if kind is ReplicaKind.IMAGE:
            faults += _faults_of_image(source, at[:-1], pod_templates)
    return faults


def _unused(version: Version, at: Path) -> Iterator[Fault]:
    """Resources and liveness that a pod template states itself, or that are the business of an adopted workload."""
    source = version.replica
    has_liveness = version.liveness != LivenessProbe()
    if source.kind is ReplicaKind.WORKLOAD_REF:
        given = {
            f"containerResourceRequirements.{field}": v for field, _, _, v in declared_resources(version.resources)
        }
        for field, value in (given | ({"livenessProbeRequirements": "a mapping"} if has_liveness else {})).items():
            yield Fault(written((*at, *field.split("."))), value, OWN_SETTINGS)
    if source.pod_template is None:
        return
    container = _scoring_container(source.pod_template["spec"]["containers"], source.port)
    own = container.get("resources") or {}
    for field, section, name, value in declared_resources(version.resources):
        entries = own.get(section) if isinstance(own, dict) else None
        if isinstance(entries, dict) and entries.get(name) not in (None, value):
            rule = f"must be left out, or equal: the podTemplate has resources.{section}.{name} {entries[name]}"
            yield Fault(written((*at, "containerResourceRequirements", field)), value, rule)
    if has_liveness and container.get("livenessProbe") is not None:
        yield Fault(
            written((*at, "livenessProbeRequirements")),
            "a mapping",
            "must be left out: the podTemplate has its own probe",
        )


def _faults_of_image(source: ReplicaSource, at: Path, pod_templates: PodTemplates) -> Iterator[Fault]:
    for variable, value in source.env.items():
        for name in referenced(value):
            yield Fault(written((*at, "env", variable)), HIDDEN, NO_REFERENCE.format(name=name))
    if not source.pod.run_as_non_root and pod_templates is PodTemplates.OFF:
        yield Fault(written((*at, "runAsNonRoot")), False, f"must be true or left out ({SETTING}=off)")


def workload_of(endpoint: str, version: Version) -> WorkloadRef | None:
    """The workload with the replicas of a version, made or adopted; None without one."""
    if version.replica.kind in MADE:
        return WorkloadRef("Deployment", workload_name(VersionKey(endpoint, version.name)))
    return version.replica.workload_ref


def deployment(
    endpoint: str,
    namespace: str,
    version: Version,
    owner: OwnerRef,
    fence: int | None = None,
    replaces: bool = False,
) -> dict[str, Any]:
    """The apply configuration of the Deployment of a version of a kind in MADE.

    `replaces`: a rollout stops a pod before the new one starts; default: new ones start first.
    """
    key = VersionKey(endpoint, version.name)
    metadata: dict[str, Any] = {
        "name": workload_name(key),
        "namespace": namespace,
        "labels": {**labels_of(key), MANAGED_BY: MANAGER},
        "ownerReferences": owner_references(owner),
    }
    if fence is not None:
        metadata["annotations"] = {FENCE: str(fence)}
    spec = {
        "selector": {"matchLabels": labels_of(key)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": int(replaces)}},
        "progressDeadlineSeconds": _progress_deadline_s(version),
        "template": pod_template(key, version),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def pod_template(key: VersionKey, version: Version) -> dict[str, Any]:
    """The pod template of a version: from its image, or the user's template plus the fields for routing."""
    if version.replica.kind is ReplicaKind.IMAGE:
        return _from_image(key, version)
    return _from_template(key, version)


def _from_image(key: VersionKey, version: Version) -> dict[str, Any]:
    source = version.replica
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": source.image,
        "env": _with_timeout(
            [
                *({"name": name, "value": expanded(value, {})} for name, value in source.env.items()),
                *_secret_variables(source),
            ],
            version,
        ),
        "ports": [_port(version)],
        "resources": resources_of(version.resources),
        **_probes(version),
        "lifecycle": _lifecycle(),
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if source.pod.run_as_non_root:
        # The requirements of the Pod Security Standard "restricted"; else those of "baseline", with the image's user.
        context["runAsNonRoot"] = True
        container["securityContext"]["capabilities"] = {"drop": ["ALL"]}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels_of(key)},
    }
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": context,
        "terminationGracePeriodSeconds": grace_s(version),
        "topologySpreadConstraints": [spread],
        "containers": [container],
        **_placement(source.pod),
    }
    return {"metadata": {"labels": {**labels_of(key), MANAGED_BY: MANAGER}}, "spec": spec}


def _placement(pod: PodFields) -> dict[str, Any]:
    fields = {
        "imagePullSecrets": [{"name": name} for name in pod.pull_secrets],
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [dict(each) for each in pod.tolerations],
    }
    return {name: value for name, value in fields.items() if value}


def _from_template(key: VersionKey, version: Version) -> dict[str, Any]:
    """The user's template with our labels and, as defaults only, the fields for routing."""
    template: dict[str, Any] = copy.deepcopy(dict(version.replica.pod_template or {}))
    metadata = template.setdefault("metadata", None) or {}
    template["metadata"] = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels_of(key)}}
    spec = template["spec"]
    _fill(spec, {"terminationGracePeriodSeconds": grace_s(version), "automountServiceAccountToken": False})
    container = _scoring_container(spec["containers"], version.replica.port)
    resources = _with_declared(container.get("resources"), version.resources)
    container["resources"] = resources
    _fill(container, {"ports": [_port(version)], **_probes(version)})
    container["env"] = _with_timeout([*(container.get("env") or ()), *_secret_variables(version.replica)], version)
    lifecycle = container.get("lifecycle") or {}
    container["lifecycle"] = {**_lifecycle(), **lifecycle}
    return template


def _with_declared(given: dict[str, Any] | None, resources: Resources) -> dict[str, Any]:
    """The resources of a template with those of the manifest that it lacks."""
    if not given:
        return resources_of(resources)
    merged = {section: dict(entries) if isinstance(entries, dict) else entries for section, entries in given.items()}
    for _, section, name, value in declared_resources(resources):
        merged[section] = {name: value, **(merged.get(section) or {})}
    return merged


def declared_resources(resources: Resources) -> Iterator[tuple[str, str, str, str]]:
    """(Field of the manifest, section, name, quantity) of the resources that differ from the defaults."""
    written_, default = resources_of(resources), Resources()
    for field, (attribute, section, name) in RESOURCE_FIELDS.items():
        if getattr(resources, attribute) != getattr(default, attribute):
            yield field, section, name, written_[section][name]


def _with_timeout(variables: list[dict[str, Any]], version: Version) -> list[dict[str, Any]]:
    """The variables, and the scoring timeout for an inference server unless it is among them."""
    if any(variable.get("name") == SERVER_TIMEOUT_VARIABLE for variable in variables):
        return variables
    return [*variables, {"name": SERVER_TIMEOUT_VARIABLE, "value": str(version.server_timeout_ms)}]


def _secret_variables(source: ReplicaSource) -> Iterator[dict[str, Any]]:
    for name, entry in source.secret_env.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": entry.secret, "key": entry.key}}}


def _scoring_container(containers: list[dict[str, Any]], port: int) -> dict[str, Any]:
    """The container that serves: the one that names the port, else the first."""
    for container in containers:
        opened = [each for each in container.get("ports") or () if isinstance(each, Mapping)]
        if any(each.get("containerPort") == port for each in opened):
            return container
    return containers[0]


def _fill(given: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        if given.get(name) is None:
            given[name] = value


def _port(version: Version) -> dict[str, Any]:
    return {"name": PORT_NAME, "containerPort": version.replica.port, "protocol": "TCP"}


def _probes(version: Version) -> dict[str, Any]:
    liveness = version.liveness
    ask = {"httpGet": {"path": version.replica.health_path, "port": version.replica.port, "scheme": "HTTP"}}
    timeout_s = max(1, math.ceil(liveness.timeout_s))
    readiness = {
        **ask,
        "periodSeconds": READY_PERIOD_S,
        "timeoutSeconds": timeout_s,
        "successThreshold": liveness.success_threshold,
        "failureThreshold": _ready_failures(version, timeout_s),
    }
    alive = {
        # A closed port. A health path that is silent, or answers 503, while the replica scores is no reason to kill it;
        # that of a hung one is seen by the control plane (`cluster.kubernetes.hung_pods`).
        "tcpSocket": {"port": version.replica.port},
        "initialDelaySeconds": math.ceil(liveness.initial_delay_s),
        "periodSeconds": max(1, math.ceil(liveness.period_s)),
        # The queue of connections of a small server may be full of probes until the request ends.
        "timeoutSeconds": max(timeout_s, math.ceil(version.longest_request_s) + 1),
        # The API allows no other number here; successThreshold of the manifest applies before Ready.
        "successThreshold": 1,
        "failureThreshold": liveness.failure_threshold,
    }
    return {"readinessProbe": readiness, "livenessProbe": alive}


def has_our_liveness(version: Version) -> bool:
    """True if its pods are made here and have no liveness probe of the user."""
    source = version.replica
    if source.pod_template is None:
        return source.kind in MADE
    return _scoring_container(source.pod_template["spec"]["containers"], source.port).get("livenessProbe") is None


def _ready_failures(version: Version, timeout_s: int) -> int:
    """A replica with one slot cannot answer while it scores: it may be silent for as long as a request may take.

    One that has gone is seen at once all the same: its container ends, and routers meet a closed port.
    """
    return max(LEAST_READY_FAILURES, math.ceil(version.longest_request_s / max(READY_PERIOD_S, timeout_s)) + 1)


def _lifecycle() -> dict[str, Any]:
    # `sleep` needs no program in the image (Kubernetes 1.30).
    return {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}


def grace_s(version: Version) -> int:
    """Seconds from deletion to SIGKILL: requests in flight may finish, up to the scoring timeout."""
    return PRE_STOP_S + math.ceil(version.longest_request_s) + GRACE_MARGIN_S


def _progress_deadline_s(version: Version) -> int:
    """After so long without one more Ready pod, a rollout counts as stuck: not before liveness would have given up."""
    liveness = version.liveness
    start_s = liveness.initial_delay_s + liveness.failure_threshold * liveness.period_s
    return max(PROGRESS_DEADLINE_S, math.ceil(2 * start_s))


def resources_of(resources: Resources) -> dict[str, Any]:
    """`resources` of a container. GPUs are limits alone: they cannot be shared, so the request follows."""
    requests = {"cpu": _cores(resources.cpu), "memory": str(resources.memory_bytes)}
    limits: dict[str, str] = {}
    if resources.cpu_limit is not None:
        limits["cpu"] = _cores(resources.cpu_limit)
    if resources.memory_limit_bytes is not None:
        limits["memory"] = str(resources.memory_limit_bytes)
    if resources.gpu:
        limits[GPU] = str(resources.gpu)
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _cores(cores: float) -> str:
    """The canonical form of the API server, so that a repeated apply changes nothing: `2`, `100m`."""
    # A millicore is the smallest unit. Rounded first: 0.29 * 1000 is slightly more than 290 in binary fractions.
    millicores = max(1, math.ceil(round(cores * 1000, 6)))
    whole, rest = divmod(millicores, 1000)
    return f"{millicores}m" if rest else str(whole)
