"""Commands about the number of replicas: why, size."""

from typing import Annotated

import typer

from autoscaler.policy_text import POLICY_OPTIONS, policy_changes
from autoscaler.sizing import replicas_for
from controlplane.openapi import MAX_LAST
from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    OneVersion,
    TableFormat,
    checked_name,
    control_plane,
)
from scorefront.cli.client import ControlClient
from scorefront.cli.command_errors import InvalidInput

NO_FRONT_END_DECISION = (
    "no decision on the number of router workers yet;"
    " there is none with `up --workers N`, nor with SCOREFRONT_CLUSTER_PURPOSE=DevTest"
)
LEAST = 0.0001
MAX_RPS = 1_000_000.0
MAX_SECONDS = 3600.0
MAX_CONCURRENCY = 10_000


def why(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="An endpoint; the router's own workers without.", callback=checked_name),
    ] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", help="How many decisions.", min=1, max=MAX_LAST)] = 20,
    version: OneVersion = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--what-if",
            metavar="NAME=N,…",
            help=f"Replay the last hour with a changed policy: {', '.join(POLICY_OPTIONS)}.",
        ),
    ] = None,
    output: Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")] = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Explain the number of replicas: the last scaling decisions, newest last, with inputs, rule and outcome.

    Without NAME: decisions on the front end itself, the number of routers and of workers per router.

    \b
    Examples:
      scorefront why iris --last 5
      scorefront why iris --what-if target=50,min=2
      scorefront why
    """
    if name is None and version is not None:
        raise InvalidInput("--version: needs the NAME of an endpoint before it, as in: why iris --version green")
    control = control_plane(control_url, control_ca)
    if policy is not None:
        _show_what_if(control, name, policy, version, output)
        return
    decisions = control.decisions(name, last, version) if name else control.front_end_decisions(last)
    if output is not TableFormat.TABLE:
        show.print_object({"value": decisions}, output)
    elif decisions:
        show.console().print(show.decision_table(decisions) if name else show.front_end_table(decisions))
    else:
        show.note(f"no scaling decision for {name} yet" if name else NO_FRONT_END_DECISION)


def _show_what_if(
    control: ControlClient, name: str | None, policy: str, version: str | None, output: TableFormat
) -> None:
    if name is None:
        raise InvalidInput("--what-if: needs the NAME of an endpoint before it, as in: why iris --what-if min=2")
    try:
        policy_changes(policy)
    except ValueError as error:
        raise InvalidInput(f"--what-if: {error}") from None
    found = control.what_if(name, policy, version)
    if output is not TableFormat.TABLE:
        show.print_object({"value": found}, output)
    elif found:
        for one in found:
            show.console().print(show.what_if_table(one))
    else:
        show.note(f"no scaling decision for {name} yet")


def size(
    rps: Annotated[
        float,
        typer.Option("--rps", metavar="N", help="Requests per second.", show_default=False, min=LEAST, max=MAX_RPS),
    ],
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            help="Time that one request takes.",
            show_default=False,
            min=LEAST,
            max=MAX_SECONDS,
        ),
    ],
    target_utilization: Annotated[
        float,
        typer.Option(
            "--target-utilization", metavar="PERCENT", help="Share of slots to keep in use.", min=1.0, max=100.0
        ),
    ] = 70,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", metavar="N", help="Requests that a replica serves at once.", min=1, max=MAX_CONCURRENCY
        ),
    ] = 1,
) -> None:
    """Print the number of replicas for a load: ceil(rps x seconds / (concurrency x target utilization)).

    \b
    Example:
      scorefront size --rps 20 --seconds 10
    """
    print(max(1, replicas_for(rps, seconds, target_utilization / 100, concurrency)))
