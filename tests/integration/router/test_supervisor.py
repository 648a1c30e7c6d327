"""A supervisor and the processes of its group: joining, dying, standing still, growing, shrinking, being replaced."""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.link import ResetAll, SetKeys
from router.core.view import Departed, Member, View
from router.membership.agreement import Membership, MembershipPart, merged_view
from router.supervisor.listening import listening_socket
from router.supervisor.roster import WorkerPhase
from router.supervisor.worker_supervisor import RestartFailed, Supervisor
from serving.credentials import TokenTrust
from serving.endpoint import VersionKey
from tests.fakes.clock import eventually
from tests.fakes.router_reports import RecordedReports
from tests.integration.router.clients import BrokenOff, Client, get
from tests.integration.router.group import environment
from tests.integration.router.rig import keys

EMPTY = partial(ResetAll, (), (), TokenTrust("https://issuer.test"), ())
COMMAND = [sys.executable, "-m", "tests.fakes.group_worker", "router-worker"]
BLUE = VersionKey("iris", "blue")


class Crew(RecordedReports):
    """A group of fake workers, and the reports to its owner."""

    def __init__(self, folder: Path, workers: int, membership: Membership | None = None, **settings: Any) -> None:
        super().__init__()
        self._listen = listening_socket("127.0.0.1", 0)
        self.port: int = self._listen.getsockname()[1]
        self._clients: list[Client] = []
        self.environment = {**environment(**settings), "XDG_RUNTIME_DIR": str(folder)}
        self.supervisor = Supervisor(self._listen, workers, COMMAND, self.environment, membership=membership)
        self.command: list[str] = self.supervisor.spawner.command

    def misbehaving(self, how: str) -> None:
        """Workers that are started from here on."""
        self.supervisor.spawner.environment["FAKE_WORKER"] = how

    async def stop(self) -> None:
        for client in self._clients:
            client.leave()
        await self.supervisor.close(5)
        self._listen.close()

    async def client(self) -> Client:
        client = await Client.connect(self.port)
        self._clients.append(client)
        return client

    async def ask(self, path: str = "/", client: Client | None = None) -> dict[str, Any]:
        """The answer of any worker, or of the client's one."""
        answer = await (client or await self.client()).ask(get(path))
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def serving(self) -> list[str]:
        return [name for name, phase in self.supervisor.workers.phases().items() if phase is WorkerPhase.SERVING]

    def departed(self) -> dict[str, Any]:
        return {each.name: each.held for each in self.supervisor.view.departed}

    async def counter(self, name: str) -> int:
        """A counter of the supervisor."""
        return (await self.supervisor.collect())[-1].counters[name]


Crews = Callable[..., Awaitable[Crew]]


@pytest.fixture
async def crews(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Crews]:
    async with AsyncExitStack() as stack:

        async def start(workers: int = 1, **how: Any) -> Crew:
            crew = Crew(tmp_path_factory.mktemp("run"), workers, **how)
            stack.push_async_callback(crew.stop)
            async with asyncio.timeout(20):
                await crew.supervisor.start(EMPTY, crew)
            return crew

        yield start


class Load:
    """Clients that ask again and again on connections of their own; `failed` must stay empty."""

    def __init__(self, crew: Crew, clients: int = 8) -> None:
        self.served: Counter[str] = Counter()
        self.failed: list[BaseException] = []
        self._crew = crew
        self._tasks = [asyncio.create_task(self._ask(), name=f"client {n}") for n in range(clients)]

    async def _ask(self) -> None:
        client = await self._crew.client()
        while True:
            try:
                self.served[(await self._crew.ask(client=client))["name"]] += 1
            except (BrokenOff, OSError, TimeoutError) as error:
                self.failed.append(error)
                return
            await asyncio.sleep(0.002)

    async def more(self, requests: int = 100) -> None:
        """Wait until so many more have been served."""
        enough = self.served.total() + requests
        await eventually(lambda: self.served.total() > enough or self.failed, 20)
        assert not self.failed

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


# ---- joining


