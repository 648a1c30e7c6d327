"""F26: one address without a certificate does not keep others from linking; policies hold where endpoints are."""

import asyncio
import socket
from pathlib import Path

import pytest

from cluster.strangers import Strangers
from cluster.trust import ROUTER
from controlplane.groups import MAX_STRANGERS, MAX_STRANGERS_OF_ONE, GroupEvents, Groups
from router.peers import arrivals
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.router_group import FakeGroup


def admit(strangers: Strangers[int], connection: int, address: str) -> int | None:
    victim = strangers.victim(address)
    if victim is not None:
        assert strangers.discard(victim)
    strangers.add(connection, address)
    return victim


def test_an_address_crowds_out_its_own_connections_oldest_first() -> None:
    strangers: Strangers[int] = Strangers(64, 8)
    told = [admit(strangers, number, "rogue") for number in range(100)]
    assert told == [None] * 8 + list(range(92))
    assert len(strangers) == 8 and admit(strangers, 1000, "router") is None


def test_a_full_table_makes_room_at_the_most_frequent_address() -> None:
    strangers: Strangers[int] = Strangers(10, 8)
    for number in range(8):
        admit(strangers, number, "rogue")
    assert admit(strangers, 100, "a") is None and admit(strangers, 101, "b") is None
    assert [admit(strangers, number, str(number)) for number in (102, 103, 104)] == [0, 1, 2]
    assert len(strangers) == 10


def test_processes_of_this_machine_have_no_share() -> None:
    strangers: Strangers[int] = Strangers(10, 2)
    assert [admit(strangers, number, "") for number in range(12)] == [None] * 10 + [0, 1]


def test_one_that_is_known_makes_no_room_and_is_discarded_once() -> None:
    strangers: Strangers[int] = Strangers(2, 2)
    strangers.add(1, "a")
    assert strangers.discard(1) and not strangers.discard(1)
    assert len(strangers) == 0 and list(strangers) == []


def test_the_shares_leave_room_for_a_whole_group() -> None:
    assert MAX_STRANGERS_OF_ONE * 2 <= MAX_STRANGERS
    assert 2 * 64 <= arrivals.MAX_STRANGERS_OF_ONE < arrivals.MAX_STRANGERS


async def test_a_silent_crowd_does_not_keep_a_router_from_its_leader(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    events = GroupEvents(lambda report: None, lambda replica: None, lambda workers: None, lambda worker: None)
    leader = Groups(events, fence=1, trust=authority.issue(ROUTER))
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    leader.open(sock)
    port = sock.getsockname()[1]
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_STRANGERS + 20)]
    await eventually(lambda: leader.counters["groups_refused"] >= MAX_STRANGERS + 20 - MAX_STRANGERS_OF_ONE)
    assert len(leader._strangers) == MAX_STRANGERS_OF_ONE
    group = await FakeGroup("a", ("a1",), authority.issue(ROUTER)).join(port)
    await eventually(leader.linked, within_s=3.0)
    for _, writer in crowd:
        writer.close()
    await group.leave()
    await leader.close()


@pytest.mark.parametrize("name", ["router", "control", "replicas"])
def test_every_policy_is_there(name: str) -> None:
    folder = Path(__file__).parents[2] / "deploy" / "components" / "network-policy"
    assert (folder / f"{name}.yaml").is_file()
