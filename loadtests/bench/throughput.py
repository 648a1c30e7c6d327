"""Requests per second and CPU per request on one core each, for each kind of traffic, in interleaved rounds."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from loadtests.bench import wrk
from loadtests.bench.chart import Bar, svg
from loadtests.bench.figures import Promise, Table, middle, rotated
from loadtests.bench.traffic import Heads, requests
from loadtests.installation import manifest
from loadtests.peers import envoy, haproxy, nginx, relay
from loadtests.peers.rig import ROOT, Rig, Target
from loadtests.peers.scorefront import Product, compiled_tree, routed

OURS = "scorefront"
COMPILED = "scorefront compiled"
POLLING = "scorefront polling"
PEERS = (OURS, COMPILED, "nginx", "HAProxy", "Envoy", "aiohttp relay", "direct")
RIVALS = ("Envoy", "nginx")
PROMISED = {OURS: (1.7, 0.5), COMPILED: (2.2, 0.6)}
"""Least ratios to the rivals in each kind of traffic; 2.2 × Envoy where head and answer head repeat."""
PROMISED_REPEATED = 2.2
POLL_S = "0.001"
"""Longer than the pauses between the requests of every part of the benchmarks."""
UNIQUE_FIELD = ("x-unique", wrk.NEVER_THE_SAME.decode())


class Answers(StrEnum):
    """Kind of answers of the backend; the value is its path there."""

    FIXED = "/score"
    """One answer."""
    VARYING = "/varying"
    """x-request-id, ETag, x-exec-ms and Content-Length differ in each answer."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Kind of requests and of answers."""

    heads: Heads
    answers: Answers

    def __str__(self) -> str:
        return f"{self.heads} / {self.answers.name.lower()}"


KINDS = tuple(Traffic(heads, answers) for heads in reversed(Heads) for answers in reversed(Answers))
"""Those that vary most first: clients send them."""
MOST_VARIED, REPEATED = KINDS[0], KINDS[-1]


@dataclass(slots=True)
class Measured:
    """The runs of one target under one kind of traffic."""

    target: Target
    traffic: Traffic
    script: str = ""
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


def targets(rig: Rig, wanted: Sequence[str], answers: Sequence[Answers] = (Answers.FIXED,)) -> list[list[Target]]:
    """Start the targets that are asked for and installed; each as a list, one target per kind of answers.

    `wanted`: names; `direct` is the backend. `answers`: kinds.
    """
    backend = nginx.start_backend(rig)
    port = backend.port
    started = [_paths(backend, answers)] if "direct" in wanted else []
    for name in (OURS, POLLING, COMPILED):
        tree = compiled_tree() if name == COMPILED else ROOT
        if name in wanted and tree is not None:
            started.append(_ours(rig, name, port, answers, tree))
    if "nginx" in wanted:
        started.append(_paths(nginx.start(rig, [port]), answers))
    if "HAProxy" in wanted and haproxy.version():
        started.append(_paths(haproxy.start(rig, [port]), answers))
    if "Envoy" in wanted and envoy.version():
        started.append(_paths(envoy.start(rig, [port]), answers))
    if "aiohttp relay" in wanted:
        started.append(_paths(relay.start(rig, port), answers))
    order = (OURS, COMPILED, POLLING, *PEERS[2:])
    return sorted(started, key=lambda same: order.index(same[0].name))


def _paths(target: Target, answers: Sequence[Answers]) -> list[Target]:
    return [dataclasses.replace(target, path=each.value) for each in answers]


def _ours(rig: Rig, name: str, port: int, answers: Sequence[Answers], tree: Path) -> list[Target]:
    environment = {"SCOREFRONT_POLL_S": POLL_S} if name == POLLING else {}
    named = {each: each.name.lower() for each in answers}
    documents = [
        manifest(endpoint, [routed("blue", [port], replica={"scorePath": each.value})])
        for each, endpoint in named.items()
    ]
    product = Product(rig, *documents, environment=environment, tree=tree)
    return [product.target(endpoint, name=name) for endpoint in named.values()]


