"""The played images: the command of each."""

import os
import sys
from pathlib import Path

from tests.cluster.played.recipe import Image

ROOT = Path(__file__).parents[3]
MODEL = "registry.example/model"
"""Reference of a model server for measurements: its settings are its environment (MODEL_DEFAULTS)."""
MODEL_DEFAULTS = {"WORK_MS": "100", "START_MS": "0", "SLOTS": "1", "WITNESS": ""}

_PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
_MODULES = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
"""First import of the node and of its containers: a clock that jumps, for instance."""
CACHED = {"PYTHONPYCACHEPREFIX": str(Path(sys.prefix) / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}
"""Bytecode is kept, as in an image: without it a process of the product spends a second of CPU time on its start."""
_PYTHON = {"PATH": _PATH, "PYTHONPATH": _MODULES, "PYTHONUNBUFFERED": "1", **CACHED}
_SCOREFRONT = (sys.executable, "-m", "scorefront")
_MODEL = (
    *(sys.executable, str(ROOT / "loadtests" / "replica.py"), "--host", "{ip}", "--port", "{port}"),
    *("--work-ms", "$(WORK_MS)", "--start-ms", "$(START_MS)", "--slots", "$(SLOTS)", "--witness", "$(WITNESS)"),
)
_IRIS = (
    *(sys.executable, "-m", "gunicorn", "--config", str(ROOT / "cluster" / "local" / "inference_server.py")),
    *("--bind", "0.0.0.0:5001", "--workers", "1", "--worker-tmp-dir", "/dev/shm"),
)
_IRIS_ENV = {
    **{"AZUREML_ENTRY_SCRIPT": "/srv/iris/score.py", "AML_APP_ROOT": "/srv/iris"},
    **{"AZUREML_MODEL_DIR": "/srv/iris/models/blue/1", "AML_APP_INSIGHTS_ENABLED": "false"},
    "OTEL_SDK_DISABLED": "true",
}

IMAGES = {
    "scorefront": Image(_SCOREFRONT, _PYTHON, {"scorefront": _SCOREFRONT}, uses_api=True),
    "scorefront-iris": Image(_IRIS, {**_PYTHON, **_IRIS_ENV}, paths={"/srv/iris": str(ROOT / "examples" / "iris")}),
    "model": Image(_MODEL, {**_PYTHON, **MODEL_DEFAULTS}, {"python": (sys.executable,)}),
}
