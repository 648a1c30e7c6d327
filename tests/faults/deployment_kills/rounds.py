"""One round: start, SIGKILL at a step or a time, start again; then the judgement of what is left."""

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from cluster.atomic_files import TEMPORARY_PREFIX
from tests.faults.deployment_kills.site import BROKEN, COURSES, ENDPOINT, Site, until
from workspace.deployments.records import OperationStep

ENDED = ("Succeeded", "Failed", "Cancelled", "TimedOut")
STEPS = list(OperationStep)
LATEST_KILL_S = 8.0
"""Longest time from the operation's record to a kill at a time by chance."""


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
    random, found, names = Random(seed), [], list(COURSES)
    for number in range(count):
        step = STEPS[number // 2 % len(STEPS)] if number % 2 else None
        delay_s = random.uniform(0, 0.1) if step is not None else random.uniform(0, LATEST_KILL_S)
        found.append(Round(names[(number + number // len(names)) % len(names)], step, delay_s))
    return found


def run(one: Round, folder: Path) -> list[str]:
    """Carry out a round; returns its faults."""
    site, course = Site(folder), COURSES[one.course]
    try:
        site.start()
        if course.first is not None:
            site.deploy(course.first)
            until(lambda: site.operations() and ended(site.operations()[0]))
        count = 1 if course.first is None else 2
        request = site.deploy(course.script)
        until(lambda: len(site.operations()) == count and reached(site.operations()[-1], one.step))
        time.sleep(one.delay_s)
        site.kill()
        request.join()
        faults = [] if until(lambda: not site.left(), 20) else [f"processes outlive the kill: {site.left()}"]
        site.start()
        until(lambda: ended(site.operations()[-1]))
        faults += judge(one, site)
        if (status := site.stop()) != 0:
            faults.append(f"exit status {status}")
        if not until(lambda: not site.left(), 20):
            faults.append(f"processes are left: {site.left()}")
        return faults
    finally:
        site.close()


def judge(one: Round, site: Site) -> list[str]:
    """What is wrong with the state after the end of the operation."""
    faults, broken = [], COURSES[one.course].script == BROKEN
    operations = {each["id"]: each for each in site.operations()}
    last = list(operations)[-1]
    state = operations[last]["state"]
    if state != ("Failed" if broken else "Succeeded"):
        faults.append(f"the operation is {state}: {operations[last]['error']}")
    serving = {last} if not broken else operations.keys() - {last}
    declared = site.state_dir / "endpoints" / f"{ENDPOINT}.json"
    text = declared.read_text() if declared.exists() else ""
    if {each for each in operations if each in text} != serving:
        faults.append(f"declared is {text or 'nothing'}, and not what {serving or 'no operation'} has deployed")
    folders = site.state_dir / "deployments"
    if not until(lambda: {each.name for each in folders.iterdir()} == serving, 90):
        faults.append(f"folders are left: {sorted(each.name for each in folders.iterdir())}")
    if parts := [str(each) for each in site.state_dir.rglob(f"{TEMPORARY_PREFIX}*")]:
        faults.append(f"unfinished files are left: {parts}")
    return faults


def reached(operation: dict[str, Any], step: OperationStep | None) -> bool:
    """True from the beginning of a step on."""
    begun = operation["step"] is not None and (step is None or STEPS.index(operation["step"]) >= STEPS.index(step))
    return step is None or begun or ended(operation)


def ended(operation: dict[str, Any]) -> bool:
    """True for an operation in a final state."""
    return operation["state"] in ENDED
