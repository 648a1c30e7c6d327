"""Requests per second and CPU per request on one core each, in interleaved rounds against one backend."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.bench import wrk
from loadtests.bench.chart import Bar, svg
from loadtests.bench.figures import Promise, Table, middle, rotated
from loadtests.installation import manifest
from loadtests.peers import envoy, haproxy, nginx, relay
from loadtests.peers.rig import Rig, Target
from loadtests.peers.scorefront import Product, routed

BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]], "x":1}'[:60]
OURS = "scorefront"
UNIQUE = "scorefront unique heads"
POLLING = "scorefront polling"
PEERS = (OURS, UNIQUE, POLLING, "nginx", "HAProxy", "Envoy", "aiohttp relay", "direct")
PROMISED = (("Envoy", 1.5), ("nginx", 0.6), ("aiohttp relay", 6.0))
POLL_S = "0.001"
"""Longer than the pauses between the requests of every part of the benchmarks."""
UNIQUE_FIELD = ("x-unique", wrk.NEVER_THE_SAME.decode())


@dataclass(slots=True)
class Measured:
    """One row: the target of the load and the result of each round."""

    target: Target
    script: str
    runs: list[wrk.Run] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median requests per second."""
        return middle([run.rate for run in self.runs])

    @property
    def cpu_ns(self) -> float:
        """Median CPU of the proxy per request, nanoseconds."""
        return middle([run.cpu_ns for run in self.runs])

    @property
    def failed(self) -> int:
        """Requests of all rounds that failed."""
        return sum(run.failed for run in self.runs)


def targets(rig: Rig, wanted: Sequence[str]) -> list[Target]:
    """Start the targets that are asked for and installed. `direct` is the backend; unique heads go to scorefront."""
    backend = nginx.start_backend(rig)
    port = backend.port
    started = [backend] if "direct" in wanted else []
    if OURS in wanted or UNIQUE in wanted:
        product = Product(rig, manifest("bench", [routed("blue", [port])]))
        started += [product.target(name=name) for name in (OURS, UNIQUE) if name in wanted]
    if POLLING in wanted:
        polling = Product(rig, manifest("bench", [routed("blue", [port])]), environment={"SCOREFRONT_POLL_S": POLL_S})
        started.append(polling.target(name=POLLING))
    if "nginx" in wanted:
        started.append(nginx.start(rig, [port]))
    if "HAProxy" in wanted and haproxy.version():
        started.append(haproxy.start(rig, [port]))
    if "Envoy" in wanted and envoy.version():
        started.append(envoy.start(rig, [port]))
    if "aiohttp relay" in wanted:
        started.append(relay.start(rig, port))
    return sorted(started, key=lambda target: PEERS.index(target.name))


def measure(rounds: int, seconds: int, wanted: Sequence[str]) -> list[Measured]:
    """One run of the comparison; every target is warmed up for a second first."""
    with Rig() as rig:
        measured = [Measured(target, _script(target)) for target in targets(rig, wanted)]
        for each in measured:
            wrk.drive(each.target, each.script, rig.directory, 1)
        for _, each in rotated(measured, rounds):
            each.runs.append(wrk.drive(each.target, each.script, rig.directory, seconds))
    return measured


def _script(target: Target) -> str:
    unique = [UNIQUE_FIELD] if target.name == UNIQUE else []
    return wrk.script(target.head("POST", ("Content-Length", str(len(BODY))), *unique), BODY)


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The ratios that the product promises."""
    return [Promise(f"throughput, ratio to {peer}", _ratio(measured, OURS, peer), bound) for peer, bound in PROMISED]


def _ratio(measured: Sequence[Measured], ours: str, peer: str) -> float:
    rates = {each.target.name: each.rate for each in measured}
    return rates.get(ours, float("nan")) / (rates.get(peer) or float("nan"))


def table(measured: Sequence[Measured], wanted: Sequence[str] = PEERS) -> Table:
    """A row for each; one that is wanted and missing says so."""
    by_name = {each.target.name: each for each in measured}
    columns = ("", "requests/s", "CPU µs per request", "core busy", "failed", *(f"÷ {peer}" for peer, _ in PROMISED))
    rows: list[tuple[str, ...]] = []
    for name in wanted:
        each = by_name.get(name)
        if each is None:
            rows.append((name, "not installed", *[""] * (len(columns) - 2)))
            continue
        cpu = ("", "") if name == "direct" else (f"{each.cpu_ns / 1000:.1f}", f"{100 * _busy(each):.0f} %")
        ratios = [f"{_ratio(measured, name, peer):.2f}" if peer in by_name else "" for peer, _ in PROMISED]
        rows.append((name, f"{each.rate:,.0f}", *cpu, f"{each.failed:,}", *ratios))
    return Table(columns, tuple(rows))


def _busy(each: Measured) -> float:
    return middle([run.share_of_core for run in each.runs])


def chart(measured: Sequence[Measured]) -> str:
    """Requests per second as bars."""
    bars = [
        Bar(each.target.name, each.rate, f"{each.rate:,.0f}", each.target.name.startswith(OURS)) for each in measured
    ]
    return svg("Requests per second on one core", "POST, 60-byte body, 32 connections, medians of one run", bars)
