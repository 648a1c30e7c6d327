"""One round: start, SIGKILL at a step or a time, start again; then the judgement of what is left."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from cluster.atomic_files import TEMPORARY_PREFIX
from tests.faults.deployment_kills.site import BROKEN, COURSES, ENDPOINT
from tests.integration.cluster_local.local_rig import pids_with
from workspace.deployments.records import OperationStep

ENDED = ("Succeeded", "Failed", "Cancelled", "TimedOut")
LONGEST_S = 120.0
POLL_S = 0.002
LATEST_KILL_S = 8.0
"""Longest time from the request to a kill at a time by chance."""


@dataclass(frozen=True)
class Round:
    """A course and the moment of the kill."""

    course: str
    step: OperationStep | None
    """Kill in this step; None: at a time by chance."""
    delay_s: float
    """Seconds from the beginning of the step, or of the operation, to the kill."""

    def __str__(self) -> str:
        return f"{self.course}, {self.delay_s:.3f} s after {self.step or 'the request'}"


def rounds(count: int, seed: int) -> list[Round]:
    """Each step in turn and times by chance, with the courses in turn."""
    random, steps, found = Random(seed), list(OperationStep), []
    names = list(COURSES)
    for number in range(count):
        step = steps[number // 2 % len(steps)] if number % 2 else None
        delay_s = random.uniform(0, 0.1) if step is not None else random.uniform(0, LATEST_KILL_S)
        found.append(Round(names[(number + number // len(names)) % len(names)], step, delay_s))
    return found


def run(one: Round, state_dir: Path) -> list[str]:
    """Carry out a round; returns its faults."""
    with site(state_dir, one.course) as process:
        operation = last_begun(process, one.course)
        if one.step is not None:
            until(lambda: ((now := record(state_dir, operation)) and now["step"] in (one.step, None)) or ended(now))
        time.sleep(one.delay_s)
        process.kill()
        process.wait(LONGEST_S)
    with site(state_dir, one.course) as process:
        operation = last_begun(process, one.course)
        until(lambda: ended(record(state_dir, operation)))
        faults = judge(one, state_dir, operation)
        process.terminate()
        process.wait(LONGEST_S)
    if not until(lambda: not pids_with(str(state_dir)), 20):
        faults.append(f"processes are left: {sorted(pids_with(str(state_dir)))}")
    return faults


def judge(one: Round, state_dir: Path, operation: str) -> list[str]:
    """What is wrong with the state after the end of the operation."""
    faults = []
    broken = COURSES[one.course].script == BROKEN
    state = str((record(state_dir, operation) or {}).get("state"))
    if state != ("Failed" if broken else "Succeeded"):
        faults.append(f"the operation is {state}")
    operations = {path.stem for path in (state_dir / "operations").glob("*.json")}
    serving = {operation} if not broken else operations - {operation}
    declared = state_dir / "endpoints" / f"{ENDPOINT}.json"
    text = declared.read_text() if declared.exists() else ""
    if {each for each in operations if each in text} != serving:
        faults.append(f"declared is {text or 'nothing'}, and not what {serving or 'no operation'} has deployed")
    folders = state_dir / "deployments"
    if not until(lambda: {each.name for each in folders.iterdir()} == serving, 20):
        faults.append(f"folders are left: {sorted(each.name for each in folders.iterdir())}")
    if parts := [str(each) for each in state_dir.rglob(f"{TEMPORARY_PREFIX}*")]:
        faults.append(f"unfinished files are left: {parts}")
    return faults


@contextmanager
def site(state_dir: Path, course: str) -> Iterator["subprocess.Popen[str]"]:
    """A running installation; killed at the end, if it still runs."""
    command = [sys.executable, "-m", "tests.faults.deployment_kills.site", str(state_dir), course]
    with open(state_dir.with_suffix(".log"), "a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(LONGEST_S)
        if process.stdout is not None:
            process.stdout.close()


def last_begun(process: "subprocess.Popen[str]", course: str) -> str:
    """Id of the operation that is killed."""
    lines = 1 if COURSES[course].first is None else 2
    assert process.stdout is not None
    found = [process.stdout.readline().strip() for _ in range(lines)]
    assert all(found), "the installation has ended"
    return found[-1]


def record(state_dir: Path, operation: str) -> dict[str, Any] | None:
    """The stored operation; None: not stored."""
    try:
        found = json.loads((state_dir / "operations" / f"{operation}.json").read_text())
    except FileNotFoundError:
        return None
    stored: dict[str, Any] = found["record"]["operation"]
    return stored


def ended(operation: dict[str, Any] | None) -> bool:
    """True for an operation in a final state."""
    return operation is not None and operation["state"] in ENDED


def until(condition: Callable[[], object], within_s: float = LONGEST_S) -> bool:
    """Wait for a condition; False if it has not come about."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
