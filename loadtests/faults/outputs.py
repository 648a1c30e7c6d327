"""The outputs of the product are blocked or full."""

import asyncio
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from loadtests.faults.caller import quantile, statuses
from loadtests.faults.site import RATE, Verdict, site, version
from loadtests.installation import REPLICA, START_S, Installation, manifest

STOP_S = 10.0


class Unread(Installation):
    """Its output goes into a pipe that is read until it says that it is ready, and never again."""

    def start_files(self, *files: Path, listen: str = "127.0.0.1:0", control: str = "127.0.0.1:0") -> None:
        """As its base does, but for the pipe."""
        named = [argument for path in files for argument in ("-f", str(path))]
        command = [sys.executable, "-m", "scorefront", "up", *named, "--state-dir", str(self.directory / "state")]
        command += ["--listen", listen, "--control", control, *self._arguments]
        self._pipe, theirs = os.pipe()
        self.process = subprocess.Popen(command, stdout=theirs, stderr=theirs, text=True)
        os.close(theirs)
        deadline = time.monotonic() + START_S
        said = ""
        while "Ctrl-C" not in said:
            if time.monotonic() > deadline or not select.select([self._pipe], [], [], START_S)[0]:
                raise RuntimeError(f"not ready after {START_S} s:\n{said}")
            said += os.read(self._pipe, 65536).decode()
        self.control = re.search(r"dashboard +(http://\S+?)/?\s", said)[1]  # type: ignore[index]  # it said so
        self.scoring = re.search(r"scoring +(http://[^/\s]+)", said)[1]  # type: ignore[index]

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        os.close(self._pipe)


async def unread(quick: bool) -> Verdict:
    """33: standard output and error are not read, everything is logged: requests go on, lost lines are counted."""
    async with site("--access-log=all", installation=Unread, work_ms=0) as here:
        # 300 bytes a line: enough to fill the pipes and the queue of unwritten lines.
        rate, seconds = (1000, 5) if quick else (1000, 25)
        outcomes = await here.caller.open_loop(rate, seconds)
        failing = await asyncio.gather(*(here.caller.call(path="reset") for _ in range(20)))
        seen = await here.metrics()
        dropped = seen["scorefront_access_log_dropped_total"] + seen["scorefront_log_dropped_total"]
        control, _ = await here.client.rest("GET", "/healthz")
        began = time.monotonic()
        status = await asyncio.to_thread(here.installation.stop, signal.SIGTERM)
        took = time.monotonic() - began
        good = set(statuses(outcomes)) == {200} and set(statuses(failing)) <= {502, 503} and control == 200
        good &= (dropped > 0 or quick) and status == 0 and took < STOP_S
        return Verdict(
            good,
            f"{statuses(outcomes)}, p99 {quantile(outcomes, 0.99) * 1000:.0f} ms, {dropped:.0f} lines dropped, control "
            f"port {control}, ended with {status} after {took:.1f} s",
        )


async def full_disk(quick: bool) -> Verdict:
    """34: nothing can be written to any file: scoring goes on, a change is refused with its reason, and taken later."""
    async with site() as here:
        up = here.installation.process
        assert up is not None
        writers = [psutil.Process(up.pid), here.worker()]
        for process in writers:
            # Files cannot grow: a full disk without filling one (Python ignores SIGXFSZ: EFBIG).
            process.rlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        outcomes = await here.caller.open_loop(RATE, 2 if quick else 15)
        changed = manifest("victim", [version(maxQueueWaitMs=4000)])
        refused, reason = await here.client.rest("PUT", "/api/v1/endpoints/victim", changed)
        _, view = await here.client.rest("GET", "/api/v1/endpoints/victim")
        kept = view["spec"]["versions"][0]["maxQueueWaitMs"] == 5000
        replica = next(process for process in here.replicas() if str(REPLICA) in process.cmdline())
        replica.kill()
        await here.client.until("victim", "blue", 20, ready=3)
        outcomes += await here.caller.open_loop(RATE, 1)
        for process in writers:
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        taken, _ = await here.client.rest("PUT", "/api/v1/endpoints/victim", changed)
        good = set(statuses(outcomes)) == {200} and refused >= 500 and kept and taken == 200
        return Verdict(
            good,
            f"{statuses(outcomes)}, a killed replica was replaced, a change is answered {refused} "
            f"({str(reason)[:80]}), kept as it was {kept}; with space again {taken}",
        )
