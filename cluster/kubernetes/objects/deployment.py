"""The Deployment that runs a version: an apply configuration with the fields that scorefront owns, and no other.

The number of replicas is not among them: it is set through the scale subresource. Applied once and left out the next
time, it would fall back to its default, 1.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.objects.confinement import PodTemplates, refused
from cluster.kubernetes.objects.labels import (
    FENCE,
    MANAGED_BY,
    MANAGER,
    OwnerRef,
    labels_of,
    owner_references,
    workload_name,
)
from serving.endpoint import Endpoint, ReplicaKind, ReplicaSource, Resources, Version, VersionKey, WorkloadRef
from serving.faults import Fault, written

CONTAINER = "model"
PORT_NAME = "scoring"
GPU = "nvidia.com/gpu"

PRE_STOP_S = 5
"""A pod that is to go serves on for so long, until every router has heard of it: watches tell within one second."""
GRACE_MARGIN_S = 5
READY_PERIOD_S = 1
LEAST_READY_FAILURES = 3
PROGRESS_DEADLINE_S = 600

MADE = frozenset({ReplicaKind.IMAGE, ReplicaKind.POD_TEMPLATE})
"""The kinds of replica for which a Deployment is made."""
ELSEWHERE = {
    ReplicaKind.ENTRY_SCRIPT: "entry_script",
    ReplicaKind.COMMAND: "command",
}
NEEDS_IMAGE = "runs on one machine only; in a cluster use image, podTemplate, workloadRef or static"


def faults_of(endpoint: Endpoint, pod_templates: PodTemplates = PodTemplates.RESTRICTED) -> list[Fault]:
    """What of this endpoint cannot run in a cluster, or may not in one that takes such pod templates."""
    faults = []
    for index, version in enumerate(endpoint.versions):
        source, kind = version.replica, version.replica.kind
        at = ("spec", "versions", index, "replica", kind.value)
        if kind in ELSEWHERE:
            faults.append(Fault(written(at), getattr(source, ELSEWHERE[kind]), NEEDS_IMAGE))
        if source.pod_template is not None:
            faults += refused(source.pod_template, at, pod_templates)
    return faults


def workload_of(endpoint: str, version: Version) -> WorkloadRef | None:
    """The workload whose scale is this version's number of replicas: made or adopted; None where there is none."""
    if version.replica.kind in MADE:
        return WorkloadRef("Deployment", workload_name(VersionKey(endpoint, version.name)))
    return version.replica.workload_ref


def deployment(
    endpoint: str, namespace: str, version: Version, owner: OwnerRef, replicas: None = None, fence: int | None = None
) -> dict[str, Any]:
    """The apply configuration of the Deployment of a version whose kind is in MADE."""
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
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": _progress_deadline_s(version),
        "template": pod_template(key, version),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def pod_template(key: VersionKey, version: Version) -> dict[str, Any]:
    """The pods of a version: from its image, or the user's own template with what routing needs added."""
    if version.replica.kind is ReplicaKind.IMAGE:
        return _from_image(key, version)
    return _from_template(key, version)


def _from_image(key: VersionKey, version: Version) -> dict[str, Any]:
    source = version.replica
    container = {
        "name": CONTAINER,
        "image": source.image,
        "env": [*({"name": name, "value": value} for name, value in source.env.items()), *_secret_variables(source)],
        "ports": [_port(version)],
        "resources": resources_of(version.resources),
        **_probes(version),
        "lifecycle": _lifecycle(),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels_of(key)},
    }
    # What the Pod Security Standard "restricted" asks for, together with the container's own securityContext.
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": grace_s(version),
        "topologySpreadConstraints": [spread],
        "containers": [container],
    }
    return {"metadata": {"labels": {**labels_of(key), MANAGED_BY: MANAGER}}, "spec": spec}


def _from_template(key: VersionKey, version: Version) -> dict[str, Any]:
    """The user's template as it is; added are our labels, and only where nothing is said, what routing needs."""
    template: dict[str, Any] = copy.deepcopy(dict(version.replica.pod_template or {}))
    metadata = template.setdefault("metadata", None) or {}
    template["metadata"] = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels_of(key)}}
    spec = template["spec"]
    _fill(spec, {"terminationGracePeriodSeconds": grace_s(version), "automountServiceAccountToken": False})
    container = _scoring_container(spec["containers"], version.replica.port)
    resources = resources_of(version.resources)
    _fill(container, {"ports": [_port(version)], "resources": resources, **_probes(version)})
    if version.replica.secret_env:
        container["env"] = [*(container.get("env") or ()), *_secret_variables(version.replica)]
    lifecycle = container.get("lifecycle") or {}
    container["lifecycle"] = {**_lifecycle(), **lifecycle}
    return template


def _secret_variables(source: ReplicaSource) -> Iterator[dict[str, Any]]:
    for name, entry in source.secret_env.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": entry.secret, "key": entry.key}}}


def _scoring_container(containers: list[dict[str, Any]], port: int) -> dict[str, Any]:
    """The container that serves: the one that names the port, else the first."""
    for container in containers:
        if any(opened.get("containerPort") == port for opened in container.get("ports") or ()):
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
        **ask,
        "initialDelaySeconds": math.ceil(liveness.initial_delay_s),
        "periodSeconds": max(1, math.ceil(liveness.period_s)),
        "timeoutSeconds": timeout_s,
        # The API allows no other number here; how often it must succeed is asked before it is Ready.
        "successThreshold": 1,
        "failureThreshold": liveness.failure_threshold,
    }
    return {"readinessProbe": readiness, "livenessProbe": alive}


def _ready_failures(version: Version, timeout_s: int) -> int:
    """A replica with one slot cannot answer while it scores: it may be silent for as long as a request may take.

    One that has gone is seen at once all the same: its container ends, and routers meet a closed port.
    """
    return max(LEAST_READY_FAILURES, math.ceil(version.scoring_timeout_s / max(READY_PERIOD_S, timeout_s)) + 1)


def _lifecycle() -> dict[str, Any]:
    # `sleep` needs no program in the image (Kubernetes 1.30).
    return {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}


def grace_s(version: Version) -> int:
    """Seconds from a pod's deletion to its SIGKILL: what it has may end, up to the scoring timeout."""
    return PRE_STOP_S + math.ceil(version.scoring_timeout_s) + GRACE_MARGIN_S


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
    """As the API writes it itself, so that what is applied again equals what is stored: `2`, `100m`."""
    # A millicore is the least there is. Rounded first: 0.29 * 1000 is a hair more than 290 in binary fractions.
    millicores = max(1, math.ceil(round(cores * 1000, 6)))
    whole, rest = divmod(millicores, 1000)
    return f"{millicores}m" if rest else str(whole)