async def test_every_worker_gets_a_table_and_a_view_that_names_it_before_it_serves(crews: Crews) -> None:
    crew = await crews(2)
    names = list(crew.supervisor.workers.processes())
    assert len(names) == 2
    assert [(each.name, each.eligible) for each in crew.supervisor.view.members] == [(name, True) for name in names]
    assert (await crew.ask())["told"][:2] == ["ResetAll", "SetView"]
    assert set(crew.workers) == set(names)
    await eventually(lambda: sorted(each.worker for each in crew.reports) == sorted(names))


async def test_peers_are_reached_in_a_folder_that_is_private_and_goes_with_its_supervisor(crews: Crews) -> None:
    crew = await crews(2)
    paths = [Path(each.address.removeprefix("unix:")) for each in crew.supervisor.view.members]
    (folder,) = {path.parent for path in paths}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.with_name(f"{path.name}.handoff").is_socket() for path in paths)
    assert folder.parent == Path(crew.environment["XDG_RUNTIME_DIR"])
    await crew.supervisor.close(5)
    assert not folder.exists()


async def test_published_changes_reach_every_worker_in_order(crews: Crews) -> None:
    crew = await crews(2)
    crew.supervisor.publish(SetKeys(keys("k" * 43)))
    await crew.supervisor.collect()
    told = await told_by_all(crew)
    assert all(messages[-2:] == ["SetKeys", "Collect"] for messages in told.values())


async def told_by_all(crew: Crew) -> dict[str, list[str]]:
    """Worker -> its received messages; asked until each has accepted a connection."""
    told: dict[str, list[str]] = {}
    async with asyncio.timeout(10):
        while len(told) < len(crew.serving()):
            found = await crew.ask()
            told[found["name"]] = found["told"]
    return told


# ---- dying


async def test_the_requests_in_flight_of_a_killed_worker_are_in_the_next_view(crews: Crews) -> None:
    crew = await crews(2)
    client = await crew.client()
    first = (await crew.ask("/begin/r1", client))["name"]
    for replica in ("r1", "r2"):
        await crew.ask(f"/begin/{replica}", client)
    os.kill(crew.supervisor.workers.processes()[first], signal.SIGKILL)
    await eventually(lambda: first in crew.departed())
    # Every start is another object here, like a returning replica: the row sums objects of one name.
    assert crew.departed()[first] == {"r1": 2, "r2": 1}
    assert first not in crew.supervisor.view.names()
    await eventually(lambda: len(crew.serving()) == 2, 20)
    assert first not in crew.serving()
    assert crew.gone == [first]
    assert await crew.counter("workers_died") == 1


async def test_the_others_hear_of_a_death_before_its_successor_has_started(crews: Crews) -> None:
    crew = await crews(2)
    dead, other = crew.serving()
    crew.misbehaving("mute")
    os.kill(crew.supervisor.workers.processes()[dead], signal.SIGKILL)
    await eventually(lambda: dead in crew.departed())
    assert [each.name for each in crew.supervisor.view.members if each.eligible] == [other]
    await crew.supervisor.collect()  # a worker that has answered has executed its earlier messages
    assert (await crew.ask())["members"] == [other]


async def test_a_worker_that_speaks_another_language_is_replaced(crews: Crews) -> None:
    crew = await crews(1)
    crew.misbehaving("babbling")
    (old,) = crew.serving()
    os.kill(crew.supervisor.workers.processes()[old], signal.SIGKILL)
    await eventually(lambda: crew.gone.count(old) == 1 and len(crew.gone) >= 2, 20)
    crew.misbehaving("")
    await eventually(lambda: crew.serving(), 20)


async def test_a_worker_that_cannot_be_started_is_tried_again(crews: Crews) -> None:
    crew = await crews(1)
    right = list(crew.command)
    crew.command[:] = ["/nowhere/to/be/found"]
    (old,) = crew.serving()
    os.kill(crew.supervisor.workers.processes()[old], signal.SIGKILL)
    await eventually(lambda: len(crew.gone) >= 2, 20)
    crew.command[:] = right
    await eventually(lambda: crew.serving(), 20)
    assert list(crew.departed()) == [old]


# ---- standing still


