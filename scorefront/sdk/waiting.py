"""Waiting for an operation, with its steps and their times on a terminal or as plain lines."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from scorefront.sdk.control_connection import API, ControlConnection
from scorefront.sdk.exceptions import WebserviceException
from serving.printable import printable

SUCCEEDED = "Succeeded"
ENDED = (SUCCEEDED, "Failed", "Cancelled", "TimedOut")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Time between two requests: doubled up to the longest."""

Show = Callable[[Mapping[str, Any]], None]
"""Called with the operation as native REST answers it, after each request."""


def wait_for_operation(
    connection: ControlConnection, operation: str, show_output: bool = False, timeout_s: float | None = None
) -> dict[str, Any]:
    """The operation at its end.

    connection: of the workspace. operation: its id.
    show_output: True to print steps with their times; default: nothing is printed.
    timeout_s: longest wait in seconds; None: unlimited; the operation goes on.
    Raises WebserviceException unless it has succeeded.
    """
    with shown_steps() if show_output else _quiet() as show:
        found = _ended(connection, operation, show, timeout_s)
    if found["state"] != SUCCEEDED:
        raise WebserviceException(failure(found), code=str((found.get("error") or {}).get("code", "")))
    return found


def failure(operation: Mapping[str, Any]) -> str:
    """The text of an operation that has not succeeded: state, step, reason, last lines of the replica's log."""
    error = operation.get("error") or {}
    step = error.get("step") or operation.get("step")
    lines = [
        f"Deployment of {operation['endpoint']} ended as {operation['state']}" + (f" at step {step}" if step else ""),
        str(error.get("message") or "no reason is known"),
        *(f"  {line}" for line in error.get("logTail") or ()),
        f"Operation ID: {operation['id']}; its log: .get_logs(), or scorefront operation logs {operation['id']}",
    ]
    return "\n".join(lines)


def step_line(step: Mapping[str, Any]) -> str:
    """A step that has ended: name, seconds, result. `step`: as native REST answers it."""
    note = f"  {step['note']}" if step.get("note") else ""
    return f"{step['step']:<12}{step['ended'] - step['began']:7.1f} s{note}"


def _ended(connection: ControlConnection, operation: str, show: Show, timeout_s: float | None) -> dict[str, Any]:
    began, pause_s = time.monotonic(), FIRST_PAUSE_S
    while True:
        found: dict[str, Any] = connection.call("GET", f"{API}/operations/{operation}", error=WebserviceException)
        show(found)
        if found["state"] in ENDED:
            return found
        left_s = LONGEST_PAUSE_S if timeout_s is None else timeout_s - (time.monotonic() - began)
        if left_s <= 0:
            raise WebserviceException(
                f"operation {operation} has not ended within {timeout_s:g} s (timeout_sec); it is {found['state']}, at"
                f" step {found.get('step')}, and goes on",
                code="DeploymentTimedOut",
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


@contextmanager
def _quiet() -> Iterator[Show]:
    yield lambda operation: None


@contextmanager
def shown_steps() -> Iterator[Show]:
    """Prints each step once it has ended; on a terminal, the current one with its time as well."""
    printed = 0
    out = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    status = out.status("") if out.is_terminal else None

    def show(operation: Mapping[str, Any]) -> None:
        nonlocal printed
        steps = [step for step in operation["steps"] if step["ended"] is not None]
        for step in steps[printed:]:
            out.print(Text(printable(step_line(step))))
        printed = len(steps)
        if operation["state"] in ENDED:
            took_s = (operation["ended"] or operation["created"]) - operation["created"]
            out.print(Text(f"{operation['state']:<12}{took_s:7.1f} s"))
        elif status is not None:
            seconds = time.time() - operation["created"]  # noqa: TID251  # shown only
            status.update(Text(f"{operation.get('step') or 'waiting'}  {max(0.0, seconds):.0f} s"))

    if status is None:
        yield show
        return
    with status:
        yield show
