"""`scorefront` and `python -m scorefront`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    try:
        from scorefront.cli.app import run  # late, so that Ctrl-C while it loads ends quietly too

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT, as shells count
    sys.exit(status)


if __name__ == "__main__":
    main()