async def test_a_worker_with_a_blocked_loop_is_killed_counted_and_replaced(crews: Crews) -> None:
    crew = await crews(2, worker_silent_s=0.5)
    busy = await crew.client()
    stuck = (await crew.ask("/begin/r1", busy))["name"]
    busy.send(get("/freeze"))
    await eventually(lambda: crew.departed().get(stuck) == {"r1": 1}, 20)
    await eventually(lambda: len(crew.serving()) == 2, 20)
    assert await crew.counter("workers_silent") == 1


async def test_a_stopped_worker_is_killed_too_and_a_lively_one_is_not(crews: Crews) -> None:
    crew = await crews(2, worker_silent_s=0.5)
    stopped, other = crew.serving()
    os.kill(crew.supervisor.workers.processes()[stopped], signal.SIGSTOP)
    await eventually(lambda: stopped in crew.departed(), 20)
    await eventually(lambda: len(crew.serving()) == 2, 20)
    assert other in crew.serving()
    assert (await crew.counter("workers_silent"), await crew.counter("workers_died")) == (1, 0), "killed, not died"


# ---- growing and shrinking


async def test_from_one_to_four_to_two_under_load_no_request_fails_and_no_connection_ends(crews: Crews) -> None:
    crew = await crews(1)
    load = Load(crew)
    await load.more()
    await crew.supervisor.resize(4)
    assert len(crew.serving()) == 4
    more = Load(crew)
    await more.more()
    await eventually(lambda: len(load.served | more.served) == 4)  # connections are passed to workers with few
    await crew.supervisor.resize(2)
    await eventually(lambda: len(crew.supervisor.workers.processes()) == 2, 20)
    await load.more()
    await more.more()
    assert list(crew.supervisor.workers.phases().values()) == [WorkerPhase.SERVING] * 2
    assert list(crew.departed().values()) == [{}, {}]
    assert await crew.counter("workers_ended") == 2 and await crew.counter("workers_died") == 0
    for each in (load, more):
        await each.end()


