"""Command for recorded arrivals: trace."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.trace_routes import LONGEST_S
from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    EndpointName,
    OneVersion,
    control_plane,
    period_s,
)
from scorefront.cli.command_errors import InvalidInput


def trace(
    name: EndpointName,
    version: OneVersion = None,
    since: Annotated[str, typer.Option("--since", metavar="1h", help="Only the last: 90s, 30m, 1h.")] = "1h",
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write; default: standard output.")
    ] = None,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Write the arrivals of an endpoint's requests, their service times and sizes as CSV, without payloads.

    The last hour is kept, at most 100,000 requests per router worker.

    \b
    Examples:
      scorefront trace iris --since 1h -o trace.csv
      scorefront simulate trace.csv --suggest --p99 200ms
    """
    seconds = period_s(since)
    if not 1 <= seconds <= LONGEST_S:
        raise InvalidInput(f"--since: must be from 1s to {LONGEST_S}s; got {since!r}")
    text = control_plane(control_url, control_ca).trace(name, version, seconds)
    if file is None:
        print(text, end="")
        return
    file.write_text(text)
    show.note(f"{text.count(chr(10)) - 1} requests written to {file}")
