"""The machine and the programs of a measurement."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

from loadtests.bench import interpreter, wrk
from loadtests.bench.figures import Table
from loadtests.peers import envoy, haproxy, nginx, relay, scorefront
from loadtests.peers.rig import ROOT, first_line_of


def described() -> Table:
    """Machine, date and versions."""
    in_git = (ROOT / ".git").exists()
    revision = (first_line_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "") if in_git else ""
    router = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvloop", "httptools"))
    rows = [
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("machine", f"{len(os.sched_getaffinity(0))} cores, {cpu_model()}"),
        ("kernel", platform.release()),
        ("Python", interpreter.described()),
        ("scorefront", f"{scorefront.version()} {revision}".strip() + f" ({router})"),
        ("nginx", nginx.version() or "not installed"),
        ("HAProxy", haproxy.version() or "not installed"),
        ("Envoy", envoy.version() or f"not installed ({envoy.HOW_TO_INSTALL})"),
        ("aiohttp relay", relay.version()),
        ("wrk", wrk.version() or "not installed"),
    ]
    return Table(("", ""), tuple(rows), words=(0, 1))


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
