"""An entry script as a user writes one."""

import json
import os
import time
from typing import Any


def init() -> None:
    print("model loaded from", os.environ.get("AZUREML_MODEL_DIR"))


def run(data: str) -> dict[str, Any]:
    asked = json.loads(data)
    time.sleep(asked.get("sleep", 0))
    return {"type": type(data).__name__, "asked": asked, "pid": os.getpid(), "home": os.environ["AML_APP_ROOT"]}
