"""The Grafana board and the alert rules ask for metrics that there are, by labels that they have."""

import asyncio
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.policy import Direction
from cluster.link import WorkerMetrics
from cluster.provider import Problem
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from controlplane.kubernetes.cluster_control import ClusterControl
from router.metrics import WorkerStats
from router.supervisor.worker_supervisor import Supervisor
from scorefront.exposition import Exposition
from scorefront.frontend_scaling import FrontEndFigures
from scorefront.router import router_process
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from telemetry.ring import PayloadCounts
from tests.unit.deploy.conftest import LOADER, ROOT, Objects, objects
from tests.unit.deploy.monitoring import ALERTS, BOARD, BOARD_FILE, RULES, RULES_FILE, asked_for, grouped_by, queries

BLUE = VersionKey("iris", "blue")
RULE_TESTS = Path(__file__).parent / "alerts_test.yaml"
CONTRACT = {
    *("scorefront_requests_total", "scorefront_request_duration_seconds", "scorefront_queue_wait_seconds"),
    *("scorefront_routing_seconds", "scorefront_busy_slots", "scorefront_total_slots"),
    *("scorefront_waiting_requests", "scorefront_replicas", "scorefront_desired_replicas"),
    *("scorefront_scale_decisions_total", "scorefront_slot_violations_total", "scorefront_connections"),
    *("scorefront_worker_loop_lag_seconds", "scorefront_payloads_total"),
}


