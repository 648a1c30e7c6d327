"""docs/benchmarks.md and docs/benchmarks.svg. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.figures import Promise, Table


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run of the benchmarks gave."""

    command: str
    machine: Table
    rates: Table
    costs: Table
    features: Table
    noise_ns: float
    parts: Table
    latency: Table
    promises: Sequence[Promise]


def markdown(report: Report) -> str:
    """The page."""
    kept = "\n".join(f"- {promise}" for promise in report.promises)
    return f"""\
# Benchmarks

Written by `{report.command}`; all figures are of that one run.
The proxy that is measured has a core of its own; wrk or the open-loop generator shares the other cores with the backend
(nginx). Rounds are interleaved and begin with another proxy each time; figures are medians of the rounds.

{report.machine.markdown()}

{kept}

## Throughput of one core

POST, 32 connections; 20,000 distinct requests are made before the run, and wrk only hands them out.

- *mixed*: the fields of six clients (traced SDK, script, shell, service, browser, gateway) on the same connections;
  *vary*: one client with other ids, users, versions and lengths in each request; *same*: one head and one body.
- *varying*: `x-request-id`, `ETag`, `x-exec-ms` and the length differ in each answer, as those of model servers;
  *fixed*: one answer.

scorefront runs as `scorefront up` starts it, with key auth, exact slots and metrics; its other processes are not on the
measured core. nginx, HAProxy and Envoy have one worker, keep their connections to the backend and log nothing. *direct*
is the backend alone, the limit of the load. *÷* is scorefront's rate over that of the peer. *Compiled* is scorefront
with its hot modules compiled, as in the image ([performance](performance.md#compiled-modules)); without the word it is
pure Python.

![Requests per second, six clients mixed, varying answers](benchmarks.svg)

Requests per second:

{report.rates.markdown()}

CPU µs per request: user and system time of the proxy's processes, and how busy its core was. Where it was not busy, the
load was the limit, and CPU per request is the better measure.

{report.costs.markdown()}

## What each feature costs

CPU of the router's process per request with the feature, less that without it, in the same rounds (wrk, 32
connections). Half the range of the first row over the rounds is {report.noise_ns:,.0f} ns: less than that says nothing.

{report.features.markdown()}

The pure parts of a request, timed in one process, best of five; the first three are done once for a head that repeats.

{report.parts.markdown()}

## Added latency

Open loop, six clients mixed, varying answers: 2,000 requests per second at times drawn in advance from a seed, the
same for all in a round; latency runs from the intended moment to the last byte of the answer. *Added* is less `direct`
in the same round. *Polling* is scorefront with `SCOREFRONT_POLL_S=0.001` ([settings](settings.md#sleep)): its worker
does not sleep between requests, so its core is always busy.

{report.latency.markdown()}
"""
