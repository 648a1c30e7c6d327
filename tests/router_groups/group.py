"""One group: a supervisor with its workers, told of replicas that run already, and of other groups by an authority.

    python -m tests.router_groups.group --name A --listen HOST:PORT --peers HOST --authority PATH --certificate FILES
        --workers N --replicas HOST:PORT,... --slots N [--queue-wait-ms N] [--scoring-timeout-ms N]

SIGTERM drains and ends it with status 0. The endpoint needs the key KEY.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from cluster.link import ResetAll, WorkerMetrics
from loadtests.installation import manifest
from router.core.view import View
from router.membership.agreement import MembershipPart
from router.supervisor.listening import listening_socket
from router.supervisor.worker_supervisor import Supervisor
from scorefront.process.event_loop import use_fast_loop
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import VersionKey
from serving.manifest import parse, to_endpoint
from serving.replica import Replica, ReplicaState
from serving.usage import UsageReport
from tests.router_groups.words import Count, Here, HowMany, Say, SetView, line, to_group

KEY = "k" * 43
VERSION = VersionKey("crowd", "blue")
STOP_S = 10.0


class Told:
    """Satisfies `router.membership.agreement.Membership`: the authority has the last word."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._on_view: Callable[[View], None] = lambda view: None
        writer.write(line(Here(name)))

    def attach(self, on_view: Callable[[View], None]) -> None:
        """See Membership."""
        self._on_view = on_view

    def announce(self, part: MembershipPart) -> None:
        """See Membership."""
        self._writer.write(line(Say(part)))

    async def listen(self, count: Callable[[], Awaitable[Count]]) -> None:
        """Until the authority is gone."""
        while text := await self._reader.readline():
            match to_group(text):
                case SetView(view):
                    self._on_view(view)
                case HowMany():
                    self._writer.write(line(await count()))


class Unheard:
    """Ignored reports."""

    def usage_reported(self, report: UsageReport) -> None:
        pass

    def replica_drained(self, replica_id: str) -> None:
        pass

    def workers_expected(self, workers: Collection[str]) -> None:
        pass

    def worker_ended(self, worker: str) -> None:
        pass


class Group(Supervisor):
    """Its workers are reached over TCP, each at a port of its own."""

    peers_host = ""

    def _address(self, serial: int) -> str:
        with socket.socket() as sock:
            sock.bind((self.peers_host, 0))
            return f"{self.peers_host}:{sock.getsockname()[1]}"


def snapshot(options: argparse.Namespace) -> ResetAll:
    """The snapshot of the control plane, the same for every group."""
    declared = {
        "name": VERSION.version,
        "replica": {"static": options.replicas.split(",")},
        "maxConcurrentRequestsPerContainer": options.slots,
        "maxQueueWaitMs": options.queue_wait_ms,
        "scoringTimeoutMs": options.scoring_timeout_ms,
    }
    endpoint = to_endpoint(parse(manifest(VERSION.endpoint, [declared])))
    digest = hashlib.sha256(KEY.encode()).digest()
    replicas = []
    for address in options.replicas.split(","):
        host, _, port = address.rpartition(":")
        replicas.append(Replica(address, *VERSION, host, int(port), ReplicaState.READY, options.slots, static=True))
    keys = KeyDigests(VERSION.endpoint, (digest, digest))
    return ResetAll((endpoint,), (keys,), TokenTrust("https://issuer.invalid"), tuple(replicas))


def summed(workers: list[WorkerMetrics]) -> Count:
    """The sum over all workers."""
    versions = [each for worker in workers for each in worker.versions if each.version == VERSION.version]
    return Count(
        sum(each.busy for each in versions),
        sum(each.total for each in versions),
        sum(each.waiting for each in versions),
        sum(worker.slot_violations for worker in workers),
        sum(worker.counters.get("double_returns", 0) for worker in workers),
    )


async def run(options: argparse.Namespace) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    host, _, port = options.listen.rpartition(":")
    told = Told(options.name, *await asyncio.open_unix_connection(options.authority, limit=1 << 20))
    Group.peers_host = options.peers
    with contextlib.closing(listening_socket(host, int(port))) as listen:
        command = [sys.executable, "-m", "tests.router_groups.worker", "router-worker"]
        command.append(f"--certificate={options.certificate}")
        group = Group(listen, options.workers, command, dict(os.environ), membership=told)

        async def count() -> Count:
            return summed([*await group.collect()])

        listening = asyncio.create_task(told.listen(count), name="listen to the authority")
        await group.start(lambda: snapshot(options), Unheard())
        print("ready", flush=True)
        await stop.wait()
        await group.close(STOP_S)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--peers", required=True, help="the address of this machine for links between workers")
    parser.add_argument("--authority", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True, help="a folder with cert.pem and key.pem")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--replicas", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--queue-wait-ms", type=int, default=10_000)
    parser.add_argument("--scoring-timeout-ms", type=int, default=60_000)
    use_fast_loop()
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
