"""One replica and a few: start, readiness, failure, replacement, drain."""

import asyncio
import json
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.changes import Reset, Upsert
from cluster.local import limits
from cluster.local import process_guard as guard
from cluster.local.child_process import READ_BYTES, READ_EVERY_S
from cluster.local.local_provider import LocalProvider
from cluster.local.machine import Ports
from cluster.local.probe import Prober, ProbeSign
from cluster.local.replica_logs import ReplicaLog
from serving.endpoint import LivenessProbe, ReplicaKind, ReplicaSource, Resources
from serving.replica import Replica, ReplicaState
from tests.integration.cluster_local.local_rig import (
    HERE,
    KEY,
    QUICK,
    Watcher,
    endpoint,
    get,
    pid_of,
    pids_with,
    poll,
    tiny,
    version,
)

READY, DRAINING, STARTING, FAILED = (
    ReplicaState.READY,
    ReplicaState.DRAINING,
    ReplicaState.STARTING,
    ReplicaState.FAILED,
)


def parent_of(replica: Replica) -> int:
    """The subreaper of a replica."""
    leader = pid_of(replica)
    return next(one.parent for one in guard.processes() if one.pid == leader)


ALIVE_SOON = replace(QUICK, period_s=0.5, initial_delay_s=4.0, failure_threshold=3)
"""Liveness counts four seconds after the start, and the start may take 5.5 s."""


