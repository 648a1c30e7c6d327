"""Millions of changed heads through the caches and through the parser alone.

    python -m tests.fuzz.heads --heads 5000000 [--seed 1] [--direction requests|responses]

In build/compiled (`make compiled`) it runs with the compiled modules. Exit status 1: a head had another verdict, other
bytes out or other framing than by the parser.
"""

import argparse
import logging
import time

from tests.fuzz.heads.compare import HeadsDiffer, compare

BATCH = 50_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.heads")
    parser.add_argument("--heads", type=int, default=100_000, help="in each direction")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--direction", choices=("requests", "responses"), help="default both")
    options = parser.parse_args()
    logging.disable()  # of invalid responses
    for direction in [options.direction] if options.direction else ["requests", "responses"]:
        done = found = passed = 0
        began = time.process_time()
        while done < options.heads:
            seed = options.seed + done
            try:
                tally = compare(min(BATCH, options.heads - done), seed, direction)
            except HeadsDiffer as error:
                print(f"{direction}, seed {seed}:\n{error}")
                return 1
            done, found, passed = done + tally.heads, found + tally.found, passed + tally.passed
            print(
                f"{direction}: {done:,} the same; {found / done:.0%} from the cache, {passed / done:.0%} answered "
                f"200; {(time.process_time() - began) / done * 1e6:.0f} µs of CPU each",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
