"""Expressions of the Grafana board and of the alert rules, and the metrics that they ask for."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from tests.unit.deploy.conftest import LOADER, ROOT

BOARD_FILE = ROOT / "deploy/grafana/scorefront.json"
RULES_FILE = ROOT / "deploy/prometheus/rules.yaml"
BOARD: dict[str, Any] = json.loads(BOARD_FILE.read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.load(RULES_FILE.read_text(), Loader=LOADER)["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
OF_THE_SCRAPE = frozenset({"namespace", "instance", "job", "pod"})
"""Labels that Prometheus adds."""
OF_A_CLUSTER = frozenset(
    f"scorefront_{name}" for name in ("api_age_seconds", "api_silent_seconds", "leader_linked", "routers")
)
"""Metrics that there are in a cluster only."""
_SELECTOR = re.compile(r"\b((?:scorefront|process)_[a-z_0-9]+|up\b)(?:\{([^}]*)\})?")


def board_queries() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["definition"] for each in BOARD["templating"]["list"] if "definition" in each)


def queries() -> list[str]:
    return [*board_queries(), *(rule["expr"] for rule in RULES)]


def asked_for(expressions: Iterable[str]) -> dict[str, set[str]]:
    """Metric -> labels that it is selected by, without those of the scrape."""
    found: dict[str, set[str]] = {}
    for expression in expressions:
        for name, selector in _SELECTOR.findall(expression):
            labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
            found.setdefault(re.sub(r"_bucket$", "", name), set()).update(set(labels) - OF_THE_SCRAPE)
    found.pop("up", None)  # made by Prometheus itself
    return found


def grouped_by(expression: str) -> set[str]:
    """Labels of `by (…)`, without those of the scrape and of histograms."""
    lists = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label.strip() for each in lists for label in each.split(",")} - OF_THE_SCRAPE - {"le"}
