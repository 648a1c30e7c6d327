"""The command simulate: a scaling policy on a recorded trace, in virtual time."""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from autoscaler.policy_text import DAY_S, POLICY_OPTIONS, policy_changes, policy_text, with_changes
from autoscaler.simulation.oracle import oracle_replica_seconds
from autoscaler.simulation.replay import ReplayResult, ReplaySettings, replay
from autoscaler.simulation.suggestion import suggest
from autoscaler.simulation.trace import InvalidTrace, ServiceTimes, completed, read_trace, service_times
from scorefront.cli import show
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.cli.simulation_chart import chart
from serving.endpoint import AutoscalePolicy
from serving.models import MAX_REPLICAS

MAX_SLOTS = 1000
MAX_WAIT_MS = 300_000
MAX_START_S = 3600.0
SIMULATED_OPTIONS = {**POLICY_OPTIONS, "slots": (1, MAX_SLOTS), "queue-wait-ms": (1, MAX_WAIT_MS)}
"""Name in --policy -> its range."""


class SimulationFormat(StrEnum):
    """Output format of a simulation."""

    TABLE = "table"
    JSON = "json"
    SVG = "svg"
    HTML = "html"


def simulate(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A CSV file with a header; - for standard input.")],
    slots: Annotated[int, typer.Option("--slots", help="Slots of a replica.", min=1, max=MAX_SLOTS)] = 1,
    target: Annotated[
        int, typer.Option("--target-utilization", metavar="PERCENT", help="Share of slots in use.", min=1, max=100)
    ] = 70,
    least: Annotated[int, typer.Option("--min", help="Replicas at least.", min=1, max=MAX_REPLICAS)] = 1,
    most: Annotated[int, typer.Option("--max", help="Replicas at most.", min=1, max=MAX_REPLICAS)] = 10,
    start_s: Annotated[
        float, typer.Option("--start-seconds", metavar="S", help="Start-up time.", min=0.0, max=MAX_START_S)
    ] = 20.0,
    queue_wait_ms: Annotated[
        int, typer.Option("--queue-wait-ms", metavar="MS", help="Longest wait for a slot.", min=1, max=MAX_WAIT_MS)
    ] = 500,
    window_s: Annotated[
        int, typer.Option("--window-seconds", metavar="S", help="Scale-down window.", min=1, max=DAY_S)
    ] = 60,
    refresh_s: Annotated[
        int, typer.Option("--refresh-seconds", metavar="S", help="Time between two decisions.", min=1, max=3600)
    ] = 1,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME=N,…",
            help=f"A policy with changes to the options, repeatable: {', '.join(SIMULATED_OPTIONS)}.",
        ),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            metavar="DIST",
            help="Service times where the trace has none: ms, exponential:MS or lognormal:MS:SIGMA.",
        ),
    ] = "100",
    seed: Annotated[int, typer.Option("--seed", help="Of the drawn service times.")] = 1,
    wanted: Annotated[
        bool, typer.Option("--suggest", help="Search target, min and max for the cheapest policy that keeps --p99.")
    ] = False,
    p99: Annotated[str, typer.Option("--p99", metavar="TIME", help="Longest wait for --suggest: 200ms, 1s.")] = "200ms",
    output: Annotated[SimulationFormat, typer.Option("-o", "--output", help="How to print.")] = SimulationFormat.TABLE,
) -> None:
    """Replay a trace through the scaling policy in virtual time: replicas, waits, refusals, cost beside an oracle.

    TRACE is CSV with the columns arrival (seconds from the start), service_ms and bytes; the last two are optional.

    \b
    Examples:
      scorefront simulate trace.csv --max 50
      scorefront simulate trace.csv --policy target=50 --policy target=90,min=5 -o svg > chart.svg
      scorefront simulate trace.csv --suggest --p99 200ms
    """
    if least > most:
        raise InvalidInput(f"--min: must be at most --max ({most}); got {least}")
    policy = AutoscalePolicy(
        min_replicas=least,
        max_replicas=most,
        target_utilization=target / 100,
        refresh_period_s=float(refresh_s),
        scale_down_window_s=float(window_s),
    )
    settings = ReplaySettings(policy, slots, start_s, queue_wait_ms / 1000)
    compared = [_changed(settings, text) for text in policies] if policies else [settings]
    requests = _requests(trace, _service_times(service), seed)
    if wanted:
        found = suggest(requests, settings, _seconds(p99))
        if found is None:
            raise CommandError(
                f"no policy keeps a 99 % wait of {p99} without refusals: more than {MAX_REPLICAS} replicas would be"
                " needed, or the longest service time is longer than the trace"
            )
        results = [found]
    else:
        results = [replay(requests, each) for each in compared]
    _print(requests, results, output)


