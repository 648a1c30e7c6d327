"""Kill an installation by SIGKILL in the middle of deployments, many times, and judge what is left."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.deployment_kills.rounds import rounds, run


def main() -> int:
    """Run from the command line; returns 0 without a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.deployment_kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="so many kills (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the times (1)")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="deployment-kills-") as folder:
        for number, one in enumerate(rounds(args.rounds, args.seed), start=1):
            started = time.monotonic()
            faults = run(one, Path(folder) / f"round-{number}")
            failed += bool(faults)
            verdict = "ok" if not faults else "; ".join(faults)
            print(f"{number:3} {one}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{args.rounds} kills, {failed} with faults")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
