"""Requests of 5 s and 60 s in turn, back to back, on replicas that cannot answer a probe meanwhile: none is restarted.

    python -m loadtests.busy [--minutes 10] [--scale 1]

Three kinds of replicas with one slot each: an entry script, a server with one thread that keeps connections alive, and
a server whose health path says 503 while it works. Of each kind one client leaves now and then and lets the replica
compute. Passes when every other request is answered 200 and each replica process is the one that was started. `--scale`
shortens all times alike.
"""

import argparse
import asyncio
import contextlib
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from loadtests.installation import Client, Installation, manifest

TIMES_S = (5.0, 60.0)
LEAVES_EVERY = 4
"""One request in so many is left by its client."""
LEAST_DELAY_S = 15
"""Initial delay of liveness, and with it the time for a start, at any scale."""
SCORE = """
    import json, time
    def init(): pass
    def run(data):
        time.sleep(json.loads(data)["s"])
        return "scored"
"""
SERVER = """
    import http.server, json, sys, threading, time
    kind, port = sys.argv[1], int(sys.argv[2])
    working = threading.Lock()
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def answer(self, status):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def do_GET(self):
            self.answer(503 if working.locked() else 200)
        def do_POST(self):
            seconds = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["s"]
            with working:
                time.sleep(seconds)
            self.answer(200)
        def log_message(self, *_): pass
    many = {"one-thread": http.server.HTTPServer, "says-503": http.server.ThreadingHTTPServer}
    many[kind](("127.0.0.1", port), Handler).serve_forever()
"""
KINDS = ("script", "one-thread", "says-503")


def declared(directory: Path, scale: float) -> list[dict[str, Any]]:
    """The endpoint of each kind. `directory`: for the files of the replicas. `scale`: of all times."""
    (directory / "score.py").write_text(textwrap.dedent(SCORE))
    server = directory / "server.py"
    server.write_text(textwrap.dedent(SERVER))
    probe = {
        "periodSeconds": max(1, round(10 * scale)),
        "initialDelaySeconds": max(LEAST_DELAY_S, round(30 * scale)),
        "timeoutSeconds": max(1, round(2 * scale)),
        "failureThreshold": 3 if scale >= 1 else 1,
    }
    documents = []
    for kind in KINDS:
        replica = {"command": ["python", str(server), kind, "{port}"]}
        version = {
            "name": "blue",
            "numReplicas": 1,
            "replica": {"entryScript": str(directory / "score.py")} if kind == "script" else replica,
            "scoringTimeoutMs": round(90_000 * scale),
            "maxQueueWaitMs": round(100_000 * scale),
            "livenessProbeRequirements": probe,
        }
        documents.append(manifest(kind, [version], authEnabled=False))
    return documents


async def load(client: Client, endpoint: str, seconds: float, scale: float) -> Counter[str]:
    """Requests one after the other for `seconds`; their statuses, "left" for those whose client left.

    `scale`: of all times.
    """
    statuses: Counter[str] = Counter()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        body = {"s": TIMES_S[number % len(TIMES_S)] * scale}
        number += 1
        try:
            async with asyncio.timeout(0.5 * body["s"] if number % LEAVES_EVERY == 0 else None):
                status, _, _ = await client.score(endpoint, body)
            statuses[str(status)] += 1
        except TimeoutError:
            statuses["left"] += 1
    return statuses


async def run(minutes: float, scale: float) -> bool:
    """Run, print, judge. `minutes`: before scaling. `scale`: of all times."""
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder), "--workers=2") as started:
        started.start(*declared(Path(folder), scale))
        async with Client(started) as client:
            for kind in KINDS:
                await client.until(kind, "blue", 60, ready=1)
            before = servers(started)
            loads = (load(client, kind, 60 * minutes * scale, scale) for kind in KINDS)
            statuses = dict(zip(KINDS, await asyncio.gather(*loads), strict=True))
            after = servers(started)
        for kind in KINDS:
            print(f"{kind:12} {dict(statuses[kind])}")
        print(f"servers      {sorted(before)} before, {sorted(after)} after")
        return before == after and all(each.keys() <= {"200", "left"} and each["200"] for each in statuses.values())


def servers(started: Installation) -> set[int]:
    """Process ids of all servers of replicas."""
    found = set()
    for process in started.descendants():
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            if any(word in " ".join(process.cmdline()) for word in ("server.py", "gunicorn")):
                found.add(process.pid)
    return found


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.busy")
    parser.add_argument("--minutes", type=float, default=10.0, help="duration before scaling (10)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all times (1)")
    arguments = parser.parse_args()
    good = asyncio.run(run(arguments.minutes, arguments.scale))
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