def _print(requests: Sequence[tuple[float, float]], results: Sequence[ReplayResult], output: SimulationFormat) -> None:
    documents = [_document(requests, result) for result in results]
    if output is SimulationFormat.JSON:
        print(json.dumps(documents))
    elif output is SimulationFormat.TABLE:
        show.console().print(_table(documents))
    else:
        print(chart(requests, [(document["policy"], document["replicas"]) for document in documents], output.value))


def _document(requests: Sequence[tuple[float, float]], result: ReplayResult) -> dict[str, Any]:
    """The JSON object of one policy."""
    settings = result.settings
    policy = settings.policy
    oracle = oracle_replica_seconds(
        requests,
        settings.slots,
        policy.min_replicas,
        policy.max_replicas,
        settings.start_s,
        settings.queue_wait_s,
    )
    return {
        "policy": f"{policy_text(policy)},slots={settings.slots}",
        "replicaSeconds": round(result.replica_seconds, 3),
        "oracleReplicaSeconds": round(oracle, 3),
        **{f"waitP{share}Ms": round(result.wait_s(share / 100) * 1000, 3) for share in (50, 95, 99)},
        "refused": result.refused,
        "utilization": round(result.utilization, 4),
        "replicas": [[round(at_s, 3), number] for at_s, number in result.replicas],
    }


def _table(documents: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("POLICY")
    for title in ("REPLICA-SECONDS", "ORACLE", "× ORACLE", "P50 WAIT", "P95", "P99", "REFUSED", "UTILIZATION", "MOST"):
        table.add_column(title, justify="right")
    for one in documents:
        seconds, oracle = one["replicaSeconds"], one["oracleReplicaSeconds"]
        table.add_row(
            one["policy"],
            f"{seconds:.0f}",
            f"{oracle:.0f}",
            f"{seconds / oracle:.2f}" if oracle else "–",
            *(f"{one[f'waitP{share}Ms']:.0f} ms" for share in (50, 95, 99)),
            str(one["refused"]),
            f"{one['utilization']:.0%}",
            str(max(number for _, number in one["replicas"])),
        )
    return table


def _requests(trace: Path, times: ServiceTimes, seed: int) -> list[tuple[float, float]]:
    try:
        if str(trace) == "-":
            requests = read_trace(sys.stdin)
        else:
            with trace.open(encoding="utf-8", newline="") as lines:
                requests = read_trace(lines)
    except InvalidTrace as error:
        raise InvalidInput(f"{trace}: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{trace}: {error.strerror}") from None
    return completed(requests, times, random.Random(seed).random)


def _service_times(text: str) -> ServiceTimes:
    try:
        return service_times(text)
    except ValueError as error:
        raise InvalidInput(f"--service: {error}") from None


def _changed(settings: ReplaySettings, text: str) -> ReplaySettings:
    """The settings with the changes of one --policy."""
    try:
        given = policy_changes(text, SIMULATED_OPTIONS)
        policy = with_changes(settings.policy, given)
    except ValueError as error:
        raise InvalidInput(f"--policy: {error}") from None
    wait_s = given["queue-wait-ms"] / 1000 if "queue-wait-ms" in given else settings.queue_wait_s
    return replace(settings, policy=policy, slots=given.get("slots", settings.slots), queue_wait_s=wait_s)


def _seconds(text: str) -> float:
    """A time such as 200ms or 1.5s in seconds."""
    for unit, factor in (("ms", 0.001), ("s", 1.0)):
        number = text.removesuffix(unit)
        if number != text:
            try:
                seconds = float(number) * factor
            except ValueError:
                break
            if 0 <= seconds <= MAX_START_S:
                return seconds
    raise InvalidInput(f"--p99: must be a time from 0ms to {MAX_START_S:g}s, such as 200ms; got {text!r}")