async def test_a_new_worker_gets_its_part_of_the_clients_at_once(crews: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.supervisor.worker_supervisor.BALANCE_TICKS", 10**9)
    crew = await crews(1)
    load = Load(crew)
    await load.more()
    (link,) = crew.supervisor.workers.handles.values()
    await eventually(lambda: link.row.connections == 8)
    await crew.supervisor.resize(2)
    await eventually(lambda: len(load.served) == 2)
    await load.end()


async def test_a_group_is_uneven_until_a_new_worker_has_its_part_of_the_clients(
    crews: Crews, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = await crews(1)
    assert crew.supervisor.is_even()
    load = Load(crew)
    await load.more()
    monkeypatch.setattr("router.supervisor.running_workers.balancing_moves", lambda clients: [])
    await crew.supervisor.resize(2)
    monkeypatch.undo()
    await eventually(lambda: not crew.supervisor.is_even())
    assert crew.supervisor.work().keys() == set(crew.serving())
    await eventually(crew.supervisor.is_even)
    served = load.served.copy()
    await eventually(lambda: len(load.served - served) == 2)
    await load.end()


async def test_a_group_never_has_less_than_one_worker(crews: Crews) -> None:
    crew = await crews(1)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        await crew.supervisor.resize(0)
    assert len(crew.serving()) == 1


async def test_waiting_for_a_size_that_does_not_come_about_can_be_given_up(crews: Crews) -> None:
    crew = await crews(1)
    crew.command[:] = ["false"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await crew.supervisor.resize(2)
    assert len(crew.serving()) == 1


# ---- being replaced


async def test_every_worker_is_replaced_in_turn_and_no_request_fails(crews: Crews) -> None:
    crew = await crews(2)
    before = set(crew.serving())
    load = Load(crew)
    await load.more()
    await crew.supervisor.restart()
    assert len(crew.serving()) == len(crew.supervisor.workers.processes()) == 2
    assert not before & set(crew.serving())
    await load.more()
    await load.end()
    assert crew.departed() == {name: {} for name in before}


async def test_a_worker_leaves_only_when_its_successor_may_own_its_versions(crews: Crews) -> None:
    crew = await crews(1)
    seen: list[list[bool]] = []
    on_view = crew.supervisor._on_view

    def watch(view: View) -> None:
        seen.append([member.eligible for member in view.members])
        on_view(view)

    crew.supervisor._membership.attach(watch)
    await crew.supervisor.restart()
    assert seen == [[True, False], [False, True], [True]]


async def test_a_successor_that_does_not_come_up_changes_nothing(crews: Crews) -> None:
    crew = await crews(2)
    before = crew.serving()
    crew.command[:] = ["false"]
    with pytest.raises(RestartFailed, match="the old one continues"):
        await crew.supervisor.restart()
    assert crew.serving() == before
    assert crew.departed() == {}


async def test_a_successor_that_hangs_is_given_up(crews: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.supervisor.worker_supervisor.START_S", 0.5)
    crew = await crews(1)
    crew.misbehaving("mute")
    before = crew.serving()
    with pytest.raises(RestartFailed):
        await crew.supervisor.restart()
    await eventually(lambda: list(crew.supervisor.workers.processes()) == before)


# ---- questions


async def test_only_the_owner_retires_and_it_reports_drained_replicas(crews: Crews) -> None:
    crew = await crews(3)
    owner = crew.supervisor.view.owner(BLUE)
    assert await crew.supervisor.retire(BLUE, 1) == (owner,)
    await eventually(lambda: crew.drained == [owner])


async def test_retire_does_nothing_while_the_owner_is_in_another_group(crews: Crews) -> None:
    store = Store()
    crew = await crews(1, membership=store)
    # A worker's name has chance in it, so its rank has too: the other group gets members until one of them outranks it.
    far = (Member(f"far{n}", f"10.0.0.2:{n}") for n in itertools.count())
    joined: list[Member] = []
    while crew.supervisor.view.owner(BLUE) not in {member.name for member in joined}:
        joined.append(next(far))
        store.say_for("other", MembershipPart(tuple(joined)))
    assert await crew.supervisor.retire(BLUE, 1) == ()


async def test_one_scrape_has_the_counts_of_all_workers_and_of_their_supervisor(crews: Crews) -> None:
    crew = await crews(3)
    metrics = await crew.supervisor.collect()
    assert [each.worker for each in metrics[:-1]] == list(crew.supervisor.workers.processes())
    assert metrics[-1].worker.startswith("supervisor-")
    assert metrics[-1].counters == {"workers_started": 3, "workers_ended": 0, "workers_died": 0, "workers_silent": 0}


# ---- other groups


class Store:
    """The shared history of the membership parts of all groups."""

    def __init__(self) -> None:
        self.parts: dict[str, MembershipPart] = {}
        self.epoch = 40
        self.on_view: Callable[[View], None] = lambda view: None

    def attach(self, on_view: Callable[[View], None]) -> None:
        self.on_view = on_view

    def announce(self, part: MembershipPart) -> None:
        self.say_for("this", part)

    def say_for(self, group: str, part: MembershipPart) -> None:
        self.parts[group] = part
        self.epoch += 1
        self.on_view(merged_view(self.epoch, self.parts.values()))


async def test_the_members_of_other_groups_are_in_the_views_of_this_one(crews: Crews) -> None:
    store = Store()
    far = Member("far", "10.0.0.2:7000")
    store.say_for("other", MembershipPart((far,)))
    crew = await crews(1, membership=store)
    (near,) = crew.serving()
    assert set((await crew.ask())["members"]) == {near, "far"}
    store.say_for("other", MembershipPart((), (Departed("far", None),)))
    assert crew.supervisor.view.epoch == store.epoch
    assert crew.departed() == {"far": None}
    await eventually(lambda: crew.supervisor.view.names() == (near,))
    await crew.supervisor.collect()
    assert (await crew.ask())["members"] == [near]


# ---- the end


async def test_a_supervisor_that_is_closed_while_it_starts_leaves_nothing(crews: Crews) -> None:
    crew = await crews(1)
    growing = asyncio.create_task(crew.supervisor.resize(3), name="grow")
    await asyncio.sleep(0.05)
    await crew.supervisor.close(5)
    await growing
    assert crew.supervisor.workers.processes() == {}


async def test_a_worker_that_does_not_end_in_time_is_killed(crews: Crews) -> None:
    crew = await crews(1)
    client = await crew.client()
    client.send(get("/freeze"))
    with suppress(BrokenOff):
        await crew.supervisor.close(0.2)
    assert crew.supervisor.workers.processes() == {}
