"""A replica with processes that leave it in every possible way. usage: escaping_replica.py PORT FOLDER

Each writes its pid to a file of its own in FOLDER/PORT; the endlessly forking one appends to `comet` there.
"""

import ctypes
import http.server
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_NAME = 15
CLONE_PARENT = 0x00008000
SYS_CLONE = 56
FOLDER = Path(sys.argv[2]) / sys.argv[1]


def forked(act: Callable[[], None]) -> None:
    if os.fork() == 0:
        try:
            act()
        finally:
            os._exit(0)


def stay(name: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    (FOLDER / f"{name}-{os.getpid()}").touch()
    while True:
        time.sleep(60)


def double_fork() -> None:
    os.setsid()
    forked(lambda: stay("daemon"))


def no_environment() -> None:
    """As `setsid env -i sleep`: another program, session and environment."""
    os.setsid()
    (FOLDER / f"bare-{os.getpid()}").touch()
    os.execve("/bin/sleep", ["kworker/0:1", "600"], {})


def another_name() -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"systemd", 0, 0, 0)
    stay("renamed")


def sibling() -> None:
    """A child of the replica's own parent."""
    pid = ctypes.CDLL(None).syscall(SYS_CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        stay("sibling")


def parent() -> None:
    forked(lambda: stay("grandchild"))
    stay("child")


def family() -> None:
    os.setsid()
    for _ in range(3):
        forked(parent)
    stay("parent")


def comet() -> None:
    os.setsid()
    while True:
        with (FOLDER / "comet").open("a") as file:
            file.write(".")
        time.sleep(0.002)
        if os.fork():
            os._exit(0)


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    FOLDER.mkdir(parents=True)
    for way in (lambda: stay("plain"), double_fork, no_environment, another_name, family, comet):
        forked(way)
    if os.uname().machine == "x86_64":
        sibling()
    while len(list(FOLDER.iterdir())) < 8:
        time.sleep(0.01)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
