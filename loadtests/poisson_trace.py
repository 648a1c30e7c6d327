"""A synthetic trace: Poisson arrivals by a shape, exponential service times.

python -m loadtests.poisson_trace --rate 2 --mean-ms 1000 --seconds 3600 > trace.csv
"""

import argparse
import csv
import random
import sys

from loadtests.arrivals import SHAPES, LoadShape


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.poisson_trace", description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="highest rate in requests/s")
    parser.add_argument("--mean-ms", type=float, required=True, help="mean service time")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--shape", choices=SHAPES, default="steady")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["arrival", "service_ms"])
    for arrival_s in LoadShape(args.shape, args.rate, args.seconds).arrivals(lambda: draw.expovariate(1.0)):
        out.writerow([f"{arrival_s:.6f}", f"{args.mean_ms * draw.expovariate(1.0):.3f}"])


if __name__ == "__main__":
    main()
