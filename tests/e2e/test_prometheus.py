"""A Prometheus that scrapes `scorefront up` with the alert rules: opt-in, as it takes a minute."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Site
from tests.unit.deploy.conftest import ROOT, objects
from tests.unit.deploy.monitoring import ALERTS, RULES_FILE, board_queries

SWITCH = "SCOREFRONT_PROMETHEUS"
DEADLINE_S = 60.0
pytestmark = [pytest.mark.slow, pytest.mark.process]


class Prometheus:
    """A running Prometheus. `url`: of its API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer."""
        with urllib.request.urlopen(f"{self.url}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples of an instant query."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Poll a condition."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if happened():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, f"not in time: {what}"
            time.sleep(0.2)


def relabelings(monitor: str) -> list[dict[str, str]]:
    """What the Prometheus operator makes of a ServiceMonitor: the port as `endpoint`, then its own relabelings."""
    found = objects((ROOT / "deploy/components/service-monitor/monitor.yaml").read_text())["ServiceMonitor", monitor]
    (scraped,) = found["spec"]["endpoints"]
    own = [
        {re.sub(r"(?<!^)([A-Z])", lambda upper: f"_{upper[1].lower()}", name): value for name, value in each.items()}
        for each in scraped["relabelings"]
    ]
    return [{"target_label": "endpoint", "replacement": scraped["port"]}, *own]


@pytest.fixture(scope="module")
def prometheus(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes the site twice a second: as on one machine, and with the labels of the operator."""
    if not os.environ.get(SWITCH) or shutil.which("prometheus") is None:
        pytest.skip(f"{SWITCH}=1 starts the prometheus of this machine (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    target = {"static_configs": [{"targets": [site.installation.control.partition("//")[2]]}]}
    jobs = [
        {"job_name": "scorefront", **target},
        {"job_name": "operator", "relabel_configs": relabelings("scorefront-router"), **target},
    ]
    settings = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES_FILE)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Prometheus(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_it_loads_every_rule_and_scrapes_both_ways(prometheus: Prometheus) -> None:
    prometheus.until(lambda: len(prometheus.query("up == 1")) == 2, "two scrapes")
    labels = [each["labels"]["job"] for each in prometheus.get("targets")["activeTargets"]]
    assert sorted(labels) == ["scorefront", "scorefront-router"]

    def evaluated() -> bool:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return all(rule["health"] == "ok" for rule in rules)

    prometheus.until(evaluated, "all rules evaluated")
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len([rule for rule in rules if rule["type"] == "alerting"]) == len(ALERTS)


def test_the_label_endpoint_is_that_of_the_metric_behind_the_operator_too(prometheus: Prometheus, site: Site) -> None:
    assert site.score("open-door").status == 200
    for job in ("scorefront", "scorefront-router"):
        name = f'scorefront_requests_total{{job="{job}",endpoint="open-door",version="blue",code="200"}}'
        prometheus.until(lambda name=name: prometheus.query(name), f"requests of the job {job}")  # type: ignore[misc]
    assert prometheus.query('{__name__=~"scorefront.*",exported_endpoint!=""}') == []


def test_requests_show_in_the_recorded_rates(prometheus: Prometheus, site: Site) -> None:
    def seen() -> bool:
        site.score("open-door")
        found = prometheus.query('scorefront:requests:rate5m{endpoint="open-door"}')
        return any(float(each["value"][1]) > 0 for each in found)

    prometheus.until(seen, "a recorded rate")


def test_every_query_of_the_board_is_answered(prometheus: Prometheus) -> None:
    for query in board_queries():
        if query.startswith("label_values("):
            query = query.removeprefix("label_values(").rpartition(",")[0]
        for name, value in (("$__rate_interval", "1m"), ("$__range", "1h")):
            query = query.replace(name, value)
        prometheus.query(re.sub(r"\$\w+", ".*", query))


def test_a_healthy_installation_has_no_alert(prometheus: Prometheus) -> None:
    assert [each["labels"] for each in prometheus.get("alerts")["alerts"] if each["state"] == "firing"] == []
