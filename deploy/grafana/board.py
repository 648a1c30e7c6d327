"""The Grafana board: `python deploy/grafana/board.py` writes scorefront.json.

Places and ids of panels follow from their order. In expressions `V` stands for the selection of namespace, endpoint and
version, `N` for that of the namespace.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "scorefront.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NAMESPACE = 'namespace=~"$namespace"'
VERSION = f'{NAMESPACE},endpoint=~"$endpoint",version=~"$version"'
EACH = "by (endpoint, version)"
OF_EACH = "{{endpoint}}/{{version}}"
WIDTH, HEIGHT = 24, 8

Panel = dict[str, Any]


def panel(title: str, unit: str, *targets: tuple[str, str], width: int = 8, **more: Any) -> Panel:
    """A chart.

    title: its heading.
    unit: unit of its values in Grafana.
    targets: (expression, legend).
    width: in columns of 24.
    more: `description`, `limit` (upper end of the axis), `stacked`.
    """
    limit = {"max": more["limit"]} if "limit" in more else {}
    custom = {"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 20}} if more.get("stacked") else {}
    return {
        "title": title,
        "type": "timeseries",
        "description": more.get("description", ""),
        "targets": list(_targets(targets)),
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, **limit, **custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "gridPos": {"w": width, "h": HEIGHT},
    }


def stat(title: str, unit: str, expression: str, red_from: float | None, description: str = "") -> Panel:
    """One number.

    title: its heading.
    unit: unit of the number in Grafana.
    expression: its expression.
    red_from: red from this value on; None: red below a week.
    description: shown on demand.
    """
    steps = [("green", None), ("red", red_from)] if red_from is not None else [("red", None), ("green", 604800)]
    thresholds = {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}
    return {
        "title": title,
        "type": "stat",
        "description": description,
        "targets": list(_targets([(expression, "")])),
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": thresholds, "noValue": "0"}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"},
        "gridPos": {"w": 4, "h": 4},
    }


def _targets(targets: Any) -> Iterator[dict[str, str]]:
    for number, (expression, legend) in enumerate(targets):
        selected = (
            expression.replace("{V", "{" + VERSION).replace("{N", "{" + NAMESPACE).replace("[R]", "[$__rate_interval]")
        )
        yield {"expr": selected, "legendFormat": legend, "refId": chr(ord("A") + number)}


def quantile(share: float, metric: str, by: str = "le") -> str:
    """Expression of a quantile. `share`: 0 to 1. `metric`: the histogram. `by`: labels of the result, with le."""
    labels = "N" if metric == "scorefront_routing_seconds" else "V"
    return f"histogram_quantile({share:g}, sum by ({by}) (rate({metric}_bucket{{{labels}}}[R])))"


PANELS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        stat(
            "Slot violations", "short", "sum(increase(scorefront_slot_violations_total{N}[$__range]))", 1, "Must be 0."
        ),
        stat(
            "Endpoints degraded", "short", "count(max by (endpoint) (scorefront_endpoint_degraded{N})) or vector(0)", 1
        ),
        stat(
            "Versions with problems",
            "short",
            "count(max by (endpoint, version) (scorefront_version_problem{V})) or vector(0)",
            1,
        ),
        stat("Payloads dropped", "short", 'sum(increase(scorefront_payloads_total{V,result="dropped"}[$__range]))', 1),
        stat("Workers died", "short", "sum(increase(scorefront_workers_died_total{N}[$__range]))", 1),
        stat(
            "First certificate ends in",
            "s",
            "min(scorefront_tls_certificate_expiry_timestamp_seconds{N}) - time()",
            None,
        ),
    ),
    "Requests": (
        panel(
            "Requests per second",
            "reqps",
            ("sum by (code) (rate(scorefront_requests_total{V}[R]))", "{{code}}"),
            stacked=True,
        ),
        panel(
            "Failures (status from 500 on)",
            "percentunit",
            (
                f'sum {EACH} (rate(scorefront_requests_total{{V,code=~"5.."}}[R]))'
                f" / (sum {EACH} (rate(scorefront_requests_total{{V}}[R])) > 0)",
                OF_EACH,
            ),
            description="0 % and 100 % look alike if all requests of a version are refused: see requests per second.",
        ),
        panel(
            "Time to answer",
            "s",
            *(
                (quantile(share, "scorefront_request_duration_seconds"), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        panel(
            "Time to answer, p95",
            "s",
            (quantile(0.95, "scorefront_request_duration_seconds", "le, endpoint, version"), OF_EACH),
            width=12,
        ),
        panel(
            "Requests by version", "reqps", (f"sum {EACH} (rate(scorefront_requests_total{{V}}[R]))", OF_EACH), width=12
        ),
    ),
    "Slots": (
        panel(
            "Busy of all slots",
            "percentunit",
            (f"sum {EACH} (scorefront_busy_slots{{V}}) / (sum {EACH} (scorefront_total_slots{{V}}) > 0)", OF_EACH),
            limit=1,
        ),
        panel(
            "Slots",
            "short",
            ("sum(scorefront_busy_slots{V})", "busy"),
            ("sum(scorefront_total_slots{V})", "total"),
            ("sum(scorefront_waiting_requests{V})", "waiting requests"),
        ),
        panel(
            "Wait for a slot",
            "s",
            (quantile(0.95, "scorefront_queue_wait_seconds", "le, endpoint, version"), f"{OF_EACH} p95"),
            (quantile(0.99, "scorefront_queue_wait_seconds", "le, endpoint, version"), f"{OF_EACH} p99"),
        ),
    ),
    "Replicas": (
        panel(
            "Ready and wanted",
            "short",
            (f'max {EACH} (scorefront_replicas{{V,state="ready"}})', f"{OF_EACH} ready"),
            (f"max {EACH} (scorefront_desired_replicas{{V}})", f"{OF_EACH} wanted"),
        ),
        panel(
            "Not ready",
            "short",
            (
                'max by (endpoint, version, state) (scorefront_replicas{V,state!="ready"}) > 0',
                f"{OF_EACH} {{{{state}}}}",
            ),
        ),
        panel(
            "Scaling decisions",
            "short",
            (
                "sum by (endpoint, version, direction) (increase(scorefront_scale_decisions_total{V}[R])) > 0",
                f"{OF_EACH} {{{{direction}}}}",
            ),
        ),
        panel(
            "Replicas excluded",
            "short",
            (
                "sum by (endpoint, version, standing) (increase(scorefront_replica_exclusions_total{V}[R])) > 0",
                f"{OF_EACH} {{{{standing}}}}",
            ),
            description="Ejected for a moment after a refused connection, or suspect until the health path answers.",
        ),
        panel(
            "Problems",
            "short",
            ("max by (endpoint, version, problem) (scorefront_version_problem{V})", f"{OF_EACH} {{{{problem}}}}"),
            limit=1,
        ),
        panel(
            "Collected payloads and telemetry",
            "cps",
            ("sum by (result) (rate(scorefront_payloads_total{V}[R]))", "payloads {{result}}"),
            (
                'sum by (result) (rate(scorefront_telemetry_records_total{N,endpoint=~"$endpoint"}[R]))',
                "telemetry {{result}}",
            ),
        ),
    ),
    "Routers": (
        panel(
            "CPU of the workers",
            "short",
            ("sum by (instance) (rate(scorefront_worker_cpu_seconds_total{N}[R]))", "{{instance}}"),
            description="In cores.",
        ),
        panel(
            "Memory",
            "bytes",
            ("sum by (instance) (scorefront_worker_resident_memory_bytes{N})", "{{instance}} workers"),
            ('process_resident_memory_bytes{N,job=~"scorefront.*"}', "{{instance}} {{job}}"),
        ),
        panel(
            "Workers",
            "short",
            ("sum by (instance) (scorefront_router_workers{N})", "{{instance}}"),
            ("max(scorefront_desired_router_workers{N})", "wanted in all"),
        ),
        panel(
            "Time inside the router",
            "s",
            (quantile(0.5, "scorefront_routing_seconds"), "p50"),
            (quantile(0.99, "scorefront_routing_seconds"), "p99"),
            ("max(scorefront_worker_loop_lag_seconds{N})", "longest loop lag"),
        ),
        panel("Connections", "short", ("sum by (instance) (scorefront_connections{N})", "{{instance}}")),
        panel(
            "Hand-offs, retries, departures",
            "cps",
            *(
                (f"sum(rate(scorefront_{name}_total{{N}}[R]))", legend)
                for name, legend in (
                    ("connections_handed_off", "connections handed off"),
                    ("retries", "requests sent again"),
                    ("client_gone", "clients gone"),
                    ("scoring_timeouts", "scoring timeouts"),
                )
            ),
        ),
    ),
    "Control plane": (
        panel(
            "Age of the view of the cluster",
            "s",
            ("scorefront_api_age_seconds{N}", "{{instance}}"),
            ("scorefront_api_silent_seconds{N}", "leader"),
            width=12,
        ),
        panel(
            "Routers linked to the leader",
            "short",
            ("sum(scorefront_leader_linked{N})", "linked"),
            ("max(scorefront_routers{N})", "routers"),
            width=12,
        ),
    ),
}


def placed() -> Iterator[Panel]:
    """All panels with ids and places, in lines of 24 columns, with a row as the heading of each part."""
    number, x, y = 1, 0, 0
    for heading, panels in PANELS.items():
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }
        number, x, y, line = number + 1, 0, y + 1, 0
        for each in panels:
            width, height = each["gridPos"]["w"], each["gridPos"]["h"]
            if x + width > WIDTH:
                x, y, line = 0, y + line, 0
            yield {"id": number, "datasource": SOURCE, **each, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
            number, x, line = number + 1, x + width, max(line, height)
        y += line


def variable(name: str, query: str) -> dict[str, Any]:
    """A variable over the values of a label; all of them by default. `name`: of variable and label."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def board() -> dict[str, Any]:
    """The whole board."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    of_endpoint = f'{NAMESPACE},endpoint=~"$endpoint"'
    variables = [
        source,
        variable("namespace", "label_values(scorefront_connections, namespace)"),
        variable("endpoint", f"label_values(scorefront_requests_total{{{NAMESPACE}}}, endpoint)"),
        variable("version", f"label_values(scorefront_requests_total{{{of_endpoint}}}, version)"),
    ]
    return {
        "title": "scorefront",
        "uid": "scorefront",
        "tags": ["scorefront"],
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": list(placed()),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(board(), indent=1) + "\n")
