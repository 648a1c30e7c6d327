"""The import map of the house, held: permitted imports, limits of the pure packages, forbidden names.

A module without a line in the map fails. The checker is a set of functions of source text, so that it is itself
tested
on small made-up sources below.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("serving", "autoscaler", "cluster", "router", "controlplane", "workspace", "telemetry", "scorefront")
BESIDE_THE_CORE = (
    "router.settings",
    "router.metrics",
    "router.accesslog",
    "router.socket_write",
    "router.write_batch",
    "router.busy_polling",
    "router.request_trace",
    "router.recent_failures",
    "router.log_limit",
)
OF_THE_CLUSTER = ("cluster.framing", "cluster.owned_tasks", "cluster.unauthenticated", "cluster.trust")

# module or folder -> first-party modules or folders that it may import, besides itself; the longest match counts
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "serving": (),
    "autoscaler": ("serving",),
    "autoscaler.scaling_loop": ("serving", "autoscaler"),
    "cluster": ("serving",),
    "router": (),  # the package's own docstring; every module below it has a line of its own
    "router.core": ("serving",),
    "router.settings": ("serving", "router.core"),
    "router.metrics": ("serving", "router.core", "router.settings", "router.request_trace", "cluster.link"),
    "router.accesslog": ("serving", "router.core", "router.settings"),
    "router.socket_write": (),
    "router.write_batch": (),
    "router.request_trace": (),
    "router.recent_failures": ("serving", "cluster.link"),
    "router.log_limit": (),
    "router.busy_polling": (),
    "router.proxy": ("serving", "router.core", "cluster.lookup", "cluster.owned_tasks", *BESIDE_THE_CORE),
    "router.peers": ("serving", "router.core", *OF_THE_CLUSTER, *BESIDE_THE_CORE),
    "router.inflight_table": ("serving.usage",),
    "router.membership": ("router.core",),
    "router.supervisor_messages": ("serving", "router.core", "cluster.framing", "cluster.link"),
    "router.worker": ("serving", "cluster", "router"),
    "router.supervisor": ("serving", "cluster", "router"),
    "controlplane": ("serving", "autoscaler", "cluster"),
    "workspace": ("serving", "autoscaler", "cluster", "controlplane"),
    "telemetry": ("serving", "cluster", "workspace.store"),
    "telemetry.data_routes": ("serving", "controlplane", "telemetry"),
    "telemetry.history_routes": ("serving", "controlplane", "telemetry"),
    "telemetry.history_answers": ("serving", "controlplane.answers", "telemetry"),
    "telemetry.payload_files": ("cluster.atomic_files", "controlplane.control_errors", "workspace.store"),
    "scorefront": PACKAGES,
    "scorefront.azureml": (),  # runs with `pip install --no-deps`
}

# processes and commands, each in a folder of its own: they do not know one another, nor do their shared modules
APART = (
    *("scorefront.cli", "scorefront.doctor"),
    *("scorefront.up", "scorefront.router", "scorefront.control", "scorefront.collector"),
)
STARTS = {"scorefront.cli": APART, "scorefront.__main__": ("scorefront.cli",)}

# third party -> the modules or folders that may import it
THIRD_PARTIES: dict[str, tuple[str, ...]] = {
    "aiohttp": (
        "cluster.local",
        "cluster.kubernetes.client.api",
        "controlplane",
        "workspace",
        "telemetry",
        "scorefront",
    ),
    "azureml": ("cluster.local.v1_modules",),
    "azureml_inference_server_http": ("cluster.local.v1_modules", "cluster.local.script_host"),
    "cryptography": (
        *("router.core.authorization", "router.proxy.tls", "controlplane"),
        "cluster.kubernetes.certificates",
    ),
    "fsspec": ("workspace.store",),
    "flask": ("cluster.local.script_host",),
    "gunicorn": ("cluster.local.inference_server",),
    "httptools": ("router.proxy",),
    "httpcore": ("scorefront.http_client", "scorefront.cli.client", "scorefront.sdk.control_connection"),
    # checking and signing: two sides that never meet
    "jwt": (
        "router.core.authorization",
        "router.core.issuer_keys",
        "router.core.foreign_tokens",
        "controlplane.tokens",
    ),
    "kubernetes_asyncio": ("cluster.kubernetes.client.kubeconfig",),
    "msgspec": (
        *(
            "cluster.framing",
            "cluster.link",
            "cluster.kubernetes.discovery",
            "cluster.kubernetes.snapshot",
            "controlplane",
            "router",
        ),
        *("scorefront.doctor", "cluster.kubernetes.client.api", "cluster.kubernetes.client.reflector"),
        "cluster.kubernetes.objects.keys",
        *("workspace", "telemetry"),
    ),
    "opentelemetry": ("telemetry.otel_signals",),
    "multidict": ("controlplane.leader_proxy",),  # aiohttp speaks in its terms, and in yarl's
    "packaging": ("workspace",),
    "prometheus_client": ("scorefront.exposition",),
    "pydantic": ("serving",),
    "pathspec": ("cluster.local.fingerprint", "workspace"),
    "requests": ("scorefront.azureml",),  # comes with azureml-core, which the user installs
    "rich": ("scorefront.cli", "scorefront.up.banner", "scorefront.sdk"),
    "typer": ("scorefront.cli",),
    "uvloop": ("scorefront.process.event_loop",),
    "yaml": ("scorefront", "workspace"),
    "yarl": ("controlplane.leader_proxy",),
}

PURE = (
    *("serving", "autoscaler", "router.core", "router.supervisor.connection_balance", "router.membership"),
    *("router.busy_polling", "router.supervisor.roster"),
    *("router.peers.address", "router.peers.frames", "router.peers.session"),
    *(
        "cluster.kubernetes.objects",
        "cluster.unauthenticated",
        "controlplane.group_identity",
        "scorefront.doctor.judge",
        "scorefront.doctor.rights",
    ),
    *("cluster.framing", "scorefront.router.usage_cache", "scorefront.ports.connection_table"),
    *(
        f"cluster.kubernetes.client.{name}"
        for name in ("api_errors", "backoff", "cache", "election", "labelselector", "lines", "paths", "selectors")
    ),
    *(f"cluster.kubernetes.{name}" for name in ("cluster_index", "conflicts", "declarations", "discovery")),
    *(
        f"cluster.kubernetes.{name}"
        for name in ("drift_detector", "endpoint_objects", "ownership", "rival_writers", "shrinking", "slim_objects")
    ),
    "cluster.kubernetes.version_problems",
    *(f"scorefront.sdk.{name}" for name in ("exceptions", "model_ids", "service_rules", "service_settings")),
    *(
        f"telemetry.{name}"
        for name in (
            "access_messages",
            "dropped_payloads",
            "export_settings",
            "trace_context",
            "payload_batch",
            "payload_messages",
            "history",
            "comparison",
            "history_answers",
        )
    ),
    *(
        f"workspace.deployments.{name}"
        for name in ("deployment_rules", "documents", "history", "operation_states", "readiness", "records")
    ),
    *(
        f"workspace.environments.{name}"
        for name in ("conda_packages", "definitions", "install_plan", "requirement_lines", "spec")
    ),
)
IMPURE_EXCEPTIONS = ("autoscaler.scaling_loop",)
NOT_PURE = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "selectors", "signal", "subprocess", "threading"),
        *("datetime", "random", "secrets", "time", "uuid"),
        *("http", "importlib", "io", "logging", "os", "select", "shutil", "socket", "socketserver", "ssl", "sys"),
        *("tempfile", "urllib.request"),
    }
)
NOT_PURE_CALLS = frozenset({"open", "print", "input", "__import__", "exec", "eval"})

FORBIDDEN_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "misc", "manager", "base"})


def within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(folder + ".")


def longest_match(module: str, folders: Iterable[str]) -> str | None:
    return max((folder for folder in folders if within(module, folder)), key=len, default=None)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, wherever in the file; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def import_faults(module: str, source: str) -> list[str]:
    """Imports that the map does not allow."""
    line = longest_match(module, MAY_IMPORT)
    if line is None or (line == "router" and module != "router"):
        return [f"{module} has no line in the map of imports"]
    faults = []
    for lineno, name in imports(ast.parse(source)):
        top = name.split(".")[0]
        if top in PACKAGES:
            allowed = any(within(name, folder) for folder in (line, *MAY_IMPORT[line]))
        elif top in sys.stdlib_module_names:
            allowed = True
        else:
            allowed = any(within(module, folder) for folder in THIRD_PARTIES.get(top, ()))
        if not allowed:
            faults.append(f"{module}:{lineno} must not import {name}")
    return faults


def process_faults(module: str, source: str) -> list[str]:
    """A process or command that knows another one without starting it."""
    known = [folder for folder in APART if within(module, folder)]
    known.extend(STARTS.get(longest_match(module, STARTS) or "", ()))
    return [
        f"{module}:{lineno} must not know another process: {name}"
        for lineno, name in imports(ast.parse(source))
        if (folder := longest_match(name, APART)) and folder not in known
    ]


def relative_import_faults(module: str, source: str) -> list[str]:
    """`from . import x`, anywhere."""
    nodes = ast.walk(ast.parse(source))
    return [f"{module}:{n.lineno} imports relatively" for n in nodes if isinstance(n, ast.ImportFrom) and n.level]


def is_pure(module: str) -> bool:
    return any(within(module, folder) for folder in PURE) and module not in IMPURE_EXCEPTIONS


def purity_faults(module: str, source: str) -> list[str]:
    """Clock, chance, I/O and concurrency in a module that must have none."""
    if not is_pure(module):
        return []
    tree = ast.parse(source)
    faults = [
        f"{module}:{lineno} is pure and must not import {name}"
        for lineno, name in imports(tree)
        if any(within(name, banned) for banned in NOT_PURE) or (within(name, "pathlib") and "Pure" not in name)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NOT_PURE_CALLS:
            faults.append(f"{module}:{node.lineno} is pure and must not call {node.func.id}()")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            faults.append(f"{module}:{node.lineno} is pure and must not be a coroutine")
    return faults


def name_faults(module: str, source: str) -> list[str]:
    """Modules, folders and classes with names that do not state their purpose."""
    faults = [f"{module}: {part!r} says nothing" for part in module.split(".") if says_nothing(part)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and (says_nothing(node.name) or node.name.endswith("Manager")):
            faults.append(f"{module}:{node.lineno} class {node.name} says nothing")
    return faults


def says_nothing(name: str) -> bool:
    lower = name.lower().strip("_")
    return lower in FORBIDDEN_NAMES or lower.startswith("base_") or lower.endswith(("_utils", "_helpers", "_manager"))


def package_docstring_faults(package: str, source: str, modules: int) -> list[str]:
    """A package of more than one file states its purpose and its limits."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    if modules > 1 and not re.search(r"\b(never|must not|No)\b", docstring):
        return [f"{package}: its docstring does not say what it must never do"]
    return []


