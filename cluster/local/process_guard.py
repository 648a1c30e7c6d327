"""Second line behind the subreapers: finds and kills processes of a run whose subreaper was killed.

Run as a script, in a session of its own, with the read end of a pipe as stdin and the marker of the run as argument.
The parent sends the begin and end of sessions ("+123", "-123", one a line). The end of the pipe means the end of the
parent, for any cause: every process that belongs to one of the sessions, or has the marker in its environment, is
killed. Both are needed: a process may leave its session, another may overwrite its environment (setproctitle).

Only the standard library, no first-party import: it starts in milliseconds and does not depend on the package.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROUND_S = 0.005


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    state: str
    """The letter of proc(5): R, S, D, T (stopped), Z (zombie) …"""
    parent: int
    session: int
    rss_bytes: int


def parse_stat(stat: bytes) -> Process:
    """`/proc/<pid>/stat`; the name in brackets may itself hold spaces and brackets."""
    head, _, tail = stat.rpartition(b")")
    fields = tail.split()
    return Process(
        pid=int(head.split(b"(", 1)[0]),
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def processes() -> Iterator[Process]:
    """All visible processes that are not zombies."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _read(f"/proc/{name}/stat")
            if stat and (process := parse_stat(stat)).state not in "ZX":
                yield process


def pss_bytes(pid: int) -> int | None:
    """Resident bytes with each shared page divided by the number of its processes; None if the kernel refuses."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None


def descendants(table: Iterable[Process], ancestors: Collection[int]) -> Iterator[tuple[int, Process]]:
    """(ancestor, process) for every process of `table` that descends from one of `ancestors` (pids)."""
    known = {process.pid: process for process in table}
    for process in known.values():
        above, steps = process.parent, 0
        while above not in ancestors and above in known and steps < len(known):
            above, steps = known[above].parent, steps + 1
        if above in ancestors:
            yield above, process


def kill_all(sessions: Collection[int], marker: str, patience_s: float = 1.0) -> int:
    """Kill all processes that belong to `sessions` or have `marker`, until none is left; return their number.

    `marker`: `NAME=value`, matched from the start of a variable; end it with a NUL to match the whole value.
    `patience_s`: longest time to try. Processes started meanwhile are found in the next round.
    """
    wanted = b"\0" + marker.encode()
    killed: set[int] = set()
    give_up_at = time.monotonic() + patience_s
    while found := [one.pid for one in processes() if one.session in sessions or _carries(one.pid, wanted)]:
        for pid in found:
            if pid != os.getpid():
                _kill(pid)
        killed.update(found)
        if time.monotonic() >= give_up_at:
            break
        time.sleep(ROUND_S)
    return len(killed)


def _carries(pid: int, wanted: bytes) -> bool:
    return wanted in b"\0" + _read(f"/proc/{pid}/environ")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already, or not ours to kill
        os.kill(pid, signal.SIGKILL)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def main(marker: str) -> None:
    """Follow the parent until it is gone, then kill what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin.buffer:
        (sessions.add if line[:1] == b"+" else sessions.discard)(int(line[1:]))
    kill_all(sessions, marker + "\0")


if __name__ == "__main__":
    main(sys.argv[1])
