"""Commands about the number of replicas: why, size."""

from typing import Annotated

import typer

from autoscaler.sizing import replicas_for
from scorefront.cli import show
from scorefront.cli.arguments import (
    DEFAULT_URL,
    ControlUrl,
    EndpointName,
    TableFormat,
    checked_name,
    control_plane,
    number,
    number_above_zero,
    optional_name,
    whole_number,
)

MAX_LAST = 1000
MAX_RPS = 1_000_000.0
MAX_SECONDS = 3600.0
MAX_CONCURRENCY = 10_000


def why(
    name: EndpointName,
    last: Annotated[str, typer.Option("--last", metavar="N", help=f"How many decisions, 1 to {MAX_LAST}.")] = "20",
    version: Annotated[str | None, typer.Option("--version", metavar="V", help="Only this version.")] = None,
    output: Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")] = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
) -> None:
    """Explain the number of replicas: the last scaling decisions, newest last, with inputs, rule and outcome.

    \b
    Example:
      scorefront why iris --last 5
    """
    checked_name("NAME", name)
    version = optional_name("--version", version)
    count = whole_number("--last", last, 1, MAX_LAST)
    decisions = control_plane(control_url).decisions(name, count, version)
    if output is not TableFormat.TABLE:
        show.print_object({"value": decisions}, output)
    elif decisions:
        show.console().print(show.decision_table(decisions))
    else:
        show.note(f"no scaling decision for {name} yet")


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
    """How many replicas a load needs: ceil(rps x seconds / (concurrency x target utilization)). Prints the number.

    \b
    Example:
      scorefront size --rps 20 --seconds 10
    """
    rate = number_above_zero("--rps", rps, MAX_RPS)
    duration = number_above_zero("--seconds", seconds, MAX_SECONDS)
    target = number("--target-utilization", target_utilization, 1, 100) / 100
    slots = whole_number("--concurrency", concurrency, 1, MAX_CONCURRENCY)
    print(max(1, replicas_for(rate, duration, target, slots)))