CHECKS = (import_faults, process_faults, relative_import_faults, purity_faults, name_faults)

# ---- the house itself


def sources() -> dict[str, str]:
    """Dotted name -> text of every module of every package."""
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text()
    return found


SOURCES = sources()


def test_the_map_names_only_modules_that_exist() -> None:
    named = {
        *PURE,
        *IMPURE_EXCEPTIONS,
        *MAY_IMPORT,
        *APART,
        *(home for homes in THIRD_PARTIES.values() for home in homes),
    }
    assert sorted(named - SOURCES.keys()) == []


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_touches_and_is_named_only_as_the_map_allows(module: str) -> None:
    assert [fault for check in CHECKS for fault in check(module, SOURCES[module])] == []


@pytest.mark.parametrize("init", sorted(ROOT.glob("*/**/__init__.py"), key=str), ids=lambda file: file.parent.name)
def test_a_package_docstring_has_its_prohibition(init: Path) -> None:
    package = ".".join(init.parent.relative_to(ROOT).parts)
    if package.split(".")[0] in PACKAGES:
        assert package_docstring_faults(package, init.read_text(), len(list(init.parent.glob("*.py")))) == []


@pytest.mark.parametrize("process", ["router.worker.router_worker", "scorefront.worker_process"])
def test_a_worker_process_never_loads_the_command_line_or_the_models(process: str) -> None:
    assert not {"typer", "rich", "yaml", "pydantic"} & loaded_by(process, SOURCES)