async def test_a_command_replica_starts_gets_ready_and_sees_its_own_environment_only(
    provider: LocalProvider, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await provider.apply(endpoint(version(tiny(COLOUR="blue", URL="http://x:{port}"))), {"blue": 1})
    (replica,) = await watcher.until_ready()
    assert replica.id.startswith("iris-blue-") and replica.host == "127.0.0.1"
    assert watcher.seen(replica.id) == [STARTING, READY]
    env = json.loads(await get(replica))
    assert env["PORT"] == str(replica.port) and env["URL"] == f"http://x:{replica.port}" and env["COLOUR"] == "blue"
    assert (env["SCOREFRONT_ENDPOINT"], env["SCOREFRONT_VERSION"], env["SCOREFRONT_REPLICA"]) == (*KEY, replica.id)
    assert env["cwd"] == str(HERE)
    assert "PYTEST_CURRENT_TEST" not in env


async def test_the_first_change_a_watcher_gets_is_everything_there_is(
    provider: LocalProvider, watcher: Watcher
) -> None:
    assert watcher.history[0] == Reset(())
    await provider.apply(endpoint(), {"blue": 1})
    (replica,) = await watcher.until_ready()
    async for change in provider.watch():
        assert change == Reset((replica,))
        break


async def test_a_replica_killed_is_gone_at_once_and_another_starts_without_a_wait(
    provider: LocalProvider, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    await provider.apply(endpoint(), {"blue": 1})
    (first,) = await watcher.until_ready()
    os.kill(pid_of(first), signal.SIGKILL)
    await watcher.until(lambda: watcher.replicas and first.id not in watcher.replicas)
    assert "replacement starts in 0 s" in caplog.text
    (second,) = watcher.replicas.values()
    assert second.state is STARTING and second.id != first.id and "killed by SIGKILL" in second.reason
    await watcher.until_ready()
    assert watcher.seen(first.id) == [STARTING, READY, FAILED, None]


async def test_a_model_that_exits_at_once_fails_with_its_last_lines_and_does_not_spin(
    provider: LocalProvider, watcher: Watcher
) -> None:
    begun = time.monotonic()
    await provider.apply(endpoint(version(tiny("exit"))), {"blue": 1})
    await watcher.until(lambda: len(watcher.failures) == 3)
    took = time.monotonic() - begun
    failed = watcher.failures[-1]
    assert "exited with code 3 before it was ready" in failed.reason and "no model here" in failed.reason
    assert took >= 1.0  # two waits of half a second
    kept = await provider.logs(KEY, 10)
    assert len(kept) >= 3 and all([line.text for line in lines] == ["no model here"] for lines in kept.values())


async def test_repeated_failures_of_one_cause_are_logged_in_full_once(
    provider: LocalProvider, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    await provider.apply(endpoint(version(tiny("exit"))), {"blue": 1})
    await watcher.until(lambda: len(watcher.failures) == 3)
    assert caplog.text.count("no model here") == 1
    assert "failed as before, 3 times in a row, replacement starts in 1 s: exited with code 3" in caplog.text


async def test_a_model_that_writes_without_end_is_heard_at_a_bounded_rate(
    provider: LocalProvider, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(ReplicaLog, "write", lambda log, data: heard.append(len(data)))
    begun = time.monotonic()
    await provider.apply(endpoint(version(replace(tiny(), command=("yes", "{port}")))), {"blue": 1})
    await poll(lambda: len(heard) >= 5)
    took = time.monotonic() - begun
    assert took >= 4 * READ_EVERY_S * 0.9 and len(heard) <= 1 + took / (READ_EVERY_S * 0.9)
    assert max(heard) <= READ_BYTES


async def test_the_logs_of_an_endpoint_go_with_it(provider: LocalProvider, watcher: Watcher, tmp_path: Path) -> None:
    logs = tmp_path / "state" / "logs"
    blue, green = version(), version(name="green", is_default=False, share=0.0)
    await provider.apply(endpoint(blue, green), {"blue": 1, "green": 1})
    replicas = await watcher.until_ready(2)
    for replica in replicas:
        await get(replica)
    await poll(lambda: len(list(logs.glob("iris/*/*.log"))) == 2)
    await provider.apply(endpoint(blue), {"blue": 1})
    await watcher.until(lambda: watcher.in_state(DRAINING))
    await provider.drained(watcher.in_state(DRAINING)[0].id)
    await poll(lambda: [path.name for path in logs.glob("iris/*")] == ["blue"])
    await provider.remove("iris")
    await watcher.until(lambda: len(watcher.in_state(DRAINING)) == len(watcher.replicas) == 1)
    await provider.drained(next(iter(watcher.replicas)))
    await poll(lambda: not list(logs.iterdir()))


async def test_a_program_that_does_not_exist_is_a_failure_like_any_other(
    provider: LocalProvider, watcher: Watcher
) -> None:
    source = replace(tiny(), command=("no-such-program", "{port}"))
    await provider.apply(endpoint(version(source)), {"blue": 1})
    await watcher.until(lambda: watcher.in_state(FAILED))
    assert "no-such-program" in watcher.in_state(FAILED)[0].reason


async def test_a_model_that_never_listens_fails_after_its_start_deadline(
    provider: LocalProvider, watcher: Watcher
) -> None:
    probe = LivenessProbe(period_s=0.2, initial_delay_s=0.6, timeout_s=0.2, failure_threshold=2)
    await provider.apply(endpoint(version(tiny("deaf"), liveness=probe)), {"blue": 1})
    await watcher.until(lambda: watcher.in_state(FAILED))
    (failed,) = watcher.in_state(FAILED)
    assert "not ready after 1 s" in failed.reason and "cannot connect" in failed.reason
    assert "still thinking" in failed.reason
    await watcher.until(lambda: watcher.in_state(STARTING))
    await poll(lambda: not pids_with(f"SCOREFRONT_REPLICA={failed.id}\0"))


async def test_an_unhealthy_replica_is_killed_and_replaced(provider: LocalProvider, watcher: Watcher) -> None:
    await provider.apply(endpoint(version(tiny("sick-after-first"), liveness=ALIVE_SOON)), {"blue": 1})
    (first,) = await watcher.until_ready()
    await watcher.until(lambda: watcher.replicas and first.id not in watcher.replicas)
    (second,) = watcher.replicas.values()
    assert "liveness probe failed 3 times in a row: GET / answered 503" in second.reason


async def test_a_replica_that_hangs_is_killed_and_replaced(provider: LocalProvider, watcher: Watcher) -> None:
    await provider.apply(endpoint(version(liveness=ALIVE_SOON)), {"blue": 1})
    (first,) = await watcher.until_ready()
    os.kill(pid_of(first), signal.SIGSTOP)
    await watcher.until(lambda: watcher.replicas and first.id not in watcher.replicas)
    assert "no answer within 0.5 s" in next(iter(watcher.replicas.values())).reason


async def test_a_replica_that_is_busy_for_longer_than_its_probes_wait_is_left_alone(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(liveness=ALIVE_SOON)), {"blue": 1})
    (replica,) = await watcher.until_ready()
    silent_s = ALIVE_SOON.initial_delay_s + ALIVE_SOON.failure_threshold * (ALIVE_SOON.period_s + ALIVE_SOON.timeout_s)
    await get(replica, f"/sleep?{silent_s + 0.5:g}")
    assert watcher.seen(replica.id) == [STARTING, READY]


async def test_a_replica_that_refuses_its_probes_while_it_is_busy_is_left_alone(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(tiny("refusing"))), {"blue": 1})
    (replica,) = await watcher.until_ready()
    await get(replica, "/sleep?3")
    assert watcher.seen(replica.id) == [STARTING, READY]


@pytest.mark.parametrize("behaviours", [(), ("refusing",)])
async def test_a_replica_that_computes_for_a_client_that_left_is_left_alone(
    provider: LocalProvider, watcher: Watcher, behaviours: tuple[str, ...]
) -> None:
    await provider.apply(endpoint(version(tiny(*behaviours))), {"blue": 1})
    (replica,) = await watcher.until_ready()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await get(replica, "/sleep?3")
    async with asyncio.timeout(20), Prober() as prober:
        answers = [ProbeSign.UNREADY]
        while answers[-1] is ProbeSign.UNREADY:
            answers.append((await prober.get(replica.host, replica.port, "/", 20.0)).sign)
    assert answers[-1] is ProbeSign.WELL
    assert watcher.seen(replica.id) == [STARTING, READY]


async def test_a_victim_drains_at_once_and_ends_when_the_routers_are_done_with_it(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(), {"blue": 3})
    ready = await watcher.until_ready(3)
    victim = ready[0].id
    pid = pid_of(ready[0])
    await provider.scale(KEY, 2, {victim})
    await watcher.until(lambda: watcher.replicas[victim].state is DRAINING)
    assert len(watcher.ready) == 2
    os.kill(pid, 0)
    await provider.drained(victim)
    await watcher.until(lambda: victim not in watcher.replicas)
    assert len(watcher.ready) == 2
    await provider.drained(victim)


async def test_a_victim_that_is_never_drained_ends_after_the_scoring_timeout(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(scoring_timeout_s=0.3)), {"blue": 2})
    old, young = await watcher.until_ready(2)
    begun = time.monotonic()
    await provider.scale(KEY, 1)
    await watcher.until(lambda: len(watcher.replicas) == 1)
    assert time.monotonic() - begun >= 0.3
    assert old.id in watcher.replicas and watcher.seen(young.id)[-2:] == [DRAINING, None]


async def test_many_replicas_start_side_by_side(provider: LocalProvider, watcher: Watcher) -> None:
    await provider.apply(endpoint(), {"blue": 12})
    ready = await watcher.until_ready(12)
    assert len({replica.port for replica in ready}) == 12


async def test_removing_an_endpoint_stops_everything_it_had(provider: LocalProvider, watcher: Watcher) -> None:
    await provider.apply(endpoint(), {"blue": 2})
    for replica in await watcher.until_ready(2):
        assert pid_of(replica)
    await provider.remove("iris")
    await watcher.until(lambda: len(watcher.in_state(DRAINING)) == 2)
    for replica in list(watcher.replicas.values()):
        await provider.drained(replica.id)
    await watcher.until(lambda: not watcher.replicas)
    await provider.apply(endpoint(), {"blue": 1})
    await watcher.until_ready(1)


async def test_processes_outside_the_process_group_end_with_their_replica(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(tiny("fork"))), {"blue": 1})
    (replica,) = await watcher.until_ready()
    assert len(pids_with(f"SCOREFRONT_REPLICA={replica.id}\0")) == 2
    await provider.remove("iris")
    await provider.drained(replica.id)
    await watcher.until(lambda: not watcher.replicas)
    await poll(lambda: not pids_with(f"SCOREFRONT_REPLICA={replica.id}\0"))


