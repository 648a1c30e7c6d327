"""Starts groups, the replicas behind them and the authority between them; ends all of it."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from loadtests import witness
from loadtests.bench.certificate import write_certificate
from loadtests.closedloop import Clients
from loadtests.http1 import post
from loadtests.installation import REPLICA
from loadtests.peers.rig import ROOT
from loadtests.stage import body
from router.core.view import Member
from tests.router_groups.authority import Authority, as_it_is
from tests.router_groups.group import KEY, VERSION
from tests.router_groups.network import FRONT, MIDDLE, PEERS, Network
from tests.router_groups.proxy import Proxy
from tests.router_groups.words import Count

START_S = 30.0
STOP_S = 15.0
PROBE_S = 0.1
GONE_S = 2.0
_PATH = f"/api/v1/service/{VERSION.endpoint}/score"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the rig."""

    groups: int = 2
    workers: int = 2
    replicas: int = 4
    slots: int = 1
    work_ms: float = 20
    queue_wait_ms: int = 10_000
    scoring_timeout_ms: int = 60_000
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings of the routers."""

    @property
    def total(self) -> int:
        """Slots of all replicas."""
        return self.replicas * self.slots


class Groups:
    """The running groups; numbered from 1."""

    def __init__(self, shape: Shape, folder: Path, network: Network | None, proxied: bool) -> None:
        self.shape = shape
        self.written = folder / "witness"
        self.network = network
        self._folder = folder
        # On one machine every group has a loopback address, and links cannot be cut.
        self.here = f"{FRONT}.{MIDDLE}" if network else "127.0.0.1"
        self.proxy = Proxy(f"{PEERS}.{MIDDLE}" if network else "127.0.0.1", random.Random(1)) if proxied else None
        self.authority = Authority(folder / "authority", self._through_proxy if proxied else as_it_is)
        self._replicas: list[subprocess.Popen[bytes]] = []
        self._groups: dict[int, subprocess.Popen[bytes]] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._behind: list[str] = []

    # ---- places

    def name(self, number: int) -> str:
        """Of a group."""
        return f"group-{number}"

    def address(self, number: int) -> tuple[str, int]:
        """Address of a group for clients."""
        return self._addresses[number]

    def process(self, number: int) -> subprocess.Popen[bytes]:
        """The supervisor of a group."""
        return self._groups[number]

    def processes(self, number: int) -> list[psutil.Process]:
        """The supervisor and its workers."""
        supervisor = psutil.Process(self._groups[number].pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def _front(self, number: int) -> str:
        return f"{FRONT}.{number}" if self.network else f"127.0.1.{number}"

    def _peers(self, number: int) -> str:
        return f"{PEERS}.{number}" if self.network else f"127.0.1.{number}"

    def _through_proxy(self, of: str, told: str, member: Member) -> Member:
        assert self.proxy is not None
        host, _, port = member.address.rpartition(":")
        there = f"{PEERS}.{MIDDLE}" if self.network else "127.0.0.1"
        return replace(member, address=f"{there}:{self.proxy.port(host, int(port))}")

    # ---- life

    async def start(self) -> None:
        """Everything; returns when every group serves."""
        write_certificate(
            self._folder, "127.0.0.1", f"{PEERS}.{MIDDLE}", *map(self._peers, range(1, self.shape.groups + 1))
        )
        await self.authority.start()
        for _ in range(self.shape.replicas):
            self._start_replica()
        for number in range(1, self.shape.groups + 1):
            self._start_group(number)
        for number in self._groups:
            await self._until_ready(number)

    def _start_replica(self) -> None:
        port = free_port(self.here)
        command = [sys.executable, str(REPLICA), "--host", self.here, "--port", str(port)]
        command += ["--work-ms", str(self.shape.work_ms), "--slots", str(self.shape.slots)]
        self._replicas.append(subprocess.Popen([*command, "--witness", str(self.written)]))
        self._behind.append(f"{self.here}:{port}")

    def _start_group(self, number: int) -> None:
        host, shape = self._front(number), self.shape
        address = host, free_port(host) if self.network is None else 8080
        options = {
            "name": self.name(number),
            "listen": f"{host}:{address[1]}",
            "peers": self._peers(number),
            "authority": self.authority.path,
            "certificate": self._folder,
            "workers": shape.workers,
            "replicas": ",".join(self._behind),
            "slots": shape.slots,
            "queue-wait-ms": shape.queue_wait_ms,
            "scoring-timeout-ms": shape.scoring_timeout_ms,
        }
        command = [sys.executable, "-m", "tests.router_groups.group"]
        command += [f"--{name}={value}" for name, value in options.items()]
        if self.network is not None:
            command = self.network.command(number, command)
        log = self.log(number)
        with log.open("w") as output:
            self._groups[number] = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **shape.environment}
            )
        self._addresses[number] = address

    def log(self, number: int) -> Path:
        """Log of a group."""
        return self._folder / f"{self.name(number)}.log"

    async def _until_ready(self, number: int) -> None:
        deadline = time.monotonic() + START_S
        while "ready" not in self.log(number).read_text():
            if self._groups[number].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name(number)} does not serve:\n{self.log(number).read_text()[-3000:]}")
            await asyncio.sleep(0.05)

    async def kill(self, number: int) -> float:
        """kill -9 of all that a group is; the moment (monotonic). The others hear of it when it is certain."""
        processes = self.processes(number)
        at_s = time.monotonic()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._groups[number].wait(GONE_S)
        while alive := [process for process in processes if _runs(process)]:
            if time.monotonic() - at_s > GONE_S:
                raise RuntimeError(f"processes that do not end: {alive}")
            await asyncio.sleep(0.01)
        self.authority.bury(self.name(number))
        return at_s

    async def close(self) -> None:
        """End everything."""
        for group in self._groups.values():
            if group.poll() is None:
                group.terminate()
        for group in self._groups.values():
            try:
                await asyncio.to_thread(group.wait, STOP_S)
            except subprocess.TimeoutExpired:
                group.kill()  # its workers end with it
                group.wait()
        for replica in self._replicas:
            replica.kill()
            replica.wait()
        if self.proxy is not None:
            await self.proxy.close()
        await self.authority.close()

    # ---- observations

    def clients(self, number: int, count: int, work_ms: int = 0) -> Clients:
        """Of one group; not started yet. `work_ms`: of their requests; 0: as the replicas are set."""
        return Clients(self.address(number), post(_PATH, KEY, body(work_ms)), count)

    async def count(self, number: int) -> Count:
        """Sum over the workers of a group."""
        return await self.authority.count(self.name(number))

    async def all_at_once(self, number: int) -> bool:
        """True if as many requests as there are slots run side by side through this group alone."""
        probe = self.clients(number, self.shape.total, int(PROBE_S * 1000))
        began = time.monotonic()
        good = await probe.once()
        return good and time.monotonic() - began < 1.8 * PROBE_S

    async def home_within(self, within_s: float, *numbers: int) -> float:
        """Seconds until every slot is to be had through each of these groups; infinite if that takes longer."""
        began = time.monotonic()
        for number in numbers:
            while not await self.all_at_once(number):
                if time.monotonic() - began > within_s:
                    return float("inf")
        return time.monotonic() - began - PROBE_S

    async def counts(self, *numbers: int) -> Count:
        """The sum over these groups."""
        found = [await self.count(number) for number in numbers]
        return Count(*(sum(getattr(each, name) for each in found) for name in Count.__struct_fields__))

    async def settled(self) -> None:
        """Everything that a replica has begun has ended, and is written down."""
        await asyncio.sleep(0.3 + 2 * self.shape.work_ms / 1000)

    def overlaps(self) -> int:
        """Requests that began on a replica without a slot for them."""
        return witness.over(witness.read(self.written), self.shape.slots)


def _runs(process: psutil.Process) -> bool:
    """True if the process can still act; a zombie only waits to be reaped."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port(host: str) -> int:
    """A port without a listener."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def groups(shape: Shape, separate: bool = False, proxied: bool = False) -> AsyncIterator[Groups]:
    """Everything, from its start to its end. `separate`: in network namespaces. Raises NoNetwork.

    `proxied`: messages between workers of different groups pass through `Groups.proxy`.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
        network = stack.enter_context(_namespaces(shape.groups)) if separate else None
        running = Groups(shape, folder, network, proxied)
        try:
            await running.start()
            yield running
        finally:
            await running.close()


@contextlib.contextmanager
def _namespaces(count: int) -> Iterator[Network]:
    network = Network(count)
    try:
        with network.entered():
            yield network
    finally:
        network.close()