# Most modules of a package in circles of imports; those under TYPE_CHECKING and inside functions count.
CIRCULAR = {
    "router.core": 7,  # a version's queue, its roles in the group, and the group
    "router.proxy": 20,  # the two sides of an exchange and their gateway; a head and its plan
}


def circular(texts: dict[str, str]) -> set[str]:
    """Modules that reach themselves through imports of any kind."""
    graph = {}
    for module, text in texts.items():
        names = (name for _, name in imports(ast.parse(text)))
        graph[module] = {name if name in texts else name.rpartition(".")[0] for name in names} & texts.keys() - {module}
    return {module for module in graph if module in reached(module, graph)}


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Modules imported by `start`, directly or not."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo.extend(new)
    return found


def test_there_are_no_circles_of_imports_beyond_those_known() -> None:
    found = Counter(module.rpartition(".")[0] for module in circular(SOURCES))
    assert found.keys() <= CIRCULAR.keys() and all(found[package] <= most for package, most in CIRCULAR.items())


def test_a_circle_of_imports_is_found() -> None:
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from serving.b import B"
    assert circular({"serving.a": late, "serving.b": "import serving.a", "serving.c": "import serving.a"}) == {
        "serving.a",
        "serving.b",
    }


def loaded_by(start: str, texts: dict[str, str]) -> set[str]:
    """Top-level names of third parties that importing `start` loads, through first-party modules."""
    third_parties: set[str] = set()
    todo, seen = [start], set()
    while todo:
        module = todo.pop()
        if module in seen or module not in texts:
            continue
        seen.add(module)
        todo.extend(".".join(module.split(".")[:count]) for count in range(1, module.count(".") + 1))
        for _, name in imports(ast.parse(texts[module])):
            if name.split(".")[0] in PACKAGES:
                todo.extend([name, name.rpartition(".")[0]])
            else:
                third_parties.add(name.split(".")[0])
    return third_parties


