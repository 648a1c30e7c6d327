"""Commands on operations: list, show, logs, cancel."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cluster.timed_line import stamp
from scorefront.cli import show
from scorefront.cli.arguments import DEFAULT_URL, ControlCa, ControlUrl, TableFormat, checked_name, control_plane
from scorefront.cli.command_errors import CommandError

OperationId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the operation, as `operation list` shows it.", show_default=False)
]
Output = Annotated[TableFormat, typer.Option("-o", "--output", help="How to print.")]
SUCCEEDED = "Succeeded"


def listed(
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="NAME", help="Only of this endpoint.", callback=checked_name),
    ] = None,
    output: Output = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """List deployments and other changes that take a while, the newest first.

    \b
    Examples:
      scorefront operation list
      scorefront operation list --endpoint iris -o json
    """
    found = control_plane(control_url, control_ca).operations(endpoint)
    if output is not TableFormat.TABLE:
        show.print_object({"value": found}, output)
    elif found:
        show.console().print(show.operation_table(found))
    else:
        show.note("there is no operation yet; `scorefront model deploy` begins one")


def shown(
    operation: OperationId,
    output: Output = TableFormat.TABLE,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Show one operation: its steps with their times and results, and the reason of a failure.

    \b
    Example:
      scorefront operation show 3f0c2a3e-5a0e-4c5e-8f0e-0d3e6f1a2b3c
    """
    found = control_plane(control_url, control_ca).operation(operation)
    if output is not TableFormat.TABLE:
        show.print_object(found, output)
        return
    show.console().print(show.operation_table([found]))
    show.console().print(show.step_table(found["steps"]))
    if found["error"] is not None:
        print(show.shown("\n".join([found["error"]["message"], *found["error"]["logTail"]])))


def logs(
    operation: OperationId,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new lines until the operation ends.")
    ] = False,
    control_url: ControlUrl = DEFAULT_URL,
    control_ca: ControlCa = None,
) -> None:
    """Print the log of an operation, each line with its time (UTC).

    With -f the exit status is 1 if the operation does not succeed. Ctrl-C leaves the operation running.

    \b
    Example:
      scorefront operation logs 3f0c2a3e-5a0e-4c5e-8f0e-0d3e6f1a2b3c -f
    """
    control = control_plane(control_url, control_ca)
    for entry in control.operation_log(operation, follow):
        print(show.shown(_line(entry)), flush=follow)
    if follow and (state := control.operation(operation)["state"]) != SUCCEEDED:
        raise CommandError(f"operation {operation}: {state}")


def cancel(operation: OperationId, control_url: ControlUrl = DEFAULT_URL, control_ca: ControlCa = None) -> None:
    """Cancel an operation; the endpoint goes back to its former state.

    \b
    Example:
      scorefront operation cancel 3f0c2a3e-5a0e-4c5e-8f0e-0d3e6f1a2b3c
    """
    control_plane(control_url, control_ca).cancel_operation(operation)
    print(f"operation {operation} cancelled")


def _line(entry: Mapping[str, Any]) -> str:
    return f"{stamp(entry['at'])[:-4]}Z {entry['line']}"
