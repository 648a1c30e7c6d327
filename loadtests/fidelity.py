"""The same trace run for real and simulated: replicas over time, waits, replica-seconds.

    python -m loadtests.fidelity trace.csv [--seconds 300] [--from 0] [--start-seconds 4] [--max 60] [--check]

For real: `scorefront up` with replicas that work as long as the trace says, and Locust's trace shape. Simulated:
`replay` with the same policy and the mean start-up time that was seen. Run it on an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from autoscaler.simulation.replay import ReplayResult, ReplaySettings, replay
from autoscaler.simulation.trace import ServiceTimes, completed, read_trace
from loadtests.bench.figures import Promise, Table, judged, percentile
from loadtests.installation import REPLICA, Installation, manifest
from serving.endpoint import AutoscalePolicy

NAME, VERSION = "traced", "blue"
SAMPLE_S = 0.1
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
PAYLOAD = '{"work_ms": {service_ms}}'

Requests = Sequence[tuple[float, float]]
Numbers = Sequence[tuple[float, int]]


class ReplicaSampler:
    """Numbers of replicas over time, read from REST in a thread."""

    def __init__(self, control: str) -> None:
        self.numbers: list[tuple[float, int]] = []
        """(monotonic seconds, replicas that run)."""
        self.starting_s = 0.0
        """Replica-seconds spent in starting."""
        self.starts = 0
        self._url = f"{control}/api/v1/endpoints/{NAME}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample replicas")

    def __enter__(self) -> "ReplicaSampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_s, last_number = time.monotonic(), 0
        while not self._ended.wait(SAMPLE_S):
            with urllib.request.urlopen(self._url, timeout=10) as answer:
                status = json.load(answer)["status"]["versions"][VERSION]
            now = time.monotonic()
            number = status["ready"] + status["starting"] + status["draining"]
            self.starting_s += status["starting"] * (now - last_s)
            self.starts += max(0, number - last_number) if self.numbers else 0
            self.numbers.append((now, number))
            last_s, last_number = now, number


def run_for_real(
    requests: Requests, policy: AutoscalePolicy, start_s: float
) -> tuple[Numbers, list[float], int, float]:
    """(replicas over time, waits of the served requests in seconds, refusals, mean start-up time in seconds).

    requests: (arrival, service time) in seconds.
    policy: of the version.
    start_s: time before a replica listens.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.csv")
        trace.write_text("arrival,service_ms\n" + "".join(f"{at:.6f},{work * 1000:.3f}\n" for at, work in requests))
        payload = Path(folder, "payload.json")
        payload.write_text(PAYLOAD)
        command = ["python", str(REPLICA), "--port", "{port}", "--slots", "1", "--start-ms", f"{start_s * 1000:.0f}"]
        scaler = {"minReplicas": policy.min_replicas, "maxReplicas": policy.max_replicas}
        version = {"name": VERSION, "replica": {"command": command}, "autoScaler": scaler}
        with Installation(Path(folder), "--access-log", "all", "--workers", "1") as installation:
            installation.start(manifest(NAME, [version], authEnabled=False))
            with ReplicaSampler(installation.control) as sampler:
                began_s = time.monotonic()
                locust(f"{installation.scoring}/api/v1/service/{NAME}/score", trace, payload)
            records = [json.loads(line) for line in installation.output.read_text().splitlines() if line[:1] == "{"]
            installation.stop()
    served = sorted(record["waited"] for record in records if record.get("status") == 200)
    refused = sum(record.get("status") == 503 for record in records)
    # Locust begins a little later than it is started: the first request is the time 0 of the trace
    first_s = began_s + _first_delay_s(records, began_s)
    numbers = [(at_s - first_s, number) for at_s, number in sampler.numbers]
    return numbers, served, refused, sampler.starting_s / max(1, sampler.starts)


