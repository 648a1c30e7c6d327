"""The registry of models at its limits: time of list and show, memory of a large upload, an upload broken off.

    python -m loadtests.model_registry [--models 10000] [--megabytes 2048] [--rounds 20] [--store URL] [--check]

The models are records that the registry itself has written; `up` reads them at its start. Requests come one after the
other over one connection, and the answer is read whole. Memory is the resident set of the control process.
"""

import argparse
import asyncio
import hashlib
import http.client
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from loadtests.bench.figures import Promise, judged, middle
from loadtests.installation import Installation
from workspace.models.model_records import ModelDraft, ModelFile
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore

PIECE_BYTES = 1024 * 1024
MOST_ANSWER_S = 0.1
MOST_GROWTH_BYTES = 50_000_000
SAMPLE_S = 0.02
WRITERS = 32


async def fill(store: FileStore, models: int) -> None:
    """Register models: a tenth as many names, ten versions each."""
    writer = store.new_blob()
    writer.write(b"model")
    files = (ModelFile("model.pkl", writer.finish().sha256, 0),)
    registry = ModelRegistry(store, time.time)  # noqa: TID251 - a shell
    drafts = iter([ModelDraft(name=f"model-{number % -(-models // 10)}", files=files) for number in range(models)])

    async def register() -> None:
        for draft in drafts:
            await registry.register(draft)

    await asyncio.gather(*(register() for _ in range(WRITERS)))


def connect(installation: Installation) -> http.client.HTTPConnection:
    """A connection to the control port."""
    parts = urlsplit(installation.control)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)


def answer_s(connection: http.client.HTTPConnection, path: str, rounds: int) -> float:
    """Median time of a GET in seconds.

    connection: kept open. path: of the request. rounds: number of requests.
    """
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        times.append(time.perf_counter() - began)
        assert response.status == 200, response.status
    return middle(times)


def pieces(megabytes: int) -> Iterator[bytes]:
    """Content that does not repeat within a piece."""
    block = hashlib.shake_256(b"model").digest(PIECE_BYTES - 8)
    for number in range(megabytes):
        yield number.to_bytes(8, "big") + block


class MemoryWatch(threading.Thread):
    """Peak of the resident set of a process, sampled."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.rest_bytes = self.peak_bytes = self._process.memory_info().rss

    def run(self) -> None:
        """Sample until `end`."""
        while not self._ended.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def end(self) -> int:
        """Stop; bytes above rest."""
        self._ended.set()
        self.join()
        return self.peak_bytes - self.rest_bytes


def upload(installation: Installation, megabytes: int, until_megabytes: int | None = None) -> tuple[str, float]:
    """Digest and duration in seconds of an upload.

    installation: of the control port. megabytes: size of the content.
    until_megabytes: the connection is cut after so many; None: never.
    """
    digest = hashlib.sha256()
    for piece in pieces(megabytes):
        digest.update(piece)
    began = time.perf_counter()
    connection = connect(installation)
    connection.putrequest("PUT", f"/api/v1/blobs/{digest.hexdigest()}")
    connection.putheader("Content-Length", str(megabytes * PIECE_BYTES))
    connection.endheaders()
    for number, piece in enumerate(pieces(megabytes)):
        if number == until_megabytes:
            connection.close()
            return digest.hexdigest(), time.perf_counter() - began
        connection.send(piece)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()
    return digest.hexdigest(), time.perf_counter() - began


def left_over(folder: Path) -> list[Path]:
    """Files of a store besides records and its format; empty within ten seconds, or what remains."""
    for _ in range(1000):
        found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
        if len(found) <= 1:  # the blob of the small models
            return []
        time.sleep(0.01)
    return found


def measure(models: int, megabytes: int, rounds: int, store: str | None) -> list[Promise]:
    """The figures, printed, and their promises.

    models: number of registered ones. megabytes: size of the upload. rounds: requests per figure.
    store: URL; None: a new folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        url = store or f"{folder}/store"
        began = time.perf_counter()
        asyncio.run(fill(FileStore(url, Path(folder, "parts")), models))
        print(f"{models} models registered in {time.perf_counter() - began:.1f} s")
        with Installation(Path(folder), "--store", url) as installation:
            began = time.perf_counter()
            installation.start()
            print(f"`up` ready {time.perf_counter() - began:.1f} s after its start")
            connection = connect(installation)
            listed_s = answer_s(connection, "/api/v1/models", rounds)
            shown_s = answer_s(connection, "/api/v1/models/model-0/latest", rounds)
            print(f"list {listed_s * 1000:.1f} ms, show {shown_s * 1000:.1f} ms (median of {rounds})")
            upload(installation, megabytes, until_megabytes=megabytes // 2)
            remaining = [] if store else left_over(Path(url))
            print(f"upload broken off halfway: {len(remaining)} files left")
            assert installation.process is not None
            watch = MemoryWatch(installation.process.pid)
            watch.start()
            _, took_s = upload(installation, megabytes)
            grown_bytes = watch.end()
            rate = megabytes / took_s
            print(
                f"{megabytes} MiB uploaded in {took_s:.1f} s ({rate:.0f} MiB/s), {grown_bytes / 1e6:.1f} MB above rest"
            )
    return [
        Promise("list of all models (ms)", listed_s * 1000, MOST_ANSWER_S * 1000, at_least=False),
        Promise("one model (ms)", shown_s * 1000, MOST_ANSWER_S * 1000, at_least=False),
        Promise("files left by an upload broken off", len(remaining), 0, at_least=False, digits=0),
        Promise("memory of an upload above rest (MB)", grown_bytes / 1e6, MOST_GROWTH_BYTES / 1e6, at_least=False),
    ]


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the upload")
    parser.add_argument("--rounds", type=int, default=20, help="requests for each figure")
    parser.add_argument("--store", metavar="URL", help="an empty store; default: a new folder")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a promise is not kept")
    options = parser.parse_args(arguments)
    promises = measure(options.models, options.megabytes, options.rounds, options.store)
    return judged(promises, options.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
