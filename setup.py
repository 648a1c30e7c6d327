"""Build of the package: pure Python, or with the modules that each request runs compiled (SCOREFRONT_COMPILE=1).

The compiler is mypyc. The same files, unchanged, are the pure-Python build; nothing else decides between the two.
"""

import os
import sys
import tomllib
from pathlib import Path

from setuptools import setup

TOP = Path(__file__).parent
COMPILED = (
    *("authorization", "dispatcher", "forwarding", "header_fields", "ids", "ledger", "version_queue"),
    *("chunked", "exchange", "exchange_state", "head_parsing", "head_shapes", "request_head", "request_intake"),
    *("observed_exchange", "redirect", "request_plan", "request_shapes"),
    *("response_head", "response_shapes", "responses"),
    *("client_connection", "client_writer", "downstream", "lingering", "replica_connection", "slow_reader"),
    *("tls_downstream", "upstream", "upstream_pool"),
    *("metrics", "socket_write", "write_batch"),
)
"""Modules of `router`, `router.core` and `router.proxy`."""
FLAGS = ("--config-file=", "--ignore-missing-imports")
"""mypy options of the compiler: no plugins, no stub packages. The strict check is `make lint`."""


def sources() -> list[str]:
    """Files of the compiled modules, as paths below the top."""
    found = [path for folder in ("router", "router/core", "router/proxy") for path in (TOP / folder).glob("*.py")]
    return sorted(str(path.relative_to(TOP)) for path in found if path.stem in COMPILED)


def requirements() -> list[str]:
    """The compiler, and the packages whose types it reads."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    return [*project["optional-dependencies"]["compile"], *project["dependencies"]]


def build() -> None:
    """Run the command of the build. Raises SystemExit if the compiler is wanted and missing."""
    if os.environ.get("SCOREFRONT_COMPILE") != "1":
        setup()
        return
    try:
        from mypyc.build import mypycify
    except ModuleNotFoundError:
        if "egg_info" not in sys.argv:
            raise SystemExit("SCOREFRONT_COMPILE=1: mypy must be installed to compile") from None
        setup(setup_requires=requirements())  # an isolated build asks for its packages first
        return
    os.chdir(TOP)
    modules = mypycify([*FLAGS, *sources()], opt_level="3", group_name="scorefront")
    setup(setup_requires=requirements() if "egg_info" in sys.argv else [], ext_modules=modules)


build()
