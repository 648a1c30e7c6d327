"""Runs a LocalProvider until it is killed. usage: parent.py STATE_DIR COUNT LOOP(asyncio|uvloop) SOURCE(tiny|entry)"""

import asyncio
import sys
from pathlib import Path

import uvloop

from cluster.local.local_provider import LocalProvider
from serving.endpoint import ReplicaKind, ReplicaSource
from tests.integration.cluster_local.local_rig import Watcher, endpoint, tiny, version

HERE = Path(__file__).parent


async def main(state_dir: str, count: int, source: ReplicaSource) -> None:
    provider = LocalProvider(Path(state_dir))
    await provider.start()
    watcher = Watcher(provider)
    watching = asyncio.create_task(watcher.run(), name="watcher")
    await provider.apply(endpoint(version(source, slots_per_replica=2)), {"blue": count})
    for replica in await watcher.until_ready(count):
        print(replica.id, replica.port, flush=True)
    print("ready", flush=True)
    await watching


if __name__ == "__main__":
    _, directory, number, loop, kind = sys.argv
    entry = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(HERE / "score.py"), source_directory=str(HERE))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main(directory, int(number), tiny("fork") if kind == "tiny" else entry))
