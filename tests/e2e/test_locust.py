"""Locust as a user runs it, against an installation: statistics per version, thresholds, several processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Site

LOCUSTFILE = str(Path(__file__).parents[2] / "loadtests" / "locustfile.py")

pytestmark = [pytest.mark.process, pytest.mark.slow]


Run = subprocess.CompletedProcess[str]


def locust(site: Site, tmp_path: Path, *options: str, key: str = "", **environ: str) -> Run:
    """A headless run; its report is at report.html."""
    url = f"{site.installation.scoring}/api/v1/service/echo/score"
    return subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--host", url, "--headless", "--only-summary"),
            *("--html", str(tmp_path / "report.html"), *options),
        ],
        env={**os.environ, "SCOREFRONT_KEY": key, **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def requests(run: Run) -> dict[str, int]:
    """Version -> number of requests, from the summary."""
    rows = re.findall(r"^POST\s+(\S+)\s+(\d+)\s+\d+\(", run.stdout + run.stderr, re.MULTILINE)
    return {name: int(count) for name, count in rows}


def test_users_in_a_closed_loop_and_the_report(site: Site, tmp_path: Path) -> None:
    key, _ = site.keys("echo")
    run = locust(site, tmp_path, "-u", "2", "-r", "2", "-t", "2s", key=key)
    assert run.returncode == 0, run.stderr
    assert requests(run)["blue"] > 10
    assert "blue" in (tmp_path / "report.html").read_text()


def test_a_trace_is_sent_in_full_by_several_processes(site: Site, tmp_path: Path) -> None:
    key, _ = site.keys("echo")
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival\n" + "".join(f"{number / 50}\n" for number in range(60)))
    run = locust(site, tmp_path, "--processes", "2", key=key, SCOREFRONT_SHAPE=f"trace:{trace}")
    assert run.returncode == 0, run.stderr
    assert sum(requests(run).values()) == 60
    assert "lateness of 60 arrivals" in run.stderr


def test_failures_are_named_and_a_missed_threshold_is_the_exit_status(site: Site, tmp_path: Path) -> None:
    settings = {"SCOREFRONT_RATE": "20", "SCOREFRONT_SECONDS": "1", "SCOREFRONT_MAX_FAILURE_PERCENT": "50"}
    run = locust(site, tmp_path, **settings)
    assert run.returncode == 1
    assert "401 Unauthorized" in run.stdout + run.stderr
    assert "missed: percent of requests that may fail: 100.00 > 50" in run.stderr
    wrong = locust(site, tmp_path, SCOREFRONT_SHAPE="wave")
    assert wrong.returncode == 2
    assert "error: SCOREFRONT_SHAPE: must be one of" in wrong.stderr
