"""Rows of the overview: health, reason, search, order."""

from collections.abc import Mapping
from typing import Any

import pytest

from cluster.provider import Problem
from controlplane.overview import (
    EndpointGlance,
    EndpointHealth,
    OverviewChoice,
    OverviewOrder,
    VersionGlance,
    health_of,
    reason_of,
)
from serving.endpoint import Auth, AutoscalePolicy, Endpoint, ReplicaKind, ReplicaSource, Version, VersionType
from serving.replica import ReplicaState
from serving.usage import RecentTraffic

READY, FAILED, STARTING = ReplicaState.READY, ReplicaState.FAILED, ReplicaState.STARTING


def one(
    counts: Mapping[ReplicaState, int] | None = None,
    problems: Mapping[Problem, str] | None = None,
    traffic: RecentTraffic | None = None,
    **more: Any,
) -> VersionGlance:
    source = ReplicaSource(ReplicaKind.COMMAND, command=("x",))
    version = Version("blue", 1.0, True, VersionType.CONTROL, source, AutoscalePolicy(min_replicas=1))
    states = dict.fromkeys(ReplicaState, 0) | dict(counts if counts is not None else {READY: 1})
    figures = {"desired": 1, "busy": 0, "total": 1, "waiting": 0, "message": "", **more}
    return VersionGlance(version, states, problems=problems or {}, traffic=traffic, **figures)


def traffic(requests: int, failures: int = 0, server_failures: int = 0, p95_s: float | None = 0.1) -> RecentTraffic:
    return RecentTraffic(60.0, requests, failures, server_failures, p95_s)


@pytest.mark.parametrize(
    ("version", "health"),
    [
        (one(), EndpointHealth.HEALTHY),
        (one({READY: 1, STARTING: 3}), EndpointHealth.HEALTHY),
        (one({STARTING: 1}), EndpointHealth.STARTING),
        (one({FAILED: 1}), EndpointHealth.FAILING),
        (one({}, {Problem.REFUSED: "no"}), EndpointHealth.FAILING),
        (one({}, {Problem.LIMITED: "no room"}), EndpointHealth.STARTING),
        (one({READY: 1, FAILED: 1}), EndpointHealth.HEALTHY),
        (one(problems={Problem.DROPPING: "full"}), EndpointHealth.DEGRADED),
        (one(traffic=traffic(100, 5, 1)), EndpointHealth.DEGRADED),
        (one(traffic=traffic(1000, 999, 9)), EndpointHealth.HEALTHY),  # wrong requests are not the endpoint's fault
    ],
)
def test_health_follows_replicas_problems_and_server_failures(version: VersionGlance, health: EndpointHealth) -> None:
    assert health_of([one(), version]) is health


def test_the_reason_is_one_line_with_its_version() -> None:
    problem = one(problems={Problem.LIMITED: "no room for 2 GB\nmore\nlines"})
    assert reason_of([one(), problem]) == "blue: no room for 2 GB"
    assert reason_of([one({STARTING: 1}, message="loading; its last lines")]) == "blue: 0 of 1 replicas ready: loading"
    assert reason_of([one(traffic=traffic(200, 9, 4))]).startswith("2.0 % of the requests")


def row(name: str, health: EndpointHealth = EndpointHealth.HEALTHY, **figures: Any) -> EndpointGlance:
    description = "Card Payments" if name == "b" else ""
    version = one(traffic=traffic(**figures) if figures else None)
    return EndpointGlance(Endpoint(name, Auth.KEY, (version.version,), description), (version,), health, "")


ROWS = [
    row("a", requests=60, failures=30, p95_s=None),
    row("b", EndpointHealth.FAILING),
    row("c", requests=600, p95_s=2.0),
    row("d", EndpointHealth.STARTING, requests=6, failures=6),
]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (OverviewChoice(), "bdac"),
        (OverviewChoice(order=OverviewOrder.NAME), "abcd"),
        (OverviewChoice(order=OverviewOrder.REQUESTS), "cadb"),
        (OverviewChoice(order=OverviewOrder.FAILURES), "dabc"),
        (OverviewChoice(order=OverviewOrder.LATENCY), "cdab"),
        (OverviewChoice(health=[EndpointHealth.FAILING, EndpointHealth.STARTING]), "bd"),
        (OverviewChoice(name="c"), "c"),
        (OverviewChoice(search="card p"), "b"),
        (OverviewChoice(search="C", health=[EndpointHealth.HEALTHY]), "c"),
    ],
)
def test_rows_are_searched_filtered_and_ordered(choice: OverviewChoice, names: str) -> None:
    assert "".join(found.endpoint.name for found in choice.of(ROWS)) == names


def test_figures_of_a_row_are_those_of_its_versions_together() -> None:
    pair = (one(traffic=traffic(60, 6, p95_s=0.2)), one(traffic=traffic(120, 3, p95_s=0.1)), one())
    found = EndpointGlance(ROWS[0].endpoint, pair, EndpointHealth.HEALTHY, "")
    assert (found.requests_per_s, found.failure_share, found.p95_s) == (3.0, 0.05, 0.2)
    unknown = EndpointGlance(ROWS[0].endpoint, (one(),), EndpointHealth.HEALTHY, "")
    assert (unknown.requests_per_s, unknown.failure_share, unknown.p95_s) == (None, None, None)
