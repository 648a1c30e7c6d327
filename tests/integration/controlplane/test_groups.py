"""The leader of a cluster and its router groups, over real sockets with mutual TLS."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from cluster.link import MAX_GROUP_FRAME_BYTES, Drained, GroupIs, Resize, Retire, encode
from cluster.trust import ROUTER, Trust
from cluster.unauthenticated import UnauthenticatedConnections
from controlplane import group_link as grouplink
from controlplane import router_groups as groups
from controlplane.router_groups import RouterGroups
from router.supervisor.listening import bound_socket
from serving.endpoint import VersionKey
from tests.fakes.authority import Authority
from tests.fakes.clock import eventually
from tests.fakes.router_group import FakeGroup, usage
from tests.fakes.router_reports import RecordedReports
from tests.unit.router.test_listening import needs_ipv6

BLUE = VersionKey("iris", "blue")
Join = Callable[..., Awaitable[FakeGroup]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def trust(authority: Authority) -> Trust:
    return authority.issue(ROUTER)


@pytest.fixture
def heard() -> RecordedReports:
    return RecordedReports()


@pytest.fixture
def door() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def port(door: socket.socket) -> int:
    number: int = door.getsockname()[1]
    return number


@pytest.fixture
async def leader(heard: RecordedReports, trust: Trust, door: socket.socket) -> AsyncIterator[RouterGroups]:
    made = RouterGroups(fence=7, trust=trust)
    made.report_to(heard)
    made.open(door)
    yield made
    await made.close()


@pytest.fixture
async def join(leader: RouterGroups, trust: Trust, port: int) -> AsyncIterator[Join]:
    made: list[FakeGroup] = []

    async def join(name: str, *workers: str, shown: Trust = trust) -> FakeGroup:
        made.append(FakeGroup(name, workers, shown))
        return await made[-1].join(port)

    yield join
    for group in made:
        await group.leave()


async def test_a_group_gets_the_leader_and_its_workers_are_expected(
    leader: RouterGroups, join: Join, heard: RecordedReports
) -> None:
    group = await join("a", "a1", "a2")
    await eventually(lambda: set(heard.workers) == {"a1", "a2"})
    assert group.fence() == 7
    assert leader.linked()["a"].pod == "pod-a"
    await eventually(lambda: leader.linked()["a"].load == group.load)


@needs_ipv6
async def test_a_group_at_a_port_for_both_families_is_known_by_its_address_of_ipv4(
    heard: RecordedReports, trust: Trust
) -> None:
    made = RouterGroups(fence=7, trust=trust)
    made.report_to(heard)
    made.locate({"pod-a": ["127.0.0.1"]})
    door = bound_socket("::", 0)
    made.open(door)
    group = FakeGroup("a", ("a1",), trust)
    await group.join(door.getsockname()[1])
    await eventually(lambda: set(heard.workers) == {"a1"})
    assert next(iter(made._links.values())).host == "127.0.0.1"
    await group.leave()
    await made.close()


async def test_reports_of_the_workers_of_all_groups_reach_the_control_plane(join: Join, heard: RecordedReports) -> None:
    first, second = await join("a", "a1"), await join("b", "b1")
    first.say(usage("a1", waiting=3, starved=True), Drained("r1"))
    second.say(usage("b1", busy=2))
    await eventually(lambda: len(heard.reports) == 2 and heard.drained == ["r1"])
    assert {report.worker: report.versions[0].busy for report in heard.reports} == {"a1": 0, "b1": 2}
    assert set(heard.workers) == {"a1", "b1"}


async def test_a_group_cannot_report_for_a_worker_of_another(join: Join, heard: RecordedReports) -> None:
    group = await join("a", "a1")
    group.say(usage("b1", busy=9), usage("a1", busy=1))
    await eventually(lambda: heard.reports)
    assert [report.worker for report in heard.reports] == ["a1"]


async def test_a_group_that_claims_the_workers_of_another_is_cut_off(join: Join, heard: RecordedReports) -> None:
    await join("a", "a1")
    await eventually(lambda: heard.workers)
    thief = await join("b", "a1")
    await thief.ended.wait()
    assert set(heard.workers) == {"a1"} and heard.gone == []


async def test_the_workers_of_a_group_that_is_gone_are_forgotten(join: Join, heard: RecordedReports) -> None:
    group = await join("a", "a1", "a2")
    await join("b", "b1")
    await eventually(lambda: len(heard.workers) == 3)
    await group.leave()
    await eventually(lambda: sorted(heard.gone) == ["a1", "a2"])
    assert set(heard.workers) == {"b1"}


async def test_a_worker_that_serves_stays_expected_though_its_group_is_not_linked(
    leader: RouterGroups, join: Join, heard: RecordedReports
) -> None:
    leader.expect({"a1": "pod-a", "b1": "pod-b"})
    group = await join("a", "a1")
    await eventually(lambda: leader.linked())
    assert set(leader.silent()) == {"b1"}
    await group.leave()
    await eventually(lambda: not leader.linked())
    assert set(heard.workers) == {"a1", "b1"} and heard.gone == []
    leader.expect({"b1": "pod-b"})
    assert set(heard.workers) == {"b1"} and heard.gone == ["a1"]


async def test_a_worker_that_a_group_has_no_more_is_forgotten(join: Join, heard: RecordedReports) -> None:
    group = await join("a", "a1", "a2")
    group.say(GroupIs("a", ("a2", "a3"), "pod-a"))
    await eventually(lambda: set(heard.workers) == {"a2", "a3"})
    assert heard.gone == ["a1"]


async def test_the_newer_of_two_links_of_one_group_counts(
    leader: RouterGroups, join: Join, heard: RecordedReports
) -> None:
    older = await join("a", "a1")
    await eventually(lambda: heard.workers)
    newer = await join("a", "a1")
    await older.ended.wait()
    newer.say(usage("a1"))
    await eventually(lambda: heard.reports)
    assert heard.gone == [] and set(leader.linked()) == {"a"}


# ---- orders


async def test_only_the_owner_of_the_slots_withdraws_replicas(leader: RouterGroups, join: Join) -> None:
    first, second = await join("a", "a1"), await join("b", "b1")
    second.owned = ["r1", "r2", "r3"]
    await eventually(lambda: len(leader.linked()) == 2)
    assert list(await leader.retire(BLUE, 2)) == ["r1", "r2"]
    for group in (first, second):
        assert [(each.key, each.count) for each in group.orders if isinstance(each, Retire)] == [(BLUE, 2)]


async def test_without_groups_nothing_is_retired_and_retire_does_not_wait(leader: RouterGroups) -> None:
    assert await leader.retire(BLUE, 1) == ()


async def test_retire_does_not_wait_for_silent_groups_once_the_owner_has_answered(
    leader: RouterGroups, join: Join
) -> None:
    mute, owner = await join("a", "a1"), await join("b", "b1")
    mute.owned, owner.owned = None, ["r1"]
    await eventually(lambda: len(leader.linked()) == 2)
    async with asyncio.timeout(groups.ANSWER_S / 2):
        assert list(await leader.retire(BLUE, 1)) == ["r1"]


async def test_retire_waits_at_most_a_second_for_a_silent_owner(
    leader: RouterGroups, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "ANSWER_S", 0.05)
    mute = await join("a", "a1")
    mute.owned = None
    await eventually(lambda: leader.linked())
    assert await leader.retire(BLUE, 1) == ()


async def test_a_group_that_ends_instead_of_answering_is_not_waited_for(
    leader: RouterGroups, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "ANSWER_S", 30.0)
    mute = await join("a", "a1")
    mute.owned = None
    await eventually(lambda: leader.linked())
    asked = asyncio.create_task(leader.retire(BLUE, 1))
    await eventually(lambda: any(isinstance(each, Retire) for each in mute.orders))
    await mute.leave()
    assert await asked == ()


async def test_every_group_gets_its_size_later_ones_too(
    leader: RouterGroups, join: Join, heard: RecordedReports
) -> None:
    first = await join("a", "a1")
    await eventually(lambda: leader.linked())
    leader.resize(2)
    second = await join("b", "b1")
    await eventually(lambda: Resize(2) in first.orders and Resize(2) in second.orders)
    await eventually(lambda: len(heard.workers) == 4)


async def test_the_end_of_leadership_closes_every_link_and_the_port(
    leader: RouterGroups, join: Join, port: int
) -> None:
    group = await join("a", "a1")
    await eventually(lambda: leader.linked())
    await leader.close()
    await group.ended.wait()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


# ---- refused peers


async def test_a_process_with_a_certificate_for_something_else_is_cut_off(
    leader: RouterGroups, heard: RecordedReports, authority: Authority, port: int
) -> None:
    stranger = await FakeGroup("a", ("a1",), authority.issue("somebody")).join(port)
    await stranger.ended.wait()
    await stranger.leave()
    assert leader.counters["groups_refused"] == 1
    assert heard.workers == ()


async def test_a_certificate_of_another_authority_opens_nothing(
    leader: RouterGroups, heard: RecordedReports, trust: Trust, port: int, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other").issue(ROUTER)
    stranger = FakeGroup("a", ("a1",), Trust(trust.ca, other.cert, other.key))  # it trusts the leader
    with contextlib.suppress(OSError):
        await stranger.join(port)
        await stranger.ended.wait()
    await stranger.leave()
    assert heard.workers == ()


async def test_without_tls_nothing_is_heard(leader: RouterGroups, heard: RecordedReports, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encode(GroupIs("a", ("a1",))))
    await _rest(reader)
    writer.close()
    assert heard.workers == ()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


JUNK = {
    "not a message": struct.pack(">I", 3) + b"abc",
    "a frame that is too large": struct.pack(">I", MAX_GROUP_FRAME_BYTES + 1),
    "too many workers": encode(GroupIs("a", tuple(f"w{number}" for number in range(65)))),
    "a name that is too long": encode(GroupIs("a", ("w" * 254,))),
    "no name": encode(GroupIs("", ("w",))),
    "another name": encode(GroupIs("b", ("w",))),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
async def test_a_group_that_sends_junk_is_cut_off(
    leader: RouterGroups, join: Join, heard: RecordedReports, junk: bytes
) -> None:
    group = await join("a", "a1")
    await eventually(lambda: leader.linked())
    group.write(junk)
    await group.ended.wait()
    await eventually(lambda: heard.gone == ["a1"])
    assert leader.counters["groups_refused"] == 1


async def test_a_report_before_the_greeting_closes_the_link(
    leader: RouterGroups, trust: Trust, heard: RecordedReports, port: int
) -> None:
    group = await FakeGroup("a", ("a1",), trust).dial(port)
    group.say(usage("a1"))
    await group.ended.wait()
    await group.leave()
    assert heard.reports == []


async def test_a_group_that_floods_is_cut_off_and_the_others_are_heard_all_the_same(
    leader: RouterGroups, join: Join, heard: RecordedReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouplink, "BURST_MESSAGES", 100.0)
    monkeypatch.setattr(grouplink, "MESSAGES_PER_S", 1.0)
    flooder, calm = await join("a", "a1"), await join("b", "b1")
    await eventually(lambda: len(leader.linked()) == 2)
    flooder.say(*[Drained("r")] * 200)
    await flooder.ended.wait()
    assert len(heard.drained) <= 100
    calm.say(usage("b1"))
    await eventually(lambda: heard.reports)


async def test_a_group_that_is_silent_or_speaks_drop_by_drop_is_cut_off(
    leader: RouterGroups, join: Join, heard: RecordedReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouplink, "SILENT_S", 0.2)
    group = await join("a", "a1")
    frame = encode(usage("a1"))
    for byte in frame[:-1]:
        group.write(bytes((byte,)))
        await asyncio.sleep(0.01)
        if group.ended.is_set():
            break
    await group.ended.wait()
    await eventually(lambda: heard.gone == ["a1"])


async def test_a_late_greeting_closes_the_link(
    leader: RouterGroups, trust: Trust, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setattr(groups, "GREET_S", 0.2)
    group = await FakeGroup("a", ("a1",), trust).dial(port)
    await group.ended.wait()
    await group.leave()


async def test_links_without_a_greeting_are_limited(leader: RouterGroups, join: Join, port: int) -> None:
    leader._unauthenticated = UnauthenticatedConnections(2, 2)
    strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await eventually(lambda: leader.counters["groups_refused"] == 1)
    assert await _rest(strangers[0][0]) == b""
    for _, writer in strangers:
        writer.close()
    while not leader.linked():  # until it has seen that they are gone
        with contextlib.suppress(OSError):
            await join("a", "a1")
        await asyncio.sleep(0.01)


async def test_a_group_that_does_not_read_its_orders_is_cut_off(leader: RouterGroups, join: Join) -> None:
    group = await join("a", "a1")
    await eventually(lambda: leader.linked())
    assert group.writer is not None
    transport = cast(asyncio.Transport, group.writer.transport)
    transport.pause_reading()
    for _ in range(400):
        for number in range(1000):
            leader.resize(1 + number % 2)
        await asyncio.sleep(0)
        if not leader.linked():
            break
    assert not leader.linked()
    transport.abort()
