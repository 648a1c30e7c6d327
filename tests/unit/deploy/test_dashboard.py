"""The Grafana dashboard asks for metrics that there are, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/scorefront.json").read_text())
EXPOSITION = (ROOT / "scorefront/exposition.py").read_text()
CONTRACT = {
    *("scorefront_requests_total", "scorefront_request_duration_seconds", "scorefront_queue_wait_seconds"),
    *("scorefront_routing_seconds", "scorefront_busy_slots", "scorefront_total_slots"),
    *("scorefront_waiting_requests", "scorefront_replicas", "scorefront_desired_replicas"),
    *("scorefront_scale_decisions_total", "scorefront_slot_violations_total", "scorefront_connections"),
    "scorefront_worker_loop_lag_seconds",
}


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each)


def asked_for() -> set[str]:
    names = {name for query in queries() for name in re.findall(r"scorefront_[a-z_]+", query)}
    return {re.sub(r"_bucket$", "", name) for name in names}


def test_every_metric_that_is_asked_for_is_exposed() -> None:
    assert {name for name in asked_for() if f'"{name}"' not in EXPOSITION} == set()


def test_the_dashboard_shows_the_main_metrics() -> None:
    assert asked_for() >= CONTRACT


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
