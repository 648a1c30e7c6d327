"""`scorefront` and `python -m scorefront`."""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    _have_standard_streams()
    try:
        from scorefront.cli.app import run  # late, so that Ctrl-C while it loads ends quietly too

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT, as shells count
    sys.exit(status)


def _have_standard_streams() -> None:
    """Open /dev/null for every closed standard stream (`scorefront up <&-`).

    Otherwise a socket gets its number: output goes to a client, or a child inherits the socket as its input."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(free, True)
    os.close(free)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


if __name__ == "__main__":
    main()
