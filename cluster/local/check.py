"""Check of a declared endpoint against this machine: unsupported kinds, missing files. Read-only."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator

from cluster.local.command import PYTHONS, VISIBLE_GPUS, Host, directory, search_path
from cluster.local.inherited_environment import unexpandable
from cluster.local.replica_environments import ReplicaEnvironments
from serving.endpoint import Endpoint, ReplicaKind, ReplicaSource, Resources, Version
from serving.faults import Fault
from serving.validation_messages import HIDDEN

ELSEWHERE = frozenset({ReplicaKind.IMAGE, ReplicaKind.POD_TEMPLATE, ReplicaKind.WORKLOAD_REF})
INFERENCE_SERVER = "azureml_inference_server_http"
DEFAULT_PORT = ReplicaSource(ReplicaKind.COMMAND).port
NEEDS_CLUSTER = "needs a cluster; on one machine use entryScript, command or static"


def check(endpoint: Endpoint, host: Host, environments: ReplicaEnvironments) -> list[Fault]:
    """Every fault of every version. Resources that this machine lacks are none: its replicas wait for room.

    endpoint: as declared. host: facts of the machine. environments: of entry scripts.
    """
    return [
        Fault(f"spec.versions[{index}].replica.{name}", value, rule)
        for index, version in enumerate(endpoint.versions)
        for name, value, rule in _faults(version, host, environments)
    ]


def notes(endpoint: Endpoint) -> list[str]:
    """One line for each version with declared fields that have no effect on one machine."""
    found = []
    for version in endpoint.versions:
        if fields := list(_without_effect(version)):
            plural = "has" if len(fields) == 1 else "have"
            found.append(f"version {version.name}: {', '.join(fields)} {plural} no effect on one machine")
    return found


def _without_effect(version: Version) -> Iterator[str]:
    resources, default = version.resources, Resources()
    is_static = version.replica.kind is ReplicaKind.STATIC
    fields = {
        "cpu": resources.cpu != default.cpu,
        "cpuLimit": is_static and resources.cpu_limit is not None,
        "memoryInGB": is_static and resources.memory_bytes != default.memory_bytes,
        "memoryInGBLimit": is_static and resources.memory_limit_bytes is not None,
        "gpu": is_static and resources.gpu > 0,
    }
    yield from (f"containerResourceRequirements.{name}" for name, declared in fields.items() if declared)
    if not is_static and version.replica.port != DEFAULT_PORT:
        yield "replica.port"


def _faults(version: Version, host: Host, environments: ReplicaEnvironments) -> Iterator[tuple[str, object, str]]:
    source = version.replica
    if source.kind in ELSEWHERE:
        value = {
            ReplicaKind.IMAGE: source.image,
            ReplicaKind.POD_TEMPLATE: source.pod_template,
            ReplicaKind.WORKLOAD_REF: source.workload_ref,
        }[source.kind]
        yield source.kind.value, value, NEEDS_CLUSTER
        return
    if source.entry_script is not None and not os.path.isfile(source.entry_script):
        yield "entryScript", source.entry_script, "must be a file that exists"
    elif source.environment is not None:
        if rule := environments.fault(source.environment):
            yield "environment", source.environment, rule
    elif source.entry_script is not None and not _has_inference_server(host):
        yield "entryScript", source.entry_script, "needs azureml-inference-server-http: pip install 'scorefront[serve]'"
    if source.source_directory is not None and not os.path.isdir(source.source_directory):
        yield "sourceDirectory", source.source_directory, "must be a directory that exists"
    if source.model_dir is not None and not os.path.isdir(source.model_dir):
        yield "modelDir", source.model_dir, "must be a directory that exists"
    for name, value in source.env.items():
        for rule in unexpandable(value, host.environ):
            yield f"env.{name}", HIDDEN, rule
    if version.resources.gpu and VISIBLE_GPUS in source.env:
        yield f"env.{VISIBLE_GPUS}", source.env[VISIBLE_GPUS], "must not be set beside gpu, which sets it"
    if source.kind is ReplicaKind.COMMAND and not _executable(version, host):
        yield "command[0]", source.command[0], "must be a program that can be executed"


def _has_inference_server(host: Host) -> bool:
    """True unless replicas run in this interpreter and it lacks the server that hosts entry scripts."""
    return host.python != sys.executable or importlib.util.find_spec(INFERENCE_SERVER) is not None


def _executable(version: Version, host: Host) -> bool:
    program = version.replica.command[0]
    if program in PYTHONS:
        return True
    if os.sep in program:
        path = os.path.join(directory(version) or os.curdir, program)
        return os.path.isfile(path) and os.access(path, os.X_OK)
    return shutil.which(program, path=version.replica.env.get("PATH", search_path(host))) is not None
