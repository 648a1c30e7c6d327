"""Logs, changes, limits, and the process table as text."""

import asyncio
import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import replica_feed as feeding
from cluster.changes import Remove, Reset, Upsert
from cluster.local import replica_logs as logging_
from cluster.local.inherited_environment import WITHHELD, withheld_note
from cluster.local.limits import Cores, choose_cores, memory_by_ancestor, over_memory
from cluster.local.machine import LocalMachine
from cluster.local.probe import has_clients, has_work
from cluster.local.process_guard import Process, parse_stat
from cluster.local.replica_logs import FILE_BYTES, KEPT_GONE, LINE_BYTES, QUIET_S, LineBuffer, LogStore
from cluster.local.version_replicas import REMEMBERED_IDS, VersionReplicas
from cluster.replica_feed import ReplicaFeed
from cluster.timed_line import TimedLine
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState
from tests.fakes.iterators import closed

KEY = VersionKey("iris", "blue")


def unstamped(heard: tuple[str, TimedLine]) -> tuple[str, str]:
    """Replica and text of a followed line."""
    replica, line = heard
    return replica, line.text


@given(st.lists(st.binary(max_size=50)))
def test_lines_are_the_same_however_they_are_cut_on_the_way(chunks: list[bytes]) -> None:
    whole, pieces = LineBuffer(), LineBuffer()
    data = b"".join(chunks)
    expected = whole.feed(data) + whole.finish()
    assert [line for chunk in chunks for line in pieces.feed(chunk)] + pieces.finish() == expected
    assert b"\n".join(expected).replace(b"\r", b"") == data.removesuffix(b"\n").replace(b"\r", b"")


def test_a_line_without_end_does_not_grow_for_ever() -> None:
    lines = LineBuffer()
    found = [piece for _ in range(10) for piece in lines.feed(b"x" * 5000)] + lines.finish()
    assert sum(map(len, found)) == 50_000 and max(map(len, found)) <= LINE_BYTES


async def test_a_log_is_turned_over_and_reads_as_one(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    log = store.open(KEY, "r1")
    for number in range(20_000):
        log.write(b"%05d %s\n" % (number, b"x" * 60))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "iris" / "blue").iterdir()}
    assert sizes.keys() == {"r1.log", "r1.log.1"} and all(size <= FILE_BYTES for size in sizes.values())
    lines = [line.text for line in (await store.tail(KEY, 15_000))["r1"]]
    assert [line[:5] for line in lines] == [f"{number:05d}" for number in range(5_000, 20_000)]
    assert (await store.tail(KEY, 0))["r1"] == []
    store.close(KEY, "r1")


async def test_lines_keep_the_time_at_which_they_were_written(tmp_path: Path) -> None:
    now = [1_700_000_000.25]
    store = LogStore(tmp_path, lambda: now[0])
    log = store.open(KEY, "r1")
    log.write(b"one\ntwo")
    now[0] += 1.5
    log.write(b" halves\n")
    for _ in range(300):  # more than the lines in memory
        log.write(b"more\n")
    store.close(KEY, "r1")
    first, second, *_ = (await LogStore(tmp_path).tail(KEY, 1000))["r1"]
    assert (first, second) == ((1_700_000_000.25, "one"), (1_700_000_001.75, "two halves"))


async def test_the_last_line_is_shown_without_its_end_once_its_replica_is_quiet(tmp_path: Path) -> None:
    now = [1000.0]
    store = LogStore(tmp_path, lambda: now[0])
    log = store.open(KEY, "r1")
    log.write(b"ready\nloading model")
    assert [line.text for line in (await store.tail(KEY, 9))["r1"]] == ["ready"]  # the rest may be on its way
    now[0] += QUIET_S
    assert [line.text for line in (await store.tail(KEY, 9))["r1"]] == ["ready", "loading model"]
    log.write(b" done\n")
    assert [line.text for line in (await store.tail(KEY, 9))["r1"]][1:] == ["loading model", " done"]
    store.close(KEY, "r1")


