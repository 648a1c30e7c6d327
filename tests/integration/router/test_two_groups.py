"""Two supervisors with real workers that reach each other over TCP, as in two pods, with one membership."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster.link import ResetAll
from cluster.trust import ROUTER
from router.core.view import View
from router.membership.agreement import MembershipPart, merged_view
from router.peers.peer_identity import trust_from_folder
from router.supervisor.listening import listening_socket
from router.supervisor.peer_ports import PeerPorts
from router.supervisor.roster import WorkerPhase
from router.supervisor.worker_supervisor import Supervisor, worker_command
from serving.replica import Replica, ReplicaState
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.router_reports import RecordedReports
from tests.integration.router.clients import Client, get
from tests.integration.router.group import environment, snapshot
from tests.integration.router.replicas import OK, Request, Wire
from tests.integration.router.replicas import Replica as RunningReplica


class Agreement:
    """The membership of all groups, in one order; updates wait while it is held."""

    def __init__(self) -> None:
        self.parts: dict[str, MembershipPart] = {}
        self.said: list[tuple[str, MembershipPart]] = []
        self.held = False
        self._epoch = 0
        self._listeners: list[Callable[[View], None]] = []

    def seat(self, name: str) -> "AgreementSeat":
        return AgreementSeat(self, name)

    def announce(self, name: str, part: MembershipPart) -> None:
        self.said.append((name, part))
        self.parts[name] = part
        if not self.held:
            asyncio.get_running_loop().call_soon(self.tell)

    def tell(self) -> None:
        self._epoch += 1
        for listener in self._listeners:
            listener(merged_view(self._epoch, self.parts.values()))

    def listen(self, listener: Callable[[View], None]) -> None:
        self._listeners.append(listener)


class AgreementSeat:
    """Satisfies `router.membership.agreement.Membership`."""

    def __init__(self, agreement: Agreement, name: str) -> None:
        self._agreement = agreement
        self._name = name

    def attach(self, on_view: Callable[[View], None]) -> None:
        self._agreement.listen(on_view)

    def announce(self, part: MembershipPart) -> None:
        self._agreement.announce(self._name, part)


class Pair:
    """The groups `a` and `b`."""

    def __init__(self, told: ResetAll, peers: Path) -> None:
        self._told = told
        self.agreement = Agreement()
        self.supervisors: dict[str, Supervisor] = {}
        self.ports: dict[str, int] = {}
        self._listening = []
        for name in ("a", "b"):
            listen = listening_socket("127.0.0.1", 0)
            self._listening.append(listen)
            self.ports[name] = listen.getsockname()[1]
            self.supervisors[name] = Supervisor(
                listen,
                2,
                [*worker_command(), f"--peers-dir={peers}"],
                environment(),
                membership=self.agreement.seat(name),
                peer_ports=PeerPorts("127.0.0.1"),
            )

    async def start(self) -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(each.start(lambda: self._told, RecordedReports()) for each in self.supervisors.values())
            )

    async def stop(self) -> None:
        violations = [m.slot_violations for each in self.supervisors.values() for m in await each.collect()]
        self.agreement.held = False
        await asyncio.gather(*(each.close(5) for each in self.supervisors.values()))
        for sock in self._listening:
            sock.close()
        assert not any(violations)


async def at_work(wire: Wire, request: Request) -> None:
    """A moment, then an answer."""
    await wire.send(0.003, OK)


@pytest.fixture
async def replica() -> AsyncIterator[RunningReplica]:
    running = RunningReplica(at_work)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def pair(replica: RunningReplica, tmp_path: Path) -> AsyncIterator[Pair]:
    peers = tmp_path / "peers"
    made = Authority(peers).issue(ROUTER)
    made.cert.rename(trust_from_folder(peers).cert)
    made.key.rename(trust_from_folder(peers).key)
    declared = Replica("r", "iris", "blue", "127.0.0.1", replica.port, ReplicaState.READY, 1)
    found = Pair(snapshot(declared), peers)
    await found.start()
    yield found
    await found.stop()


class Load:
    """Clients of one group, one request after the other each; every one must be served."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.served = 0
        self._port = port
        self._tasks = [asyncio.create_task(self._ask(), name=f"client {number}") for number in range(clients)]

    async def _ask(self) -> None:
        while True:
            client = await Client.connect(self._port)
            try:
                while True:
                    answer = await client.ask(get())
                    assert answer.status == 200, answer
                    self.served += 1
                    if "close" in answer.values("connection"):
                        break
            finally:
                client.leave()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


async def test_two_groups_share_one_slot_exactly(pair: Pair, replica: RunningReplica) -> None:
    loads = [Load(port) for port in pair.ports.values()]
    await eventually(lambda: min(load.served for load in loads) > 100, within_s=20)
    for load in loads:
        await load.stop()
    assert replica.most_at_once == 1


async def test_workers_of_a_group_reach_each_other_in_a_folder_and_those_of_the_other_at_doors(
    pair: Pair,
) -> None:
    addresses = {member.name: member.address for member in pair.supervisors["a"].view.members}
    assert len(addresses) == 4
    assert all(address.startswith("127.0.0.1:") for address in addresses.values()), "others have no use for a path"
    # Connections pass between workers only over sockets of the folder: a restart without a lost one shows them.
    load = Load(pair.ports["a"])
    await pair.supervisors["a"].restart()
    served = load.served
    await eventually(lambda: load.served > served)
    await load.stop()


async def test_a_worker_that_is_to_leave_stays_until_the_others_know_that_it_owns_nothing(pair: Pair) -> None:
    supervisor = pair.supervisors["a"]
    load = Load(pair.ports["b"])
    pair.agreement.held = True
    resizing = asyncio.create_task(supervisor.resize(1), name="resize")
    await eventually(lambda: WorkerPhase.DRAINING in supervisor.workers.phases().values())
    served = load.served
    await eventually(lambda: load.served > served + 50)
    assert len(supervisor.workers.processes()) == 2, "its versions would be nobody's"
    pair.agreement.held = False
    pair.agreement.tell()
    await eventually(lambda: len(supervisor.workers.processes()) == 1)
    await resizing
    await load.stop()


async def test_a_closing_group_gives_up_ownership_before_its_workers_end(pair: Pair) -> None:
    load = Load(pair.ports["b"])
    await eventually(lambda: load.served > 20)
    del pair.agreement.said[:]
    await pair.supervisors["a"].close(5)
    served = load.served
    await eventually(lambda: load.served > served + 50)
    await load.stop()
    first = next(part for name, part in pair.agreement.said if name == "a")
    assert [member.eligible for member in first.members] == [False, False]
    last = [part for name, part in pair.agreement.said if name == "a"][-1]
    assert last.members == ()
    assert [each.held for each in last.departed] == [{}, {}]
