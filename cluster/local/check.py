"""Check of a declared endpoint against this machine: unsupported kinds, missing files. Read-only."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator

from cluster.local.command import PYTHONS, Host, directory, search_path
from cluster.local.inherited_environment import unexpandable
from serving.endpoint import Endpoint, ReplicaKind, Version
from serving.faults import Fault
from serving.validation_messages import HIDDEN

ELSEWHERE = frozenset({ReplicaKind.IMAGE, ReplicaKind.POD_TEMPLATE, ReplicaKind.WORKLOAD_REF})
INFERENCE_SERVER = "azureml_inference_server_http"
NEEDS_CLUSTER = "needs a cluster; on one machine use entryScript, command or static"


def check(endpoint: Endpoint, host: Host) -> list[Fault]:
    """Every fault of every version. A number of GPUs is no fault: it is not limited here, replicas have access to
    all."""
    return [
        Fault(f"spec.versions[{index}].replica.{name}", value, rule)
        for index, version in enumerate(endpoint.versions)
        for name, value, rule in _faults(version, host)
    ]


def _faults(version: Version, host: Host) -> Iterator[tuple[str, object, str]]:
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
    elif source.entry_script is not None and not _has_inference_server(host):
        yield "entryScript", source.entry_script, "needs azureml-inference-server-http: pip install 'scorefront[serve]'"
    if source.source_directory is not None and not os.path.isdir(source.source_directory):
        yield "sourceDirectory", source.source_directory, "must be a directory that exists"
    if source.model_dir is not None and not os.path.isdir(source.model_dir):
        yield "modelDir", source.model_dir, "must be a directory that exists"
    for name, value in source.env.items():
        for rule in unexpandable(value, host.environ):
            yield f"env.{name}", HIDDEN, rule
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
