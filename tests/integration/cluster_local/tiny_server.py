"""A replica for tests. usage: tiny_server.py PORT [behaviour]...

Behaviours: exit (print and exit 3 at once), deaf (never listen), noisy (print a lot), fat (hold 80 MB), family (share
them with three children), fork (start a child that ignores SIGTERM), stubborn (ignore SIGTERM), sick-after-first
(health answers 503 from the third time on), refusing (many requests at a time; while one sleeps all others are answered
503).
GET /env answers the environment, GET /sleep?SECONDS takes its time (one request at a time), anything else "well".
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

behaviours = sys.argv[2:]
served = 0
asleep = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        global served, asleep
        served += 1
        path, _, query = self.path.partition("?")
        refused = asleep and "refusing" in behaviours
        if path == "/sleep":
            asleep += 1
            time.sleep(float(query))
            asleep -= 1
        sick = "sick-after-first" in behaviours and served > 2
        body = json.dumps({**os.environ, "cwd": os.getcwd(), "cores": len(os.sched_getaffinity(0))}).encode()
        self.send_response(503 if sick or refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        print("served", self.path, self.headers.get("User-Agent"))


if "exit" in behaviours:
    print("no model here")
    sys.exit(3)
if "fork" in behaviours and os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)
if "stubborn" in behaviours:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "deaf" in behaviours:
    print("still thinking")
    time.sleep(3600)
if "noisy" in behaviours:
    for number in range(30_000):
        print(f"line {number} " + "x" * 100)
    print("y" * 20_000)
ballast = b"b" * 80_000_000 if "fat" in behaviours else b""
for _ in range(3 if "family" in behaviours else 0):
    if os.fork() == 0:
        while True:
            time.sleep(1)
kind = ThreadingHTTPServer if "refusing" in behaviours else HTTPServer
kind(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
