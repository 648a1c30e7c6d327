"""The first minutes of a new user: clone into an empty folder, `make run`, paste the curl line, press Ctrl-C.

    python -m loadtests.fresh_clone

Takes the committed state of this repository, and ports 8080 and 8081.
"""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
INSTALL_S = 600.0
END_S = 10.0


def _curl_line(output: Path, make: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + INSTALL_S
    while time.monotonic() < deadline and make.poll() is None:
        said = output.read_text()
        if "dashboard" in said:
            return next(line for line in said.splitlines() if line.startswith("curl "))
        time.sleep(0.1)
    raise RuntimeError(f"make run did not become ready:\n{output.read_text()}")


def main() -> int:
    """Clone, run, score, end."""
    with tempfile.TemporaryDirectory() as folder:
        clone, output = Path(folder) / "clone", Path(folder) / "output"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        began = time.monotonic()
        with output.open("wb") as log:
            make = subprocess.Popen(
                ["make", "run"], cwd=clone, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            line = _curl_line(output, make)
            ready_s = time.monotonic() - began
            answer = subprocess.run(line, shell=True, capture_output=True, text=True, check=True, timeout=60)
            started = psutil.Process(make.pid).children(recursive=True)
            ended_at = time.monotonic()
            os.killpg(make.pid, signal.SIGINT)  # like Ctrl-C of a terminal
            _, alive = psutil.wait_procs(started, timeout=END_S)
            ended_s = time.monotonic() - ended_at
        finally:
            if make.poll() is None:
                os.killpg(make.pid, signal.SIGTERM)
            make.wait(END_S)
        print(f"make run in a fresh clone: ready after {ready_s:.0f} s (installation included)")
        print(f"the printed curl line answers: {answer.stdout.strip()}")
        print(f"Ctrl-C: {len(started)} processes ended after {ended_s:.1f} s, {len(alive)} left")
        good = "setosa" in answer.stdout and not alive
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
