"""Composition of the commands; every failure becomes one message on standard error and an exit status.

0 done · 1 refused, not found, unreachable · 2 usage or invalid input · 130 interrupted. Never a traceback, unless
SCOREFRONT_DEBUG is set.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from scorefront import __version__
from scorefront.build_kind import build_kind
from scorefront.cli import (
    azureml,
    data_command,
    endpoints,
    model_deploy,
    models,
    operations,
    scoring,
    simulation,
    trace_command,
)
from scorefront.cli import decisions as scaling
from scorefront.cli import doctor_command as doctor
from scorefront.cli import processes as deployment
from scorefront.cli import up_command as up
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.environment_check import known_settings, misspelt
from serving.faults import InvalidManifest
from serving.printable import printable

INTERRUPTED = 130
"""128 + SIGINT, as shells count."""

app = typer.Typer(
    name="scorefront",
    help="A scoring front end for models that serve a few requests at a time: slots, versions, keys, autoscaling.",
    epilog="Start with: scorefront up -f examples/iris/endpoint.yaml",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # examples keep their lines, so that they can be pasted
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "up": (up.up, "Run everything on this machine."),
    "apply": (endpoints.apply, "Declare endpoints, or change them."),
    "get": (endpoints.get, "Show endpoints: traffic, replicas, slots."),
    "delete": (endpoints.delete, "Remove an endpoint."),
    "keys": (endpoints.keys, "Show an endpoint's keys, or make one anew."),
    "token": (endpoints.token, "Get a token for an endpoint."),
    "score": (scoring.score, "Send one request to a model."),
    "logs": (scoring.logs, "Print what replicas wrote."),
    "data": (data_command.data, "Print collected payloads."),
    "traffic": (endpoints.traffic, "Split traffic between versions."),
    "restart": (endpoints.restart, "Replace replicas; edited files take effect."),
    "why": (scaling.why, "Explain the number of replicas."),
    "size": (scaling.size, "How many replicas a load needs."),
    "trace": (trace_command.trace, "Write the arrivals of real requests as CSV."),
    "simulate": (simulation.simulate, "Replay a trace through a scaling policy."),
    "import": (azureml.import_deployment, "Make a manifest of Azure ML v1 files."),
    "doctor": (doctor.doctor, "Check a cluster and report problems."),
    "router": (deployment.router, "The router of a cluster."),
    "control": (deployment.control, "The control plane of a cluster."),
}
GROUPS: dict[str, tuple[str, dict[str, tuple[Callable[..., None], str]]]] = {
    "model": (
        "Register models, and look after them.",
        {
            "register": (models.register, "Register a file or folder as a model."),
            "list": (models.listed, "Registered models."),
            "show": (models.shown, "One model with its files."),
            "download": (models.download, "Write a model's files to a folder."),
            "delete": (models.delete, "Remove a version of a model."),
            "deploy": (model_deploy.deploy, "Deploy models as a service."),
        },
    ),
    "operation": (
        "Follow and cancel deployments.",
        {
            "list": (operations.listed, "Deployments and their states."),
            "show": (operations.shown, "One deployment with its steps."),
            "logs": (operations.logs, "The log of a deployment."),
            "cancel": (operations.cancel, "Take a deployment back."),
        },
    ),
}
"""Word -> summary, and the commands behind it."""
for word, (command, summary) in COMMANDS.items():
    app.command(word, short_help=summary)(command)
for word, (summary, commands) in GROUPS.items():
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=summary)
    for name, (command, purpose) in commands.items():
        group.command(name, short_help=purpose)(command)
    app.add_typer(group, name=word, short_help=summary)
app.command("report-exits", hidden=True)(deployment.report_exits)
app.command("collector", hidden=True)(deployment.collector)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"scorefront {__version__} ({build_kind()})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line (without the program's name); returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter must not end the command
    try:
        _warn_of_misspelt_variables()
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, e.g. `| head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may the flush at exit complain
        return CommandError.exit_status
    except OSError as error:
        return _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), 1)


def _warn_of_misspelt_variables() -> None:
    if suspects := [name for name in os.environ if name.upper().startswith("SCORE")]:
        for warning in misspelt(suspects, known_settings()):
            print(f"warning: {printable(warning)}", file=sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    try:
        result = app(list(arguments), prog_name="scorefront", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except InvalidManifest as error:
        return _fail(str(error), InvalidInput.exit_status)
    except CommandError as error:
        return _fail(str(error), error.exit_status)
    except typer.TyperException as error:
        return _usage(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError:
        raise
    except Exception as error:
        if os.environ.get("SCOREFRONT_DEBUG"):
            raise
        return _fail(f"internal error: {type(error).__name__}: {error} (SCOREFRONT_DEBUG=1 shows where)", 1)


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> int:
    if not arguments or (len(arguments) == 1 and arguments[0] in GROUPS):  # the help, for want of a command
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    words = arguments[:1] if arguments[0] in COMMANDS else []
    if arguments[0] in GROUPS:
        words = [arguments[0], *(word for word in arguments[1:2] if word in GROUPS[arguments[0]][1])]
    hint = " ".join(["scorefront", *words, "--help"])
    if isinstance(error, typer.BadParameter):
        _name_the_range(error)
    message = error.format_message().replace("Value error, ", "")  # the word of a library, of no use to anyone
    return _fail(f"{message}\ntry `{hint}`", error.exit_code)


def _name_the_range(error: typer.BadParameter) -> None:
    """Both limits and the value, where the library names only the limit that was missed."""
    least, most = getattr(error.param, "min", None), getattr(error.param, "max", None)
    if isinstance(error.__cause__, ValueError) and least is not None and most is not None:
        value = error.__cause__.errors()[0]["input"]  # type: ignore[attr-defined]  # of pydantic
        kind = "number" if isinstance(most, float) else "whole number"
        error.message = f"must be a {kind} from {least:.15g} to {most:.15g}; got {value!r}"


def _fail(message: str, status: int) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return status
