"""Kind of this build: pure Python, or with the modules that each request runs compiled (`setup.py`)."""

import importlib.util

_COMPILED_MODULE = "router.write_batch"
"""One of them; all are compiled or none."""


def build_kind() -> str:
    """The words of `scorefront --version`."""
    found = importlib.util.find_spec(_COMPILED_MODULE)
    pure = found is None or found.origin is None or found.origin.endswith(".py")
    return "pure Python" if pure else "compiled"