# ---- the checker can fail

WRONG = {
    "a lower layer imports a higher one": ("serving.endpoint", "from cluster import provider"),
    "controlplane imports router": ("controlplane.reconciler", "from router.metrics import Counter"),
    "the proxy imports the peers": ("router.proxy.upstream", "import router.peers.links"),
    "an import inside a function counts too": ("cluster.local.start", "def f():\n    import autoscaler.policy"),
    "one process knows another": (
        "scorefront.router.cluster_watch",
        "from scorefront.control.router_fleet import Fleet",
    ),
    "what is shared knows a process": ("scorefront.frontend_scaling", "from scorefront.up import up"),
    "a third party outside its module": ("controlplane.rest", "import httptools"),
    "a third party nobody listed": ("scorefront.cli.app", "import requests"),
    "a module of the router without a line": ("router.cache", ""),
    "a package without a line": ("storage.disk", ""),
    "a relative import": ("serving.traffic", "from . import endpoint"),
    "a clock in a pure module": ("router.core.ledger", "import time"),
    "a part of a package that does I/O": ("serving.files", "from urllib.request import urlopen"),
    "a path that can be opened in a pure module": ("serving.manifest", "from pathlib import Path"),
    "a file opened in a pure module": ("autoscaler.policy", "def f():\n    return open('x')"),
    "a coroutine in a pure module": ("router.core.dispatcher", "async def f(): ..."),
    "a module named utils": ("router.core.utils", ""),
    "a module named base_something": ("cluster.base_provider", ""),
    "a class named Manager": ("cluster.local.replicas", "class ReplicaManager: ..."),
}


@pytest.mark.parametrize(("module", "source"), WRONG.values(), ids=WRONG)
def test_the_checker_finds_faults(module: str, source: str) -> None:
    assert [fault for check in CHECKS for fault in check(module, source)]


RIGHT = {
    "the standard library": ("serving.endpoint", "import dataclasses, re\nfrom pathlib import PurePath"),
    "a lower layer": ("controlplane.reconciler", "from serving.endpoint import Endpoint\nimport cluster.provider"),
    "its own package": ("router.core.ledger", "from router.core.ids import SlotId"),
    "what starts a process knows it": ("scorefront.cli.up_command", "from scorefront.up.installation import run"),
    "a third party in its module": ("router.core.authorization", "import jwt"),
    "asyncio in the one module that may": ("autoscaler.scaling_loop", "import asyncio\nasync def f(): ..."),
    "a word that only contains a forbidden one": ("serving.baseline", "class Commoner: ..."),
}


@pytest.mark.parametrize(("module", "source"), RIGHT.values(), ids=RIGHT)
def test_the_checker_accepts_correct_sources(module: str, source: str) -> None:
    assert [fault for check in CHECKS for fault in check(module, source)] == []


def test_a_package_docstring_without_its_prohibition_is_found() -> None:
    assert package_docstring_faults("cluster", '"""Where replicas come from."""', modules=2)
    assert not package_docstring_faults("cluster", '"""Where replicas come from; never routes."""', modules=2)


def test_loaded_modules_of_a_worker_are_followed_through_imports() -> None:
    texts = {
        "scorefront": "",
        "scorefront.worker_process": "from router.worker.router_worker import run",
        "router": "",
        "router.worker.router_worker": "import scorefront.cli",
        "scorefront.cli": "import typer",
    }
    assert loaded_by("scorefront.worker_process", texts) == {"typer"}
