"""CPU of the router per request with request records and spans."""

import re
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.bench import wrk
from loadtests.bench.figures import Table, middle, rotated
from loadtests.collecting_cost import BODY
from loadtests.installation import manifest
from loadtests.otlp_receiver import OtlpReceiver
from loadtests.peers import nginx
from loadtests.peers.rig import Rig, Target
from loadtests.peers.scorefront import Product, routed

LIMITS = {"1 %": 1.01, "100 %": 1.10}
_telemetry = re.compile(r'scorefront_telemetry_records_total\{endpoint="(\w+)",result="(\w+)"\} (\S+)')
TRACEPARENT = ("traceparent", f"00-{wrk.NEVER_THE_SAME.decode()}{'4b' * 8}-{'1f' * 8}-01")
"""Header field of clients that begin a trace for every request."""


@dataclass(slots=True)
class ExportWay:
    """One way to export, and its runs."""

    name: str
    target: Target
    fields: tuple[tuple[str, str], ...] = ()
    """Further fields of its requests."""
    runs: list[wrk.Run] = field(default_factory=list)


def telemetry_cost(rounds: int, seconds: int) -> int:
    """Print CPU of the router worker per request, in interleaved rounds; the exit status.

    At 1 % only spans are exported, of a hundredth of the requests.
    """
    with OtlpReceiver(keeps=False) as receiver, Rig() as rig:
        port = nginx.start_backend(rig).port
        every = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_TRACES_SAMPLER": "always_on"}
        hundredth = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
        version = routed("blue", [port])

        def product(name: str, environment: dict[str, str], insights: bool) -> Product:
            """An installation of its own: endpoints with and without telemetry have no shape of heads in common."""
            return Product(rig, manifest(name, [version], appInsightsEnabled=insights), environment=environment)

        full = product("cost2", every, True)
        thin = product("cost1", {**every, **hundredth, "OTEL_LOGS_EXPORTER": "none"}, True)
        off, few, on = product("cost0", every, False).target("cost0"), thin.target("cost1"), full.target("cost2")
        ways = [ExportWay("off", off), ExportWay("1 %", few), ExportWay("100 %", on)]
        traced = [ExportWay("off", off, (TRACEPARENT,)), ExportWay("100 %", on, (TRACEPARENT,))]
        _drive(rig, [*ways, *traced], rounds, seconds)
        counted = {
            endpoint: text
            for each in (full, thin)
            for endpoint, text in _counted_by_endpoint(each.control_url, _telemetry).items()
        }
    if len(counted) != 2 or not receiver.size_bytes:
        raise SystemExit(f"no figures: requests were not counted: {counted}")
    print("clients without traces")
    failed = _judge(ways, counted, "exported")
    print("\nclients with a trace for each request")
    return failed | _judge(traced, counted, "exported")


def _drive(rig: Rig, ways: Sequence[ExportWay], rounds: int, seconds: int) -> None:
    """Run all ways in interleaved rounds, after a round that does not count."""
    for _, way in [*((0, way) for way in ways), *rotated(ways, rounds)]:
        head = way.target.head("POST", *way.fields, ("Content-Length", str(len(BODY))))
        way.runs.append(wrk.drive(way.target, wrk.script(head, BODY), rig.directory, seconds))
    failed = sum(run.failed for way in ways for run in way.runs)
    if failed or not all(run.requests for way in ways for run in way.runs):
        raise SystemExit(f"no figures: {failed} requests failed")


def _judge(ways: Sequence[ExportWay], counted: dict[str, str], title: str) -> int:
    """Print the figures; 1 if a limit is exceeded.

    ways: the first one is the base. counted: counts of each endpoint. title: of the ways.
    """
    base = ways[0]
    rows, worst = [], 0
    for way in ways:
        endpoint = way.target.path.split("/")[-2]
        pairs = zip(way.runs[1:], base.runs[1:], strict=True)
        ratio = middle([mine.cpu_ns / theirs.cpu_ns for mine, theirs in pairs])
        cpu_us = middle([run.cpu_ns for run in way.runs[1:]]) / 1000
        rows.append((way.name, f"{cpu_us:.2f}", f"{ratio:.3f}", counted.get(endpoint, "")))
        worst |= ratio > LIMITS.get(way.name, 1.0)
    print(Table((title, "CPU µs per request", "ratio to off", "counted"), tuple(rows)).text())
    return int(worst)


def _counted_by_endpoint(control_url: str, counts: re.Pattern[str]) -> dict[str, str]:
    """Endpoint -> its counts by result, as text. `counts`: endpoint, result and number in a line of the metrics."""
    with urllib.request.urlopen(f"{control_url}/metrics", timeout=10) as answer:
        found: dict[str, str] = {}
        for endpoint, result, count in counts.findall(answer.read().decode()):
            if float(count):
                found[endpoint] = f"{found.get(endpoint, '')} {result} {float(count):.0f}".strip()
        return found
