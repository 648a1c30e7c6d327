"""Misspelt environment variables."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scorefront.cli.app import run
from scorefront.environment_check import known_settings, misspelt

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SCOREFRONT_MAX_BODY_BYTE", "SCOREFRONT_MAX_BODY_BYTES"),
        ("SCOREFRONT_MAXBODYBYTES", "SCOREFRONT_MAX_BODY_BYTES"),
        ("SCOREFRONT_CONTROL_IDLE_TIMEOUT", "SCOREFRONT_CONTROL_IDLE_TIMEOUT_S"),
        ("SCOREFRONT_FRONTEND_MAX_ROUTER", "SCOREFRONT_FRONTEND_MAX_ROUTERS"),
        ("SCOREFRONT_TOKN", "SCOREFRONT_TOKEN"),
        ("SCOREFRONT_SHOWKEYS", "SCOREFRONT_SHOW_KEYS"),
        ("scorefront_url", "SCOREFRONT_URL"),
        ("SCOREFONT_STATIC_CIDRS", "SCOREFRONT_STATIC_CIDRS"),
    ],
)
def test_the_probably_intended_variable_is_named(name: str, meant: str) -> None:
    (warning,) = misspelt([name, "PATH"], known_settings())
    assert warning.startswith(f"{name}: ") and warning.endswith(f"did you mean {meant}?")


def test_a_name_without_a_likeness_is_told_where_to_look() -> None:
    (warning,) = misspelt(["SCOREFRONT_XYZZY"], known_settings())
    assert warning == "SCOREFRONT_XYZZY: is no setting of scorefront and has no effect; docs/settings.md lists them"


def test_settings_links_of_services_and_names_of_others_cause_no_warning() -> None:
    links = ("SERVICE_HOST", "SERVICE_PORT_HTTPS", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR")
    names = [f"SCOREFRONT_ROUTER_{link}" for link in links] + ["SCOREFRONT_SERVICE_HOST", "SCOREBOARD", "SCORE"]
    assert list(misspelt([*known_settings(), *names], known_settings())) == []


def test_every_variable_in_the_code_and_the_pages_is_known() -> None:
    known = known_settings()
    texts = [
        path.read_text()
        for folder in ("scorefront", "controlplane", "cluster", "router", "loadtests", "docs", "deploy")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".yaml")
    ]
    used = {name for text in texts for name in re.findall(r"\bSCOREFRONT_[A-Z][A-Z_]*[A-Z]\b", text)}
    groups, switches_of_tests = {"SCOREFRONT_FRONTEND", "SCOREFRONT_CONTROL"}, {"SCOREFRONT_AXE"}
    assert used and used - known - groups - switches_of_tests == set()


def test_each_command_warns_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SCOREFRONT_MAX_BODY_BYTE", "1")
    assert run(["size", "--rps", "1", "--seconds", "1"]) == 0
    out, err = capsys.readouterr()
    assert out == "2\n"
    assert err.startswith("warning: SCOREFRONT_MAX_BODY_BYTE: is no setting") and err.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "router", "control"])
def test_each_process_warns_at_its_start(command: str, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "scorefront", command, "--state-dir" if command == "up" else "--nothing", "/dev/null"],
        env={"SCOREFRONT_LEASE": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert process.returncode == 2
    assert "warning: SCOREFRONT_LEASE: is no setting of scorefront" in process.stderr
    assert "did you mean SCOREFRONT_LEASE_S?" in process.stderr
