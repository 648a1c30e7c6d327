"""Time of the dashboard's first paint and first rows with many endpoints, in a headless Chromium.

    python -m loadtests.first_paint [--endpoints 1000] [--versions 2] [--rounds 7] [--check]

Each round opens the overview with an empty cache. `paint` is the browser's first contentful paint, `rows` the first row
of the table in the page. --check: exit status 1 if the middle of either is above a second.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.chromium import Browser, browser, program
from loadtests.installation import REPLICA, Client, Installation, manifest

PROMISED_MS = 1000.0
AT_ONCE = 8
WATCH = """
new MutationObserver((_, watcher) => {
  if (!document.querySelector(".endpoints tbody tr")) return;
  window.rowsMs = performance.now();
  watcher.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
FIGURES = """
({
  paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  rows: window.rowsMs ?? null,
  overview: performance.getEntriesByType("resource").find((one) => one.name.includes("/overview"))?.duration ?? null,
  bytes: performance.getEntriesByType("resource").reduce((sum, one) => sum + one.transferSize, 0),
})
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if program() is None:
        sys.exit("Chromium is needed")
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_measure(Path(folder), given.endpoints, given.versions, given.rounds))
    paint, rows = (median(each[name] for each in found) for name in ("paint", "rows"))
    overview, kilobytes = median(each["overview"] for each in found), found[0]["bytes"] / 1000
    print(
        f"{given.endpoints} endpoints of {given.versions} versions: first paint {paint:.0f} ms, first rows"
        f" {rows:.0f} ms (middle of {given.rounds}); request of the rows {overview:.0f} ms; {kilobytes:.0f} KB loaded"
    )
    if given.check and max(paint, rows) > PROMISED_MS:
        sys.exit(f"above {PROMISED_MS:.0f} ms")


async def _measure(folder: Path, endpoints: int, versions: int, rounds: int) -> list[dict[str, Any]]:
    """Figures of each round.

    folder: for state and profile.
    endpoints, versions: number of endpoints, and of versions of each.
    rounds: number of pages opened.
    """
    with _replica() as address, Installation(folder) as installation:
        installation.start(_document(0, versions, address))
        async with Client(installation) as client:
            gate = asyncio.Semaphore(AT_ONCE)

            async def declare(number: int) -> None:
                document = _document(number, versions, address)
                async with gate:
                    status, answer = await client.rest(
                        "PUT", f"/api/v1/endpoints/{document['metadata']['name']}", document
                    )
                assert status == 201, answer

            await asyncio.gather(*(declare(number) for number in range(1, endpoints)))
        async with browser(folder) as opened:
            await opened.size(1280)
            await opened.call("Network.setCacheDisabled", cacheDisabled=True)
            await opened.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
            return [await _open(opened, installation.control) for _ in range(rounds)]


async def _open(page: Browser, url: str) -> dict[str, Any]:
    await page.go("about:blank")
    await page.go(url)
    figures: dict[str, Any] = await page.until(FIGURES, lambda found: found and found["paint"] and found["rows"])
    return figures


def _document(number: int, versions: int, address: str) -> dict[str, Any]:
    """One endpoint.

    number: of its name.
    versions: number of its versions.
    address: of the replica that all share.
    """
    share = 100 // versions
    made = [
        {"name": f"version-{place}", "replica": {"static": [address]}, "trafficPercentile": share}
        for place in range(versions)
    ]
    return manifest(f"endpoint-{number:04}", made)


@contextmanager
def _replica() -> Iterator[str]:
    """Address of a replica in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(REPLICA), "--port", str(port)])
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
