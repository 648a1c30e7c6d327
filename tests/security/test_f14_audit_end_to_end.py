"""F14: `scorefront up` keeps an audit log in its state directory, with the declarations by `-f` and the readers of
keys.
"""

import json
import os
import stat
import urllib.request
from pathlib import Path

from loadtests.installation import Installation, manifest, witness_version


def test_up_keeps_an_audit_log(tmp_path: Path) -> None:
    with Installation(tmp_path) as made:
        made.start(manifest("iris", [witness_version("blue", work_ms=1, slots=1, numReplicas=1)]))
        with urllib.request.urlopen(f"{made.control}/api/v1/endpoints/iris/keys", timeout=10) as answer:
            key = json.load(answer)["primaryKey"]
        assert made.stop() == 0
    file = tmp_path / "state" / "audit.log"
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    me = f"uid {os.geteuid()}"
    applied = [line for line in lines if line["operation"] == "putEndpoint"]
    assert [(line["caller"], line["endpoint"], line["outcome"]) for line in applied] == [(me, "iris", "done")]
    read = [line for line in lines if line["operation"] == "getKeys"]
    assert read and all((line["caller"], line["from"]) == (me, "127.0.0.1") for line in read)
    assert key not in text and stat.S_IMODE(file.stat().st_mode) == 0o600