def measure(rounds: int, seconds: int, wanted: Sequence[str]) -> list[Measured]:
    """One run of the comparison; every target is warmed up for a second first."""
    with Rig() as rig:
        started = targets(rig, wanted, tuple(Answers))
        measured = [
            Measured(target, Traffic(heads, answers), _script(rig, heads, target))
            for heads in Heads
            for same in started
            for answers, target in zip(Answers, same, strict=True)
        ]
        for same in started:
            warm = next(each for each in measured if each.target is same[0])
            wrk.drive(warm.target, warm.script, rig.directory, 1)
        for _, each in rotated(measured, rounds):
            each.runs.append(wrk.drive(each.target, each.script, rig.directory, seconds))
    return measured


def _script(rig: Rig, heads: Heads, target: Target) -> str:
    name = f"{heads}-{target.port}-{target.path.replace('/', '-')}.requests"
    return wrk.prepared(requests(heads, target), rig.directory, name)


def promises(measured: Sequence[Measured]) -> list[Promise]:
    """The ratios that the product promises, in each kind of traffic, and that nothing failed."""
    ours = [name for name in PROMISED if name == OURS or any(each.target.name == name for each in measured)]
    ratios = [
        Promise(
            f"{name}, {traffic}: requests/s, ratio to {rival}",
            ratio(measured, traffic, rival, name),
            PROMISED_REPEATED if traffic == REPEATED and rival == "Envoy" else bound,
        )
        for name in ours
        for traffic in KINDS
        for rival, bound in zip(RIVALS, PROMISED[name], strict=True)
    ]
    failed = sum(each.failed for each in measured if each.target.name in ours)
    return [*ratios, Promise("scorefront: requests that failed under wrk", failed, 0, at_least=False, digits=0)]


def ratio(measured: Sequence[Measured], traffic: Traffic, peer: str, ours: str = OURS) -> float:
    """Requests per second of scorefront ÷ those of a peer under the same traffic; nan if one is missing.

    `ours`: the build of scorefront, default pure Python.
    """
    rates = {each.target.name: each.rate for each in measured if each.traffic == traffic}
    return rates.get(ours, float("nan")) / (rates.get(peer) or float("nan"))


def rates(measured: Sequence[Measured], wanted: Sequence[str] = PEERS) -> Table:
    """Requests per second: a row per kind of traffic, a column per target, and the ratios."""
    builds = {OURS: "", COMPILED: "compiled "} if COMPILED in wanted else {OURS: ""}
    compared = [(name, rival) for name in builds for rival in RIVALS]
    columns = ("heads / answers", *wanted, *(f"{builds[name]}÷ {rival}" for name, rival in compared), "failed")
    rows = []
    for traffic in KINDS:
        found = {each.target.name: each for each in measured if each.traffic == traffic}
        cells = [f"{found[name].rate:,.0f}" if name in found else "not installed" for name in wanted]
        ratios = [
            f"{ratio(measured, traffic, rival, name):.2f}" if rival in found and name in found else ""
            for name, rival in compared
        ]
        rows.append((str(traffic), *cells, *ratios, f"{sum(each.failed for each in found.values()):,}"))
    return Table(columns, tuple(rows))


def costs(measured: Sequence[Measured], wanted: Sequence[str] = PEERS) -> Table:
    """CPU per request and the share of the core that was busy: a row per kind of traffic, a column per proxy."""
    names = [name for name in wanted if name != "direct"]
    rows = []
    for traffic in KINDS:
        found = {each.target.name: each for each in measured if each.traffic == traffic}
        cells = [
            f"{found[name].cpu_ns / 1000:.1f} ({100 * _busy(found[name]):.0f} %)" if name in found else ""
            for name in names
        ]
        rows.append((str(traffic), *cells))
    return Table(("heads / answers", *names), tuple(rows))


def _busy(each: Measured) -> float:
    return middle([run.share_of_core for run in each.runs])


def chart(measured: Sequence[Measured]) -> str:
    """Requests per second under the traffic that varies most, as bars."""
    bars = [
        Bar(each.target.name, each.rate, f"{each.rate:,.0f}", each.target.name in PROMISED)
        for each in measured
        if each.traffic == MOST_VARIED
    ]
    return svg("Requests per second on one core", "six clients mixed, varying answers, 32 connections, medians", bars)