def _first_delay_s(records: Sequence[dict[str, float]], began_s: float) -> float:
    unix_offset_s = time.time() - time.monotonic()  # noqa: TID251 - access records have unix times
    arrivals = [record["time"] - record["seconds"] for record in records if "seconds" in record]
    return min(arrivals) - unix_offset_s - began_s if arrivals else 0.0


def locust(url: str, trace: Path, payload: Path) -> None:
    """Send a trace by Locust. Raises CalledProcessError if no request was sent."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless", "--only-summary"]
    environ = {**os.environ, "SCOREFRONT_SHAPE": f"trace:{trace}", "SCOREFRONT_PAYLOAD": str(payload)}
    environ["SCOREFRONT_MAX_FAILURE_PERCENT"] = "100"
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    print("\n".join(line for line in done.stderr.splitlines() if "lateness" in line))
    done.check_returncode()


def number_at(numbers: Numbers, at_s: float) -> int:
    """The number in force at a time."""
    return next((number for moment_s, number in reversed(numbers) if moment_s <= at_s), numbers[0][1])


def agreement(real: Numbers, simulated: Numbers, end_s: float, step_s: float = 0.5) -> float:
    """Share of the time in which both differ by at most one replica."""
    steps = [step * step_s for step in range(int(end_s / step_s))]
    return sum(abs(number_at(real, at) - number_at(simulated, at)) <= 1 for at in steps) / max(1, len(steps))


def replica_seconds(numbers: Numbers, end_s: float) -> float:
    """Integral of the number from 0 to `end_s`."""
    inside = [(0.0, number_at(numbers, 0.0)), *((at, n) for at, n in numbers if 0 < at < end_s), (end_s, 0)]
    return sum(number * (after - at) for (at, number), (after, _) in pairwise(inside))


def compare(real: tuple[Numbers, list[float], int, float], simulated: ReplayResult, end_s: float) -> list[Promise]:
    """Print both, and return the promises."""
    numbers, waits, refused, _ = real
    seconds = replica_seconds(numbers, end_s), replica_seconds(simulated.replicas, end_s)
    wait = percentile(waits, 0.99), simulated.wait_s(0.99)
    rows = (
        ("replica-seconds", f"{seconds[0]:.0f}", f"{seconds[1]:.0f}"),
        ("99 % wait", f"{wait[0] * 1000:.0f} ms", f"{wait[1] * 1000:.0f} ms"),
        ("refused", str(refused), str(simulated.refused)),
        ("most replicas", str(max(n for _, n in numbers)), str(simulated.most)),
    )
    print(Table(("", "real", "simulated"), rows).text())
    return [
        Promise("share of time within one replica", agreement(numbers, simulated.replicas, end_s), 0.95),
        Promise("99 % wait, difference", abs(wait[0] / wait[1] - 1) if wait[1] else wait[0], 0.15, at_least=False),
        Promise("replica-seconds, difference", abs(seconds[0] / seconds[1] - 1), 0.05, at_least=False),
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.fidelity", description=__doc__)
    parser.add_argument("trace")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--from", type=float, default=0.0, dest="from_s")
    parser.add_argument("--start-seconds", type=float, default=4.0)
    parser.add_argument("--max", type=int, default=60)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    with open(args.trace, encoding="utf-8", newline="") as lines:
        found = completed(read_trace(lines), ServiceTimes(), lambda: 0.5)
    end_s = args.from_s + args.seconds
    requests = [(at_s - args.from_s, work_s) for at_s, work_s in found if args.from_s <= at_s < end_s]
    first_s = requests[0][0]
    requests = [(at_s - first_s, work_s) for at_s, work_s in requests]
    policy = AutoscalePolicy(max_replicas=args.max)
    real = run_for_real(requests, policy, args.start_seconds)
    print(f"{len(requests)} requests; mean start-up time {real[3]:.2f} s")
    simulated = replay(requests, ReplaySettings(policy, start_s=real[3] or args.start_seconds))
    return judged(compare(real, simulated, requests[-1][0]), args.check)


if __name__ == "__main__":
    sys.exit(main())