async def test_closing_ends_even_processes_that_ignore_sigterm(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path)
    await provider.start()
    watcher = Watcher(provider)
    task = asyncio.create_task(watcher.run(), name="watcher")
    await provider.apply(endpoint(version(tiny("stubborn", "fork"))), {"blue": 2})
    await watcher.until_ready(2)
    begun = time.monotonic()
    await provider.close(deadline_s=0.5)
    assert time.monotonic() - begun < 3.0
    assert len(watcher.ever) == 2
    assert not {pid for replica_id in watcher.ever for pid in pids_with(replica_id)}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_replica_above_its_memory_limit_is_killed_and_says_so(
    provider: LocalProvider, watcher: Watcher
) -> None:
    limited = version(tiny("fat"), resources=Resources(memory_limit_bytes=50_000_000))
    await provider.apply(endpoint(limited), {"blue": 1})
    await watcher.until(lambda: watcher.replicas and len(watcher.ever) == 2)
    (second,) = watcher.replicas.values()
    assert "memory limit exceeded: " in second.reason and "MB > 50 MB" in second.reason


async def test_memory_that_processes_of_a_replica_share_counts_once(provider: LocalProvider, watcher: Watcher) -> None:
    limited = version(tiny("fat", "family"), resources=Resources(memory_limit_bytes=180_000_000))
    await provider.apply(endpoint(limited), {"blue": 1})
    (replica,) = await watcher.until_ready()
    resident = [one.rss_bytes for one in guard.processes() if one.session == pid_of(replica)]
    assert len(resident) == 4 and sum(resident) > 180_000_000
    assert (
        limits.memory_by_ancestor(guard.processes(), {parent_of(replica): 180_000_000}, guard.pss_bytes).popitem()[1]
        < 180_000_000
    )


