"""Run the simulator: one seed with its trace, or many on all cores."""

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.sim.planted import BUGS, WHERE, planted
from tests.sim.world import Outcome, run

CHUNK = 50
"""Seeds per task of the process pool."""


def main() -> int:
    """Run from the command line; returns 0 if no seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--trace", action="store_true", help="print every event of it")
    parser.add_argument("--seeds", type=int, default=1000, help="run so many (1000)")
    parser.add_argument("--first", type=int, default=0, help="from this one on (0)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bug", choices=sorted(BUGS), help="with a planted bug")
    args = parser.parse_args()
    if args.seed is not None:
        return one(args.seed, args.bug, args.trace)
    return many(range(args.first, args.first + args.seeds), args.bug, args.processes)


def one(seed: int, bug: str | None, trace: bool) -> int:
    """Run one seed, with or without its trace."""
    result = attempt(seed, bug, trace)
    print(result)
    return int(isinstance(result, str))


def many(seeds: range, bug: str | None, processes: int) -> int:
    """Run many seeds; print the first lines of each failure."""
    started, failed, done, events = time.perf_counter(), [], 0, 0
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        for results in pool.map(attempt_all, chunks, [bug] * len(chunks)):
            for seed, result in results:
                done += 1
                if isinstance(result, str):
                    failed.append(seed)
                    print(f"seed {seed}: {result.strip().splitlines()[0]}", flush=True)
                else:
                    events += result.events
    seconds = time.perf_counter() - started
    print(f"{done} seeds, {len(failed)} failed, {events} events, {seconds:.1f} s")
    if failed:
        print(f"failed: {failed[:50]}")
    return int(bool(failed))


def attempt_all(seeds: range, bug: str | None) -> list[tuple[int, Outcome | str]]:
    """Outcome or failure text of each seed."""
    return [(seed, attempt(seed, bug)) for seed in seeds]


def attempt(seed: int, bug: str | None, trace: bool = False) -> Outcome | str:
    """Outcome of a run, or its failure text: the broken promise, the traceback, the last events."""
    try:
        with planted(bug):
            return run(seed, trace, WHERE.get(bug or ""))
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}"


if __name__ == "__main__":
    sys.exit(main())
