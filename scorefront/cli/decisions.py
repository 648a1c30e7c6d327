"""Commands about the number of replicas: why, size."""

from typing import Annotated

import typer

from autoscaler.sizing import replicas_for
from controlplane.openapi import MAX_LAST
from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlCa,
    ControlUrl,
    TableFormat,
    checked_name,
    control_plane,
    number,
    number_above_zero,
    optional_name,
    whole_number,
)
from scorefront.cli.command_errors import InvalidInput

NO_FRONT_END_DECISION = (
    "no decision on the number of router workers yet;"
    " there is none with `up --workers N`, nor with SCOREFRONT_CLUSTER_PURPOSE=DevTest"
)
MAX_RPS = 1_000_000.0
MAX_SECONDS = 3600.0
MAX_CONCURRENCY = 10_000


def why(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An endpoint; the router's own workers without.")
    ] = None,
    last: Annotated[str, typer.Option("--last", metavar="N", help=f"How many decisions, 1 to {MAX_LAST}.")] = "20",
    version: Annotated[str | None, typer.Option("--version", metavar="V", help="Only this version.")] = None,
    output: Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")] = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Explain the number of replicas: the last scaling decisions, newest last, with inputs, rule and outcome.

    Without NAME: decisions on the front end itself, the number of routers and of workers per router.

    \b
    Examples:
      scorefront why iris --last 5
      scorefront why
    """
    version = optional_name("--version", version)
    count = whole_number("--last", last, 1, MAX_LAST)
    if name is None and version is not None:
        raise InvalidInput("--version: needs the NAME of an endpoint before it, as in: why iris --version green")
    control = control_plane(control_url, control_ca)
    if name is None:
        decisions = control.front_end_decisions(count)
    else:
        decisions = control.decisions(checked_name("NAME", name), count, version)
    if output is not TableFormat.TABLE:
        show.print_object({"value": decisions}, output)
    elif decisions:
        show.console().print(show.decision_table(decisions) if name else show.front_end_table(decisions))
    else:
        show.note(f"no scaling decision for {name} yet" if name else NO_FRONT_END_DECISION)


def size(
    rps: Annotated[str, typer.Option("--rps", metavar="N", help="Requests per second, over 0.", show_default=False)],
    seconds: Annotated[
        str, typer.Option("--seconds", metavar="S", help="Time that one request takes, over 0.", show_default=False)
    ],
    target_utilization: Annotated[
        str, typer.Option("--target-utilization", metavar="PERCENT", help="Share of slots to keep in use, 1 to 100.")
    ] = "70",
    concurrency: Annotated[
        str, typer.Option("--concurrency", metavar="N", help="Requests that a replica serves at once, 1 or more.")
    ] = "1",
) -> None:
    """Print the number of replicas for a load: ceil(rps x seconds / (concurrency x target utilization)).

    \b
    Example:
      scorefront size --rps 20 --seconds 10
    """
    rate = number_above_zero("--rps", rps, MAX_RPS)
    duration = number_above_zero("--seconds", seconds, MAX_SECONDS)
    target = number("--target-utilization", target_utilization, 1, 100) / 100
    slots = whole_number("--concurrency", concurrency, 1, MAX_CONCURRENCY)
    print(max(1, replicas_for(rate, duration, target, slots)))
