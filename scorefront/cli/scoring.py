"""Commands that use an endpoint: score, logs."""

import sys
from typing import Annotated, Any

import typer

from controlplane.openapi import MAX_TAIL
from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    EndpointName,
    OneVersion,
    checked_name,
    control_plane,
    scoring_data,
)
from scorefront.cli.client import ControlClient
from scorefront.cli.client import score as send_score
from scorefront.cli.command_errors import CommandError
from scorefront.http_client import Reply


def score(
    name: EndpointName,
    data: Annotated[
        str | None,
        typer.Option(
            "-d", "--data", metavar="JSON|@FILE", help="What to score: JSON, or @FILE (@- is standard input)."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="V", help="Ask this version, outside the traffic split.", callback=checked_name
        ),
    ] = None,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Send one request to a model and print its answer. The key or token is fetched for you.

    Without -d it sends a GET. A status other than 2xx goes to standard error, with exit status 1.

    \b
    Examples:
      scorefront score iris -d '{"data": [[5.1, 3.5, 1.4, 0.2]]}'
      scorefront score iris -d @examples/iris/sample.json --version green
    """
    body = scoring_data(data, sys.stdin.buffer)
    control = control_plane(control_url, control_ca)
    status = control.endpoint(name)["status"]
    reply = send_score(status["scoringUri"], body, _credential(control, name, status["auth"]), version)
    if not 200 <= reply.status < 300:
        raise CommandError(_failure(reply))
    _write(reply.body)


def _credential(control: ControlClient, name: str, auth: str) -> str | None:
    if auth == "key":
        return str(control.keys(name)["primaryKey"])
    if auth == "token":
        return str(control.issue_token(name)["accessToken"])
    return None


def _failure(reply: Reply) -> str:
    code = reply.headers.get("x-ms-error-code", "")
    body = reply.body.decode(errors="replace").rstrip()
    return f"status {reply.status} {code}".rstrip() + (f"\n{body}" if body else "")


def _write(body: bytes) -> None:
    """As it came for a pipe; for a terminal without control characters, and with the end of a line."""
    if sys.stdout.isatty():
        print(show.shown(body.decode(errors="replace").removesuffix("\n")))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(body)


def logs(
    name: EndpointName,
    version: OneVersion = None,
    tail: Annotated[
        int, typer.Option("--tail", metavar="N", help="Last lines of each replica.", min=0, max=MAX_TAIL)
    ] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Print the output of the replicas of an endpoint by time, each line with version and replica.

    \b
    Examples:
      scorefront logs iris --tail 20
      scorefront logs iris --version green -f
    """
    for entry in control_plane(control_url, control_ca).logs(name, version, tail, follow):
        print(show.shown(_line(entry)), flush=follow)
    if follow:
        show.note("the control plane has closed the stream")


def _line(entry: dict[str, Any]) -> str:
    return f"{entry['version']} {entry['replica']} | {entry['line']}"
