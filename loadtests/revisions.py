"""CPU per request of this checkout beside an earlier revision or beside its compiled build, in interleaved rounds.

    python -m loadtests.revisions REVISION [--rounds 9] [--seconds 3] [--kinds mixed/varying,…] [--most 1.01]
    python -m loadtests.revisions --compiled

Both routers share one core and one backend, and are driven in turn with the kinds of traffic of the benchmarks.
--compiled compares the modules that `make compiled` has compiled with pure Python. Exit status 1: the median of the
ratios of the rounds is above `--most`, the memory of the worker at the end above `--most-memory`, or a request failed.
"""

import argparse
import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench import wrk
from loadtests.bench.figures import Table, middle, rotated
from loadtests.bench.throughput import KINDS, Answers, Traffic
from loadtests.bench.traffic import requests
from loadtests.installation import manifest
from loadtests.peers import nginx
from loadtests.peers.rig import ROOT, Rig, Target, resident_bytes
from loadtests.peers.scorefront import Product, compiled_tree, routed

DEFAULT_KINDS = "same/fixed,vary/varying,mixed/varying"


@dataclass(slots=True)
class RevisionRuns:
    """The router of one revision and its runs, by kind of traffic."""

    name: str
    targets: dict[Answers, Target]
    runs: dict[Traffic, list[wrk.Run]] = field(default_factory=dict)
    memory_bytes: int = 0
    """Resident memory of the worker after the last round."""

    def cpu_ns(self, traffic: Traffic) -> float:
        """Median CPU per request in nanoseconds."""
        return middle([run.cpu_ns for run in self.runs[traffic]])

    @property
    def failed(self) -> int:
        """Failed requests of all rounds."""
        return sum(run.failed for runs in self.runs.values() for run in runs)


Pair = tuple[RevisionRuns, RevisionRuns]


@contextlib.contextmanager
def checked_out(revision: str, directory: Path) -> Iterator[Path]:
    """A work tree of the revision, removed at the end. Raises CalledProcessError for an unknown revision."""
    tree = directory / "revision"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, revision], cwd=ROOT, check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measure_revision(revision: str, kinds: Sequence[Traffic], rounds: int, seconds: int) -> Pair:
    """(before, now), each with `rounds` runs of `seconds` per kind of traffic after a warm-up of one second."""
    with Rig() as rig, checked_out(revision, rig.directory) as tree:
        return _measured(rig, {"before": tree, "now": ROOT}, kinds, rounds, seconds)


def measure_compiled(kinds: Sequence[Traffic], rounds: int, seconds: int) -> Pair:
    """(pure Python, compiled), likewise. Raises SystemExit without a compiled build of this very checkout."""
    tree = compiled_tree()
    if tree is None:
        raise SystemExit("no compiled build of these sources: run make compiled first")
    with Rig() as rig:
        return _measured(rig, {"pure Python": ROOT, "compiled": tree}, kinds, rounds, seconds)


def _measured(rig: Rig, trees: dict[str, Path], kinds: Sequence[Traffic], rounds: int, seconds: int) -> Pair:
    port = nginx.start_backend(rig).port
    first, second = (_start(rig, tree, port, name) for name, tree in trees.items())
    scripts = {
        (runs.name, traffic): wrk.prepared(
            requests(traffic.heads, runs.targets[traffic.answers]), rig.directory, f"{number}-{at}.requests"
        )
        for number, runs in enumerate((first, second))
        for at, traffic in enumerate(kinds)
    }
    cases = [(runs, traffic) for traffic in kinds for runs in (first, second)]
    for runs, traffic in cases:
        wrk.drive(runs.targets[traffic.answers], scripts[runs.name, traffic], rig.directory, 1)
    for _, (runs, traffic) in rotated(cases, rounds):
        run = wrk.drive(runs.targets[traffic.answers], scripts[runs.name, traffic], rig.directory, seconds)
        runs.runs.setdefault(traffic, []).append(run)
    for runs in (first, second):
        runs.memory_bytes = resident_bytes(runs.targets[Answers.FIXED].pids)
    return first, second


def _start(rig: Rig, tree: Path, port: int, name: str) -> RevisionRuns:
    documents = [
        manifest(each.name.lower(), [routed("blue", [port], replica={"scorePath": each.value})]) for each in Answers
    ]
    product = Product(rig, *documents, tree=tree)
    return RevisionRuns(name, {each: product.target(each.name.lower(), name=name) for each in Answers})


def ratio(first: RevisionRuns, second: RevisionRuns, traffic: Traffic) -> float:
    """Median over the rounds of CPU per request of the second ÷ the first."""
    pairs = zip(second.runs[traffic], first.runs[traffic], strict=True)
    return middle([mine.cpu_ns / theirs.cpu_ns for mine, theirs in pairs])


def table(first: RevisionRuns, second: RevisionRuns) -> Table:
    """One row per kind of traffic, and one of memory."""
    rows = [
        (
            str(traffic),
            f"{first.cpu_ns(traffic) / 1000:.2f}",
            f"{second.cpu_ns(traffic) / 1000:.2f}",
            f"{ratio(first, second, traffic):.3f}",
        )
        for traffic in first.runs
    ]
    sizes = [each.memory_bytes / 1e6 for each in (first, second)]
    rows.append(("worker, MB", f"{sizes[0]:.1f}", f"{sizes[1]:.1f}", f"{sizes[1] / sizes[0]:.3f}"))
    return Table(("heads / answers", f"{first.name}, CPU µs per request", second.name, "ratio"), tuple(rows))


def _kinds(names: str) -> list[Traffic]:
    """The kinds of traffic with these names. Raises SystemExit for an unknown one."""
    known = {str(traffic).replace(" ", ""): traffic for traffic in KINDS}
    wanted = list(known) if names == "all" else names.split(",")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"--kinds {unknown[0]}: must be all, or of {', '.join(known)}")
    return [known[name] for name in wanted]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.revisions")
    compared = parser.add_mutually_exclusive_group(required=True)
    compared.add_argument("revision", nargs="?", help="the earlier revision, as git names it")
    compared.add_argument("--compiled", action="store_true", help="compare the compiled build with pure Python")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3, help="of each router and kind of traffic in each round")
    parser.add_argument(
        "--kinds", default=DEFAULT_KINDS, help="of traffic, separated by commas; all; default %(default)s"
    )
    parser.add_argument("--most", type=float, default=1.01, help="highest ratio of CPU per request")
    parser.add_argument("--most-memory", type=float, default=1.10, help="highest ratio of the memory of the worker")
    options = parser.parse_args()
    kinds = _kinds(options.kinds)
    if options.compiled:
        pair = measure_compiled(kinds, options.rounds, options.seconds)
    else:
        pair = measure_revision(options.revision, kinds, options.rounds, options.seconds)
    print(table(*pair).text())
    broken = [traffic for traffic in kinds if ratio(*pair, traffic) > options.most]
    larger = pair[1].memory_bytes > options.most_memory * pair[0].memory_bytes
    return 1 if broken or larger or any(each.failed for each in pair) else 0


if __name__ == "__main__":
    raise SystemExit(main())
