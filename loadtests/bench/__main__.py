"""`python -m loadtests.bench [throughput|features|latency]`: without a name all three, written to docs/."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests import openloop
from loadtests.bench import features, interpreter, machine, parts, throughput, wrk
from loadtests.bench.figures import Promise, Table, judged
from loadtests.bench.page import Report, markdown
from loadtests.bench.throughput import Measured
from loadtests.peers.rig import ROOT

PARTS = ("throughput", "features", "latency")


def main() -> int:
    """Measure, print, write, judge."""
    options = _options()
    if options.python:
        given = iter(sys.argv[1:])
        kept = [each for each in given if not _names_python(each, given)]
        interpreter.change(options.python, "loadtests.bench", kept)
    if wrk.version() is None:
        print("the benchmarks need wrk and nginx (Debian: apt-get install wrk nginx haproxy)", file=sys.stderr)
        return 1
    names = openloop.OPEN_LOOP_PEERS
    wanted = [name for name in names if not options.only or name in options.only.split(",")]
    if options.part:
        return judged(_one(options.part, options, wanted), options.check)
    return _all(options, wanted)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench")
    parser.add_argument("part", nargs="?", choices=PARTS, help="measure and print this only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each proxy in each round")
    parser.add_argument("--only", default="", help=f"of: {', '.join(openloop.OPEN_LOOP_PEERS)}; separated by commas")
    parser.add_argument("--python", default="", help="interpreter for scorefront and the relay, e.g. /usr/bin/python3")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it run?")
    parser.add_argument("--out", type=Path, default=None, help="folder for benchmarks.md and .svg; default: docs")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.seconds = 1
    return options


def _names_python(argument: str, following: Iterator[str]) -> bool:
    """True for the option --python; its value is consumed from the `following` arguments."""
    if argument == "--python":
        next(following)
    return argument == "--python" or argument.startswith("--python=")


def _throughput(options: argparse.Namespace, wanted: Sequence[str]) -> tuple[Table, Table, list[Measured]]:
    compared = [name for name in throughput.PEERS if name in wanted]
    measured = throughput.measure(options.rounds, options.seconds, compared)
    return throughput.rates(measured, compared), throughput.costs(measured, compared), measured


def _one(part: str, options: argparse.Namespace, wanted: Sequence[str]) -> list[Promise]:
    if part == "throughput":
        print(interpreter.described())
        rates, costs, measured = _throughput(options, wanted)
        _show(rates)
        _show(costs)
        return throughput.promises(measured)
    if part == "features":
        _show(features.table(features.measure(options.rounds, options.seconds)))
        _show(parts.table())
        return []
    latency = _latency(options, wanted)
    _show(openloop.table(latency))
    return openloop.promises(latency)


def _latency(options: argparse.Namespace, wanted: Sequence[str]) -> list[openloop.Measured]:
    compared = [name for name in openloop.OPEN_LOOP_PEERS if name in wanted or name == "direct"]
    return openloop.measure(openloop.RATE, options.seconds, options.rounds, compared)


def _all(options: argparse.Namespace, wanted: Sequence[str]) -> int:
    rates, costs, measured = _throughput(options, wanted)
    _show(rates)
    _show(costs)
    found = features.measure(options.rounds, options.seconds)
    _show(features.table(found))
    latency = _latency(options, wanted)
    _show(openloop.table(latency))
    report = Report(
        command=f"python -m loadtests.bench --rounds {options.rounds} --seconds {options.seconds}",
        machine=machine.described(),
        rates=rates,
        costs=costs,
        features=features.table(found),
        noise_ns=features.noise_ns(found),
        parts=parts.table(),
        latency=openloop.table(latency),
        promises=[*throughput.promises(measured), *openloop.promises(latency)],
    )
    # A run that is not the whole comparison must not replace the page by accident.
    whole = not options.quick and not options.only
    folder = options.out or (ROOT / "docs" if whole else None)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.md").write_text(markdown(report))
        (folder / "benchmarks.svg").write_text(throughput.chart(measured))
        print(f"written to {folder}/benchmarks.md\n")
    return judged(report.promises, options.check)


def _show(table: Table) -> None:
    print(table.text(), end="\n\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
