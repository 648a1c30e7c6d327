"""The command of a replica from its declared version: argv, environment, directory. Pure."""

import math
import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.local.inherited_environment import inherited, unexpandable
from cluster.local.lifecycle import start_deadline_s
from serving.endpoint import SERVER_TIMEOUT_VARIABLE, ReplicaKind, Resources, Version
from serving.variable_references import expanded

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LONGEST_SCORING_S = 300
"""Largest `scoringTimeoutMs`. A worker of an entry script may be silent as long, or for its whole `init()`."""
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
PYTHONS = frozenset({"python", "python3"})
PORT_FIELD = "{port}"
RUN_VARIABLE = "SCOREFRONT_RUN"
REPLICA_VARIABLE = "SCOREFRONT_REPLICA"
ENVIRONMENT_VARIABLE = "SCOREFRONT_ENVIRONMENT"
"""Declared environment of an entry script."""
OF_OTHER_ENVIRONMENTS = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME")
"""Variables not inherited by a script with an environment of its own."""


@dataclass(frozen=True, slots=True)
class Host:
    """Facts of the machine that all replicas share."""

    python: str
    """The interpreter of models."""
    environ: Mapping[str, str]
    run: str
    """Marker of all processes of this run of the provider."""
    server_settings: str
    """Path of the settings file of the inference server."""
    script_port: Callable[[], int] = lambda: 0
    """Port for collected data of scripts, asked for by the first version that collects; 0: there is none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to execute. `cwd` None: the current directory."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None


def launch(
    version: Version,
    endpoint: str,
    replica_id: str,
    port: int,
    host: Host,
    listener: int | None = None,
    devices: Sequence[str] = (),
) -> Launch:
    """The command of one replica (kinds entryScript and command).

    `version`, `endpoint`, `replica_id`: the replica. `port`: to listen on, at 127.0.0.1. `host`: facts of the machine.
    `listener`: descriptor of a socket that already listens there, for the server of an entry script to inherit.
    `devices`: its own GPUs; none: those of this process. Raises OSError for a `${NAME}` in `env` that is not set.
    """
    env = _environment(version, endpoint, replica_id, port, host)
    if devices:
        env[VISIBLE_GPUS] = ",".join(devices)
    return Launch(_argv(version, port, host, listener), env, directory(version))


def template(version: Version) -> tuple[Any, ...]:
    """The replica template: replicas are replaced when it changes; equal templates make interchangeable processes.

    Only what the process itself depends on. Probes, the queue wait, the memory limit and `scorePath` apply to running
    replicas, as do the scoring timeout and the number of slots, unless they are settings of the server (entryScript:
    timeout and number of workers). Contents of files
    count by their fingerprint (`fingerprint`), which is read at `apply` and not here.
    """
    source = version.replica
    if source.kind is ReplicaKind.STATIC:
        return (source.kind,)
    hosted = source.kind is ReplicaKind.ENTRY_SCRIPT
    return (
        source.kind,
        source.entry_script,
        source.source_directory,
        source.model_dir,
        source.environment,
        source.command,
        tuple(sorted(source.env.items())),
        cores_needed(version.resources),
        version.resources.gpu,
        (version.slots_per_replica, version.server_timeout_ms) if hosted else None,
        version.collection is not None,
    )


def directory(version: Version) -> str | None:
    """The working directory of the replica: its source directory, or that of its entry script."""
    source = version.replica
    if source.source_directory is None and source.entry_script is not None:
        return os.path.dirname(source.entry_script)
    return source.source_directory


def cores_needed(resources: Resources) -> int | None:
    """Whole cores of a replica; None: all."""
    return None if resources.cpu_limit is None else max(1, math.ceil(resources.cpu_limit))


def search_path(host: Host) -> str:
    """PATH of replicas: the folder of our interpreter first, as in an activated environment."""
    return os.pathsep.join([os.path.dirname(host.python), host.environ.get("PATH", os.defpath)])


def _argv(version: Version, port: int, host: Host, listener: int | None) -> tuple[str, ...]:
    source = version.replica
    if source.kind is ReplicaKind.COMMAND:
        first, *rest = (argument.replace(PORT_FIELD, str(port)) for argument in source.command)
        return (host.python if first in PYTHONS else first, *rest)
    # The inference server's own launcher always listens on 0.0.0.0 (its -b overrides every gunicorn setting), which
    # would bypass the front end. So gunicorn is run as the launcher runs it, but on loopback only, and on a socket that
    # listened before the start: no other user can have taken the port in between. One worker process per slot: a sync
    # worker serves one request at a time.
    return (
        *(host.python, "-m", "gunicorn", "--config", host.server_settings),
        *("--bind", f"127.0.0.1:{port}" if listener is None else f"fd://{listener}"),
        *("--workers", str(version.slots_per_replica)),
    )


def _environment(version: Version, endpoint: str, replica_id: str, port: int, host: Host) -> dict[str, str]:
    source = version.replica
    env = inherited(host.environ)
    env |= {"PATH": search_path(host), "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    cores = cores_needed(version.resources)
    if cores is not None:
        env |= dict.fromkeys(THREAD_SETTINGS, str(cores))
    if source.model_dir is not None:
        env["AZUREML_MODEL_DIR"] = source.model_dir
    if source.environment is not None:
        env = {name: value for name, value in env.items() if name not in OF_OTHER_ENVIRONMENTS}
        env[ENVIRONMENT_VARIABLE] = source.environment
    if source.entry_script is not None:
        env["AZUREML_ENTRY_SCRIPT"] = source.entry_script
        env["AML_APP_ROOT"] = directory(version) or os.path.dirname(source.entry_script)
        env["AML_APP_INSIGHTS_ENABLED"] = "false"
        env["OTEL_SDK_DISABLED"] = "true"
        env["SERVICE_NAME"] = endpoint
        env["SERVICE_PATH_PREFIX"] = f"api/v1/service/{endpoint}"
        env[SERVER_TIMEOUT_VARIABLE] = str(version.server_timeout_ms)
        env["WORKER_TIMEOUT"] = str(max(LONGEST_SCORING_S, math.ceil(start_deadline_s(version.liveness))))
    env |= _collection_variables(version, endpoint, host)
    for name, value in source.env.items():
        for rule in unexpandable(value, host.environ):
            raise OSError(f"env.{name}: {rule}")
    env |= {name: expanded(value, host.environ).replace(PORT_FIELD, str(port)) for name, value in source.env.items()}
    return env | {
        "SCOREFRONT_ENDPOINT": endpoint,
        "SCOREFRONT_VERSION": version.name,
        REPLICA_VARIABLE: replica_id,
        RUN_VARIABLE: host.run,
    }


def _collection_variables(version: Version, endpoint: str, host: Host) -> dict[str, str]:
    """Variables read by azureml-ai-monitoring and by the collector of v1. The user name in the host names the version:
    all replicas of this machine post to one port."""
    if version.collection is None or not (port := host.script_port()):
        return {}
    return {
        "AZUREML_MDC_ENABLED": "true",
        "AZUREML_MDC_HOST": f"{endpoint}.{version.name}@127.0.0.1",
        "AZUREML_MDC_PORT": str(port),
        "AML_MODEL_DC_STORAGE_ENABLED": "true",
    }