async def test_a_follower_is_shown_the_last_line_without_its_end(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    lines = store.follow(KEY)
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    store.open(KEY, "r1").write(b"Continue? [y/n] ")
    async with asyncio.timeout(10):
        assert unstamped(await first) == ("r1", "Continue? [y/n] ")
    await closed(lines)
    store.close(KEY, "r1")


def test_a_reason_quotes_the_last_lines_without_those_of_scorefront_on_the_environment(tmp_path: Path) -> None:
    log = LogStore(tmp_path).open(KEY, "r1")
    log.write(withheld_note({"FOO": "x"}, {}) + b"no model\n\nhere\n")
    assert log.last(20, besides=WITHHELD) == "no model\nhere" and log.last(1) == "here"
    log.close()


async def test_a_full_disk_loses_lines_but_blocks_no_writer(tmp_path: Path) -> None:
    blocked = tmp_path / "logs"
    blocked.write_text("a file where the folder should be")
    store = LogStore(blocked)
    log = store.open(KEY, "r1")
    log.write(b"one\ntwo\n")
    assert log.dropped_lines == 2
    assert [line.text for line in (await store.tail(KEY, 1))["r1"]] == ["two"]
    store.close(KEY, "r1")


async def test_the_logs_of_the_last_replicas_that_are_gone_are_kept(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    living = store.open(KEY, "living")
    living.write(b"still here\n")
    os.utime(tmp_path / "iris" / "blue" / "living.log", (0, 0))
    for number in range(KEPT_GONE + 3):
        store.open(KEY, f"r{number}").write(b"bye\n")
        os.utime(tmp_path / "iris" / "blue" / f"r{number}.log", (number + 1, number + 1))
        store.close(KEY, f"r{number}")
    assert (await store.tail(KEY, 5)).keys() == {"living", *(f"r{number}" for number in range(3, KEPT_GONE + 3))}
    store.close(KEY, "living")


async def test_the_logs_of_a_version_go_with_its_last_replica_once_it_is_no_more(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    green = VersionKey("iris", "green")
    for key in (KEY, green):
        for number in range(3):
            store.open(key, f"r{number}").write(b"hello\n")
        store.close(key, "r0")
    store.drop("iris", keep={"green"})
    assert (await store.tail(KEY, 1)).keys() == {"r1", "r2"}  # those that still end their requests
    assert (await store.tail(green, 1)).keys() == {"r0", "r1", "r2"}
    store.close(KEY, "r1")
    store.close(KEY, "r2")
    assert os.listdir(tmp_path / "iris") == ["green"]
    store.drop("iris")
    store.open(green, "r3").write(b"it is declared anew\n")
    for number in (1, 2, 3):
        store.close(green, f"r{number}")
    assert (await store.tail(green, 1)).keys() == {"r1", "r2", "r3"}
    store.drop("iris")
    assert os.listdir(tmp_path) == []


async def test_a_slow_listener_loses_the_oldest_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_, "FOLLOW_BACKLOG", 3)
    store = LogStore(tmp_path)
    lines = store.follow(KEY)
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    log = store.open(KEY, "r1")
    log.write(b"1\n2\n3\n4\n5\n")
    heard = [await first, await anext(lines), await anext(lines)]
    assert list(map(unstamped, heard)) == [("r1", "3"), ("r1", "4"), ("r1", "5")]
    await closed(lines)
    store.close(KEY, "r1")


async def test_nothing_is_kept_in_memory_of_a_version_that_is_gone(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    for number in range(20):
        key = VersionKey(f"iris-{number}", "blue")
        lines = store.follow(key)
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        store.open(key, "r1").write(b"one\n")
        assert unstamped(await first) == ("r1", "one")
        if number % 2:  # the replica may go before its listener, or after
            store.close(key, "r1")
        await closed(lines)
        store.close(key, "r1")
        store.drop(f"iris-{number}")
    assert not store._open and not store._followers and not store._dropped


async def test_a_second_listener_gets_a_log_that_was_open_all_the_while(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    log = store.open(KEY, "r1")
    for text in ("one", "two"):
        lines = store.follow(KEY)
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        log.write(text.encode() + b"\n")
        assert unstamped(await first) == ("r1", text)
        await closed(lines)
    store.close(KEY, "r1")


def test_a_version_remembers_its_latest_ids_only_and_uses_none_of_them_again() -> None:
    suffixes = (f"{number // 2:x}" for number in itertools.count())  # each twice
    fleet = VersionReplicas(cast(LocalMachine, SimpleNamespace(new_suffix=lambda: next(suffixes))), KEY)
    given = [fleet._new_id() for _ in range(3 * REMEMBERED_IDS)]
    assert len(set(given)) == len(given)
    assert len(fleet._used_ids) == REMEMBERED_IDS


def replica(number: int, state: ReplicaState = ReplicaState.READY) -> Replica:
    return Replica(f"r{number}", "iris", "blue", "127.0.0.1", number, state)


async def test_a_watcher_gets_a_reset_then_every_change_once_and_in_order() -> None:
    feed = ReplicaFeed()
    feed.upsert(replica(1))
    watcher = feed.watch()
    assert await anext(watcher) == Reset((replica(1),))
    feed.upsert(replica(2))
    feed.upsert(replica(2))
    feed.upsert(replica(1, ReplicaState.DRAINING))
    feed.remove("r1")
    feed.remove("r1")
    found = [await anext(watcher) for _ in range(3)]
    assert found == [Upsert(replica(2)), Upsert(replica(1, ReplicaState.DRAINING)), Remove("r1")]
    await closed(watcher)


async def test_a_watcher_that_sleeps_costs_a_bounded_backlog_and_wakes_to_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeding, "BACKLOG", 10)
    feed = ReplicaFeed()
    watcher = feed.watch()
    await anext(watcher)
    for number in range(25):
        feed.upsert(replica(number))
    known: dict[str, Replica] = {}
    while known != {one.id: one for one in feed.replicas}:
        match await anext(watcher):
            case Reset(replicas):
                known = {one.id: one for one in replicas}
            case Upsert(one):
                known[one.id] = one
    await closed(watcher)


def test_cores_are_shared_out_evenly_and_given_back_once() -> None:
    cores = Cores({0, 1, 2})
    assert [cores.acquire("a", 1), cores.acquire("b", 2), cores.acquire("c", 1)] == [(0,), (1, 2), (0,)]
    cores.release("b")
    cores.release("b")
    assert cores.acquire("d", 2) == (1, 2)
    assert cores.acquire("e", 3) is None and cores.acquire("f", None) is None


@given(st.dictionaries(st.integers(0, 64), st.integers(0, 9), min_size=1), st.integers(1, 64))
def test_chosen_cores_are_never_busier_than_those_left_out(load: dict[int, int], needed: int) -> None:
    chosen = choose_cores(load, needed)
    left = load.keys() - set(chosen)
    assert len(chosen) == min(needed, len(load))
    assert not left or max(load[core] for core in chosen) <= min(load[core] for core in left)


def test_memory_is_summed_over_all_processes_of_a_replica() -> None:
    table = [
        Process(7, "S", 1, 7, 9000),
        Process(8, "S", 7, 8, 100),
        Process(9, "S", 8, 9, 50),  # in a session of its own
        Process(10, "S", 1, 8, 1000),  # of somebody else
    ]
    assert memory_by_ancestor(table, {7: 150}, pss_bytes=never_read) == {7: 150}


def test_above_its_limit_a_replica_is_charged_for_shared_pages_once() -> None:
    table = [Process(7, "S", 1, 7, 9000), *(Process(pid, "S", 7, 7, 100) for pid in (8, 9, 10))]
    exact = {8: 40, 9: 40, 10: None}
    assert memory_by_ancestor(table, {7: 150}, exact.get) == {7: 180}
    assert memory_by_ancestor(table, {7: 250}, exact.get) == {7: 240}  # enough is known after one of them


def never_read(pid: int) -> int | None:
    raise AssertionError("read although below the limit")


def test_only_memory_above_the_limit_is_a_reason_to_kill() -> None:
    assert over_memory(612_000_000, 500_000_000) == "memory limit exceeded: 612 MB > 500 MB"
    assert over_memory(500_000_000, 500_000_000) == "" == over_memory(10**12, None)


def test_a_process_may_have_brackets_and_spaces_in_its_name() -> None:
    tail = b" S 1 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 100 4096 3 0 0"
    found = parse_stat(b"77 (a) b (c)" + tail)
    assert (found.pid, found.state, found.session) == (77, "S", 42)
    assert found.rss_bytes == 3 * os.sysconf("SC_PAGE_SIZE")


def test_only_established_connections_to_the_port_are_clients(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    row = "   0: 0100007F:{:04X} 0100007F:{:04X} {} 00000000:00000000 00:00000000 00000000     0        0 1\n"
    table.write_text(
        "  sl  local_address rem_address   st\n" + row.format(50000, 4000, "01") + row.format(1, 4001, "06")
    )
    assert has_clients(4000, (str(table),))
    assert not has_clients(4001, (str(table),)) and not has_clients(50000, (str(table),))
    assert not has_clients(4000, (str(tmp_path / "absent"),))


def test_a_server_that_holds_the_connection_of_a_client_that_left_may_still_be_at_work(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    row = "   0: 0100007F:{:04X} 0100007F:{:04X} {} 00000000:00000000 00:00000000 00000000     0        0 {} 1\n"
    not_accepted = row.format(4001, 50001, "08", 0)
    table.write_text("  sl  local_address rem_address   st\n" + row.format(4000, 50000, "08", 77) + not_accepted)
    assert has_work(4000, (str(table),)) and not has_clients(4000, (str(table),))
    assert not has_work(4001, (str(table),))