def script(file: str) -> ModuleType:
    """A module of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, ROOT / "deploy" / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def exposed() -> dict[str, set[str]]:
    """Metric -> labels, of all processes."""
    stats = WorkerStats()
    stats.version(BLUE).observe(503, 1.0, 0.5, 0.001)
    stats.certificate_expires_unix = 1
    counters = re.findall(r'"(workers_\w+)"', inspect.getsource(Supervisor.__init__))
    workers = [
        stats.snapshot("w1", (stats.version(BLUE).snapshot(BLUE, 1, 2, 3, 1, 1),), 0, 1.0, 1),
        WorkerMetrics("supervisor-1", (), 0, 0, 0.0, dict.fromkeys(counters, 0)),
    ]
    scaling = ScalingMetrics({BLUE: {ReplicaState.READY: 1}}, {BLUE: 1}, {})
    problems = ProblemMetrics({BLUE: (Problem.LIMITED,)}, frozenset({"iris"}))
    counts = PayloadCounts()
    exposition = Exposition(
        lambda: FrontEndFigures(1, 1, {Direction.UP: 1}),
        payloads=lambda: {BLUE: counts},
        accesses=lambda: {"iris": counts},
    )
    found = {
        f"scorefront_{name}": set[str]() for name in re.findall(r'"(\w+)":', inspect.getsource(ClusterControl.gauges))
    }
    figures = inspect.getsource(router_process._Router._metrics)
    found |= {name: set[str]() for name in re.findall(r'"(scorefront_\w+)"', figures)}
    text = asyncio.run(exposition.render(workers, scaling, problems))
    for family in text_string_to_metric_families(text.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {label for sample in family.samples for label in sample.labels}
    return found


# ---- metrics and labels


def test_every_metric_and_label_that_is_asked_for_is_exposed() -> None:
    there = exposed()
    assert asked_for(queries()).keys() - there.keys() == set()
    lacking = {name: labels - there[name] for name, labels in asked_for(queries()).items()}
    assert {name: labels for name, labels in lacking.items() if labels} == {}


def test_results_are_grouped_by_labels_of_their_metrics() -> None:
    there, recorded = exposed(), {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
    for query in queries():
        whole = " ".join([query, *(recorded[name] for name in re.findall(r"scorefront:[\w:]+", query))])
        labels = {label for name in asked_for([whole]) for label in there[name]}
        assert grouped_by(query) <= labels, query


def test_a_misspelt_metric_or_label_is_found() -> None:
    there = exposed()
    assert asked_for(['sum(rate(scorefront_request_total{status="500"}[5m]))']) == {
        "scorefront_request_total": {"status"}
    }
    assert "scorefront_request_total" not in there and "status" not in there["scorefront_requests_total"]


def test_recorded_series_exist() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    used = {name for query in queries() for name in re.findall(r"scorefront:[\w:]+", query)}
    assert used == recorded


# ---- the board


def test_the_board_shows_the_main_metrics() -> None:
    assert (
        asked_for(target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())).keys() >= CONTRACT
    )


def test_the_board_is_what_its_source_makes() -> None:
    assert BOARD_FILE.read_text() == json.dumps(script("grafana/board.py").board(), indent=1) + "\n"


def test_every_panel_has_an_id_and_a_place_of_its_own_and_the_source_that_is_chosen() -> None:
    panels: list[dict[str, Any]] = BOARD["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"} == {"${datasource}"}
    for panel in panels:
        names = [target["refId"] for target in panel.get("targets", ())]
        assert len(names) == len(set(names))


def test_variables_of_the_board_are_declared_before_they_are_used() -> None:
    known = {"__range", "__rate_interval"}
    for each in BOARD["templating"]["list"]:
        assert set(re.findall(r"\$\{?(\w+)", each.get("definition", ""))) <= known
        known.add(each["name"])
    assert known >= {"datasource", "namespace", "endpoint", "version"}
    for query in queries():
        assert set(re.findall(r"\$\{?(\w+)", query)) <= known


# ---- the rules


def test_the_object_of_the_operator_has_the_rules_of_the_file() -> None:
    rules = RULES_FILE.read_text()
    wrapped = (ROOT / "deploy/prometheus/prometheus-rule.yaml").read_text()
    assert wrapped == script("prometheus/wrap.py").wrapped(rules)
    assert yaml.load(wrapped, Loader=LOADER)["spec"] == yaml.load(rules, Loader=LOADER)


def test_every_alert_has_a_severity_a_summary_and_a_section_of_the_runbook() -> None:
    page = (ROOT / "docs/alerts.md").read_text()
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert alert["annotations"]["runbook"] == f"docs/alerts.md#{alert['alert'].lower()}"
    assert sections == {alert["alert"].lower() for alert in ALERTS}


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    cases = yaml.load(RULE_TESTS.read_text(), Loader=LOADER)["tests"]
    moments = [{each["labels"] for each in look["exp_samples"]} for case in cases for look in case["promql_expr_test"]]
    for alert in ALERTS:
        fired = [f'{{alertname="{alert["alert"]}"}}' in moment for moment in moments]
        assert any(fired) and not all(fired), alert["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    for command in (("check", "rules", str(RULES_FILE)), ("test", "rules", str(RULE_TESTS))):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


# ---- scraping in a cluster


def test_the_scrape_leaves_the_label_endpoint_to_the_metrics_and_names_the_jobs_of_the_rules() -> None:
    monitors: Objects = objects((ROOT / "deploy/components/service-monitor/monitor.yaml").read_text())
    jobs = {}
    for (kind, name), each in monitors.items():
        if kind == "ServiceMonitor":
            (scraped,) = each["spec"]["endpoints"]
            # The operator adds the name of the port as `endpoint`; Prometheus would rename the label of the metrics.
            assert {"action": "labeldrop", "regex": "endpoint"} in scraped["relabelings"]
            jobs[name] = {
                rule["targetLabel"]: rule["replacement"] for rule in scraped["relabelings"] if "targetLabel" in rule
            }
    assert jobs == {name: {"job": name} for name in ("scorefront-router", "scorefront-control")}
    named = {pattern for query in queries() for pattern in re.findall(r'job=~"([^"]*)"', query)}
    assert all(re.fullmatch(pattern, "scorefront-router") and re.fullmatch(pattern, "scorefront") for pattern in named)
