"""Ten thousand scores over each traffic vector of the contract; then the split changes under load.

python -m loadtests.traffic_split [--requests 10000]
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from loadtests.installation import Client, Installation, manifest, witness_version

CLIENTS = 16
VECTORS: list[tuple[dict[str, float | None], str, dict[str, float]]] = [
    ({"a-v": 20}, "a-v", {"a-v": 100}),
    ({"a-v": 20, "b-v": 10}, "a-v", {"a-v": 90, "b-v": 10}),
    ({"a-v": 20, "b-v": 40}, "b-v", {"a-v": 20, "b-v": 80}),
    ({"test": 10, "prod": 30, "third": None}, "third", {"test": 10, "prod": 30, "third": 60}),
]
"""(declared percentiles, default, expected percent)."""


def _document(number: int) -> dict[str, Any]:
    declared, default, _ = VECTORS[number]
    versions = []
    for name, percent in declared.items():
        version = witness_version(name, work_ms=0, slots=CLIENTS, numReplicas=1, isDefault=name == default)
        versions.append(version | ({"trafficPercentile": percent} if percent is not None else {}))
    return manifest(f"vector-{number}", [version | {"maxQueueWaitMs": 10_000} for version in versions])


async def _spread(client: Client, endpoint: str, requests: int) -> tuple[Counter[str], Counter[int]]:
    versions: Counter[str] = Counter()
    statuses: Counter[int] = Counter()

    async def score(count: int) -> None:
        for _ in range(count):
            status, fields, _ = await client.score(endpoint)
            statuses[status] += 1
            versions[fields.get("azureml-model-deployment", "")] += 1

    await asyncio.gather(*(score(requests // CLIENTS) for _ in range(CLIENTS)))
    return versions, statuses


async def _change_under_load(client: Client, requests: int) -> tuple[Counter[int], int]:
    """Swap the split of the second vector again and again while it is scored."""
    load = asyncio.create_task(_spread(client, "vector-1", requests), name="score")
    changes = 0
    while not load.done():
        percent = (10, 50, 0)[changes % 3]
        body = {"percentiles": {"a-v": 20, "b-v": percent}, "default": ("a-v", "b-v")[changes % 2]}
        status, answer = await client.rest("PATCH", "/api/v1/endpoints/vector-1/traffic", body)
        assert status == 200, answer
        changes += 1
        await asyncio.sleep(0.05)
    return (await load)[1], changes


async def measure(requests: int) -> bool:
    """Print the shares; returns True if all are as promised."""
    good = True
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as installation:
        installation.start(*(_document(number) for number in range(len(VECTORS))))
        async with Client(installation) as client:
            for number, (declared, default, expected) in enumerate(VECTORS):
                versions, statuses = await _spread(client, f"vector-{number}", requests)
                total = sum(versions.values())
                shares = {name: 100 * versions[name] / total for name in declared}
                off = max(abs(shares[name] - percent) for name, percent in expected.items())
                good &= off <= 1.0 and set(statuses) == {200}
                shown = ", ".join(f"{name} {share:.2f} %" for name, share in shares.items())
                print(f"{declared} default {default}: {shown}; at most {off:.2f} points off; {dict(statuses)}")
            statuses, changes = await _change_under_load(client, requests)
            good &= set(statuses) == {200}
            print(f"{changes} changes of the split under load: {dict(statuses)}")
        installation.stop()
    return good


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    good = asyncio.run(measure(parser.parse_args().requests))
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
