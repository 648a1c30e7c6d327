"""CPU per request of this checkout beside an earlier revision, in interleaved rounds of one run.

    python -m loadtests.revisions REVISION [--rounds 9] [--seconds 3] [--most 1.01]

Both routers share one core and one backend, and are driven in turn with heads that repeat and with heads that differ in
every request. Exit status 1: the median of the ratios of the rounds is above `--most`, or a request failed.
"""

import argparse
import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench import wrk
from loadtests.bench.figures import Table, middle, rotated
from loadtests.bench.throughput import UNIQUE_FIELD
from loadtests.bench.traffic import BODY
from loadtests.installation import manifest
from loadtests.peers import nginx
from loadtests.peers.rig import ROOT, Rig, Target
from loadtests.peers.scorefront import Product, routed

HEADS: dict[str, tuple[tuple[str, str], ...]] = {"repeated": (), "unique": (UNIQUE_FIELD,)}


@dataclass(slots=True)
class RevisionRuns:
    """The router of one revision and its runs, by kind of head."""

    target: Target
    runs: dict[str, list[wrk.Run]] = field(default_factory=lambda: {name: [] for name in HEADS})

    def cpu_ns(self, heads: str) -> float:
        """Median CPU per request in nanoseconds."""
        return middle([run.cpu_ns for run in self.runs[heads]])

    @property
    def failed(self) -> int:
        """Failed requests of all rounds."""
        return sum(run.failed for runs in self.runs.values() for run in runs)


@contextlib.contextmanager
def checked_out(revision: str, directory: Path) -> Iterator[Path]:
    """A work tree of the revision, removed at the end. Raises CalledProcessError for an unknown revision."""
    tree = directory / "revision"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, revision], cwd=ROOT, check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measure(revision: str, rounds: int, seconds: int) -> tuple[RevisionRuns, RevisionRuns]:
    """(before, now), each with `rounds` runs of `seconds` per kind of head after a warm-up of one second."""
    with Rig() as rig, checked_out(revision, rig.directory) as tree:
        port = nginx.start_backend(rig).port
        pair = (_start(rig, tree, port, "before"), _start(rig, ROOT, port, "now"))
        for each in pair:
            wrk.drive(each.target, _script(each.target, "unique"), rig.directory, 1)
        for _, each in rotated(pair, rounds):
            for heads, runs in each.runs.items():
                runs.append(wrk.drive(each.target, _script(each.target, heads), rig.directory, seconds))
    return pair


def _start(rig: Rig, tree: Path, port: int, name: str) -> RevisionRuns:
    # PYTHONSAFEPATH: without it the current folder, not PYTHONPATH, would decide about the imported revision.
    environment = {"PYTHONPATH": os.fspath(tree), "PYTHONSAFEPATH": "1"}
    product = Product(rig, manifest("bench", [routed("blue", [port])]), environment=environment)
    return RevisionRuns(product.target(name=name))


def _script(target: Target, heads: str) -> str:
    return wrk.script(target.head("POST", ("Content-Length", str(len(BODY))), *HEADS[heads]), BODY)


def ratio(before: RevisionRuns, now: RevisionRuns, heads: str) -> float:
    """Median over the rounds of CPU per request now ÷ before."""
    pairs = zip(now.runs[heads], before.runs[heads], strict=True)
    return middle([mine.cpu_ns / theirs.cpu_ns for mine, theirs in pairs])


def table(before: RevisionRuns, now: RevisionRuns) -> Table:
    """One row per kind of head."""
    rows = [
        (
            heads,
            f"{before.cpu_ns(heads) / 1000:.2f}",
            f"{now.cpu_ns(heads) / 1000:.2f}",
            f"{ratio(before, now, heads):.3f}",
        )
        for heads in HEADS
    ]
    return Table(("heads", "before, CPU µs per request", "now", "ratio"), tuple(rows))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.revisions")
    parser.add_argument("revision", help="the earlier revision, as git names it")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3, help="of each router and kind of head in each round")
    parser.add_argument("--most", type=float, default=1.01, help="highest ratio of CPU per request")
    options = parser.parse_args()
    before, now = measure(options.revision, options.rounds, options.seconds)
    print(table(before, now).text())
    broken = [heads for heads in HEADS if ratio(before, now, heads) > options.most]
    return 1 if broken or before.failed or now.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