async def test_a_replica_with_a_cpu_limit_runs_on_so_many_cores(provider: LocalProvider, watcher: Watcher) -> None:
    limited = version(resources=Resources(cpu_limit=0.5))
    await provider.apply(endpoint(limited), {"blue": 1})
    (replica,) = await watcher.until_ready()
    env = json.loads(await get(replica))
    assert env["cores"] == 1 and env["OMP_NUM_THREADS"] == "1"


async def test_a_port_taken_by_another_process_is_no_fault_of_the_model(
    provider: LocalProvider, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken, acquire = stranger.getsockname()[1], Ports.acquire
        ports = iter([taken, taken])
        monkeypatch.setattr(Ports, "acquire", lambda self: next(ports, None) or acquire(self))
        await provider.apply(endpoint(), {"blue": 1})
        (replica,) = await watcher.until_ready()
    assert replica.port != taken and len(watcher.ever) == 3
    assert replica.reason == ""
    assert "replaces" not in "".join(change.replica.reason for change in watcher.history if isinstance(change, Upsert))


async def test_killing_the_leader_of_an_inference_server_ends_its_workers(
    provider: LocalProvider, watcher: Watcher
) -> None:
    source = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script=str(HERE / "score.py"))
    await provider.apply(endpoint(version(source)), {"blue": 1})
    (first,) = await watcher.until_ready()
    os.kill(pid_of(first), signal.SIGKILL)
    await watcher.until(lambda: first.id not in watcher.replicas)
    await poll(lambda: not pids_with(f"SCOREFRONT_REPLICA={first.id}\0"))
    await watcher.until_ready()
