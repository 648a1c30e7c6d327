"""wrk drives one target for some seconds: its result, and the CPU used by the proxy meanwhile."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.rig import Target, cpu_seconds, first_line_of

CONNECTIONS = 32
GRACE_S = 20.0
NEVER_THE_SAME = b"never-the-same-0"
"""Placeholder in a head: every request has another number."""

# A request is made once, unless it must differ each time: the load shares its core with the backend.
_REPEATED = "local raw = {raw}\nwrk.format = function() return raw end\n"
_UNIQUE = """\
local before, after, number = {before}, {after}, 0
request = function()
  number = number + 1
  return before .. string.format("%0{digits}d", number) .. after
end
"""
# Requests made before the run and only handed out: making one takes as long as a fast proxy needs to pass it on.
_PREPARED = """\
local file, prepared, number = assert(io.open("{name}", "rb")), {{}}, 0
while true do
  local size = file:read("*n")
  if not size then break end
  file:read(1)
  prepared[#prepared + 1] = file:read(size)
end
local count = #prepared
request = function()
  number = number % count + 1
  return prepared[number]
end
"""
_DONE = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "failed": %d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run."""

    requests: int
    seconds: float
    failed: int
    cpu_s: float
    """User and system time of the proxy's processes."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def cpu_ns(self) -> float:
        """CPU of the proxy per request in nanoseconds."""
        return 1e9 * self.cpu_s / self.requests if self.requests else 0.0

    @property
    def share_of_core(self) -> float:
        """The proxy's share of its core, 0 to 1: well below 1, something else was the limit."""
        return self.cpu_s / self.seconds if self.seconds else 0.0


def version() -> str | None:
    """The version, or None without wrk."""
    line = first_line_of("wrk", "-v")
    return line and line.partition(" Copyright")[0]


def script(head: bytes, body: bytes = b"", repeat: int = 1) -> str:
    """The Lua script that makes wrk send this request; the body is `body` written `repeat` times."""
    written = quoted(body) if repeat == 1 else f"string.rep({quoted(body)}, {repeat})"
    if NEVER_THE_SAME in head:
        before, _, after = head.partition(NEVER_THE_SAME)
        made = _UNIQUE.format(before=quoted(before), after=f"{quoted(after)} .. {written}", digits=len(NEVER_THE_SAME))
    else:
        made = _REPEATED.format(raw=f"{quoted(head)} .. {written}")
    return made + _DONE


def prepared(requests: Sequence[bytes], directory: Path, name: str) -> str:
    """The Lua script that makes wrk send these requests in turn; one alone is sent without a call of Lua.

    `requests`: whole ones. `directory`: of the run. `name`: of the file with the requests in it.
    """
    if len(requests) == 1:
        return script(requests[0])
    with (directory / name).open("wb") as file:
        for each in requests:
            file.write(b"%d\n%b" % (len(each), each))
    return _PREPARED.format(name=name) + _DONE


def quoted(data: bytes) -> str:
    """Bytes as a Lua string."""
    return '"' + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:03d}" for b in data) + '"'


def drive(
    target: Target, lua: str, directory: Path, seconds: int, connections: int = CONNECTIONS, path: str = ""
) -> Run:
    """Run wrk against the target. Raises RuntimeError when it does not end as it should."""
    (directory / "wrk.lua").write_text(lua)
    url = f"{'https' if target.tls else 'http'}://127.0.0.1:{target.port}{path or target.path}"
    command = [shutil.which("wrk") or "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", "wrk.lua", url]
    before = cpu_seconds(target.pids)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE_S, cwd=directory, check=False
    )
    after = cpu_seconds(target.pids)
    return parsed(done.stdout.splitlines(), after - before, done.stdout + done.stderr)


def parsed(lines: Sequence[str], cpu_s: float, said: str) -> Run:
    """The figures printed by the script at the end. Raises RuntimeError with the output if there are none."""
    for line in reversed(lines):
        if line.startswith("{"):
            figures = json.loads(line)
            return Run(figures["requests"], figures["microseconds"] / 1e6, figures["failed"], cpu_s)
    raise RuntimeError(f"wrk gave no figures: {said[-1000:]}")
