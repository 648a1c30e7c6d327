"""Clients with chunked and plain bodies against replicas that read bodies wrongly, late or not at all.

    python -m loadtests.desync [--full] [--requests 200] [--kinds KIND...] [--collect-bytes N]

Two chunked and two plain clients send unique bodies to each kind of replica (`desync_server.py`); every answer must be
that of its own request, and no request may fail. `--full`: 10,000 requests of each client. `--collect-bytes`: setting
of the router; a small one makes it stream bodies, and then a chunked body for an HTTP/1.0 replica may be refused.
"""

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.figures import Promise, judged
from loadtests.desync_server import ID_FIELD, KINDS
from loadtests.installation import Installation, manifest

SERVER = Path(__file__).with_name("desync_server.py")
REQUESTS, FULL_REQUESTS = 200, 10_000
SIZES_BYTES = (20, 100, 1000, 20_000, 100_000, 300_000)
WEIGHTS = (40, 30, 20, 6, 3, 1)
ANSWER_S = 60.0
READS_BODIES = frozenset({"http10", "ignores-chunked", "reads-late"})
OK, WRONG, REFUSED, FAILED = "ok", "wrong", "refused", "failed"


class DesyncClient:
    """One client; its connection is kept as long as the router keeps it."""

    def __init__(self, name: str, port: int, endpoint: str, kind: str, chunked: bool) -> None:
        """`name`: unique. `port`: of the router. `endpoint`: name. `kind`: of its replica. `chunked`: bodies are."""
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.name = name
        self._port = port
        self._path = f"/api/v1/service/{endpoint}/score"
        self._reads = kind in READS_BODIES
        self._chunked = chunked
        self._chance = random.Random(name)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, requests: int) -> None:
        """Send so many requests, one after the other."""
        try:
            for number in range(requests):
                outcome = await self._outcome(f"{self.name}.{number}")
                self.outcomes[outcome] += 1
        finally:
            self._leave()

    async def _outcome(self, request_id: str) -> str:
        (size,) = self._chance.choices(SIZES_BYTES, WEIGHTS)
        body = f"{request_id} ".encode().ljust(size, b"b")
        try:
            async with asyncio.timeout(ANSWER_S):
                status, text = await self._exchange(request_id, body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self._leave()
            self.faults.append(f"{request_id}: {error!r}")
            return FAILED
        if status == 413 and self._chunked:
            return REFUSED
        if status != 200:
            self.faults.append(f"{request_id}: {status} {text}")
            return FAILED
        head_id, _, body_id = text.partition(" ")
        # A body streamed in chunks to a replica that knows none is not read; it must not be another one's either.
        right = head_id == request_id and (body_id == (request_id if self._reads else "-") or body_id == "-")
        if not right:
            self.faults.append(f"{request_id}: got the answer of {text}")
        return OK if right else WRONG

    async def _exchange(self, request_id: str, body: bytes) -> tuple[int, str]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        framing = "Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {len(body)}"
        head = f"POST {self._path} HTTP/1.1\r\nHost: front\r\n{ID_FIELD}: {request_id}\r\n{framing}\r\n\r\n".encode()
        for piece in self._pieces(body):
            writer.write(head + piece)
            head = b""
            await asyncio.sleep(0)  # each piece in a write of its own
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in answer[1:] if line)
        text = (await reader.readexactly(int(fields["content-length"]))).decode("latin-1")
        if fields.get("connection") == "close":
            self._leave()
        return int(answer[0].split(" ")[1]), text

    def _pieces(self, body: bytes) -> list[bytes]:
        if not self._chunked:
            return [body]
        step = max(1, len(body) // self._chance.randint(1, 4))
        cut = [body[at : at + step] for at in range(0, len(body), step)]
        return [*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut), b"0\r\n\r\n"]

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def play(port: int, endpoint: str, kind: str, requests: int) -> list[DesyncClient]:
    """Two chunked and two plain clients at the same time; returns them with their outcomes.

    `port`: of the router. `endpoint`: name, without auth. `kind`: of its replica. `requests`: of each client.
    """
    clients = [DesyncClient(f"{kind}-{number}", port, endpoint, kind, number % 2 == 0) for number in range(4)]
    await asyncio.gather(*(client.run(requests) for client in clients))
    return clients


def _document(kind: str) -> dict[str, object]:
    # Two slots for four clients: connections to the replica pass from one client to the next.
    version = {
        "name": "blue",
        "replica": {"command": ["python", str(SERVER), kind, "{port}"]},
        "numReplicas": 1,
        "maxConcurrentRequestsPerContainer": 2,
        "maxQueueWaitMs": 30_000,
    }
    return manifest(kind, [version], authEnabled=False)


def measure(kinds: Sequence[str], requests: int, collect_bytes: int | None) -> list[Promise]:
    """Run all kinds, one after the other, and print the outcomes."""
    environment = {} if collect_bytes is None else {"SCOREFRONT_COLLECT_BYTES": str(collect_bytes)}
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        options = ("--workers", "1", "--access-log", "off")
        with Installation(Path(directory), *options, environment=environment) as installation:
            installation.start(*(_document(kind) for kind in kinds))
            port = int(installation.scoring.rpartition(":")[2])
            for kind in kinds:
                for client in asyncio.run(play(port, kind, kind, requests)):
                    totals += client.outcomes
                    print(f"{client.name:20} {dict(client.outcomes)} {client.faults[:3]}")
            installation.stop()
    promises = [
        Promise("answers that reached the wrong client", totals[WRONG], 0, at_least=False, digits=0),
        Promise("requests that failed", totals[FAILED], 0, at_least=False, digits=0),
    ]
    if collect_bytes is None:
        promises.append(Promise("requests that were refused", totals[REFUSED], 0, at_least=False, digits=0))
    return promises


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.desync")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each client")
    parser.add_argument("--full", action="store_true", help=f"{FULL_REQUESTS:,} requests of each client")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--collect-bytes", type=int, help="setting of the router; default: its own")
    arguments = parser.parse_args()
    requests = FULL_REQUESTS if arguments.full else arguments.requests
    return judged(measure(arguments.kinds, requests, arguments.collect_bytes), True)


if __name__ == "__main__":
    raise SystemExit(main())
