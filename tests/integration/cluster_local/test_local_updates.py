"""A changed declaration: rolling replacement, static replicas, slots."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.changes import Upsert
from cluster.local.local_provider import LocalProvider
from cluster.local.replica_logs import LINE_BYTES
from cluster.provider import ProviderError
from serving.endpoint import LivenessProbe, ReplicaKind, ReplicaSource
from serving.replica import ReplicaState
from tests.fakes.iterators import closed
from tests.integration.cluster_local.local_rig import HERE, KEY, QUICK, Watcher, endpoint, pid_of, tiny, version


async def drain_as_told(provider: LocalProvider, watcher: Watcher) -> None:
    """Plays routers that are never busy."""
    async for change in provider.watch():
        if isinstance(change, Upsert) and change.replica.state is ReplicaState.DRAINING:
            await provider.drained(change.replica.id)


async def test_a_changed_template_is_rolled_out_without_a_gap(provider: LocalProvider, watcher: Watcher) -> None:
    routers = asyncio.create_task(drain_as_told(provider, watcher), name="routers")
    await provider.apply(endpoint(version(tiny(MODEL="1"))), {"blue": 3})
    old = {replica.id for replica in await watcher.until_ready(3)}
    begun = len(watcher.history)
    await provider.apply(endpoint(version(tiny(MODEL="2"))), {})
    await watcher.until(lambda: len(watcher.ready) == 3 and not old & watcher.replicas.keys())
    await watcher.until_ready(3)
    states = dict.fromkeys(old, ReplicaState.READY)
    for change in watcher.history[begun:]:
        if isinstance(change, Upsert):
            states[change.replica.id] = change.replica.state
            assert list(states.values()).count(ReplicaState.READY) >= 3
            assert sum(state in (ReplicaState.READY, ReplicaState.STARTING) for state in states.values()) <= 4
    routers.cancel()
    await asyncio.gather(routers, return_exceptions=True)


async def test_a_new_template_that_never_gets_ready_leaves_the_old_replicas_serving(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(), {"blue": 2})
    old = {replica.id for replica in await watcher.until_ready(2)}
    await provider.apply(endpoint(version(tiny("exit"))), {"blue": 2})
    await watcher.until(lambda: sum(isinstance(change, Upsert) for change in watcher.history) > 8)
    assert {replica.id for replica in watcher.ready} == old
    assert len(watcher.replicas) <= 3
    await provider.apply(endpoint(), {"blue": 2})
    await watcher.until(lambda: watcher.replicas.keys() == old)


async def test_a_change_outside_the_process_does_not_restart_it(provider: LocalProvider, watcher: Watcher) -> None:
    await provider.apply(endpoint(), {"blue": 1})
    (replica,) = await watcher.until_ready()
    pid = pid_of(replica)
    changed = version(
        replace(tiny(), score_path="/other", health_path="/elsewhere"),
        slots_per_replica=4,
        queue_wait_s=9.0,
        scoring_timeout_s=9.0,
        liveness=LivenessProbe(),
    )
    await provider.apply(endpoint(changed), {"blue": 1})
    await watcher.until(lambda: watcher.replicas[replica.id].slots == 4)
    assert pid_of(watcher.replicas[replica.id]) == pid and watcher.ready


async def test_a_version_no_longer_declared_drains_and_leaves_the_other_alone(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(), version(name="green")), {"blue": 1, "green": 1})
    ready = await watcher.until_ready(2)
    kept = next(replica for replica in ready if replica.version == "green")
    await provider.apply(endpoint(version(name="green")), {"green": 1})
    await watcher.until(lambda: watcher.in_state(ReplicaState.DRAINING))
    await provider.drained(watcher.in_state(ReplicaState.DRAINING)[0].id)
    await watcher.until(lambda: watcher.replicas.keys() == {kept.id})
    assert watcher.seen(kept.id) == [ReplicaState.STARTING, ReplicaState.READY]


async def test_static_replicas_come_and_go_with_their_answers_and_are_never_scaled(
    provider: LocalProvider, watcher: Watcher
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    seen: list[bytes] = []
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    quick = replace(QUICK, timeout_s=1.0)
    static = version(ReplicaSource(ReplicaKind.STATIC, static=(f"127.0.0.1:{port}",)), liveness=quick)
    await provider.apply(endpoint(static), {"blue": 7})
    (replica,) = await watcher.until_ready()
    assert (replica.host, replica.port) == ("127.0.0.1", port)
    assert b"User-Agent: scorefront-probe" in seen[0] and b"Connection: close" in seen[0]

    await provider.scale(KEY, 0, {replica.id})
    server.close()
    await server.wait_closed()
    await watcher.until(lambda: watcher.in_state(ReplicaState.FAILED))
    assert "cannot connect" in watcher.replicas[replica.id].reason

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    (again,) = await watcher.until_ready()
    assert again.id == replica.id
    await provider.apply(endpoint(replace(static, slots_per_replica=3)), {})
    await watcher.until(lambda: watcher.replicas[replica.id].slots == 3)
    await provider.remove("iris")
    await provider.drained(replica.id)
    await watcher.until(lambda: not watcher.replicas)
    server.close()
    await server.wait_closed()


async def test_a_kind_that_needs_a_cluster_is_refused_and_changes_nothing(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(), {"blue": 1})
    (replica,) = await watcher.until_ready()
    with pytest.raises(ProviderError, match="iris/blue: image needs a cluster"):
        await provider.apply(endpoint(version(ReplicaSource(ReplicaKind.IMAGE, image="x:1"))), {"blue": 1})
    assert watcher.ready == [replica]


async def test_lines_are_kept_within_bounds_and_can_be_followed(provider: LocalProvider, watcher: Watcher) -> None:
    follower = aiter(provider.follow_logs(KEY))
    first = asyncio.ensure_future(anext(follower))
    await provider.apply(endpoint(version(tiny("noisy"))), {"blue": 1})
    (replica,) = await watcher.until_ready()
    replica_id, line = await first
    assert replica_id == replica.id and line.text.startswith("line ")
    ys = 0
    async with asyncio.timeout(20):  # its last line may still be on its way when it is ready
        while ys < 20_000:
            _, line = await anext(follower)
            ys += line.text.count("y")
    lines = [line.text for line in (await provider.logs(KEY, 5000))[replica.id]]
    assert len(lines) == 5000 and max(map(len, lines)) <= LINE_BYTES
    # On a slow machine a line may come in parts that wait for each other, and is shown in parts then.
    assert f"line 29999 {'x' * 100}{'y' * 20_000}" in "".join(lines)
    await closed(follower)


async def test_edited_files_replace_replicas_at_the_next_apply_and_only_then(
    provider: LocalProvider, watcher: Watcher, tmp_path: Path
) -> None:
    routers = asyncio.create_task(drain_as_told(provider, watcher), name="routers")
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(HERE / "tiny_server.py", code / "tiny_server.py")
    declared = endpoint(version(replace(tiny(), source_directory=str(code))))
    assert await provider.refresh(declared) == frozenset()
    await provider.apply(declared, {"blue": 2})
    olds = {replica.id for replica in await watcher.until_ready(2)}
    assert await provider.refresh(declared) == frozenset()
    (code / "settings.json").write_text("{}")
    await provider.apply(declared, {"blue": 2})
    assert {replica.id for replica in watcher.ready} == olds
    assert await provider.refresh(declared) == {"blue"}
    await provider.apply(declared, {"blue": 2})
    await watcher.until(lambda: not olds & watcher.replicas.keys())
    await watcher.until_ready(2)
    assert await provider.refresh(declared) == frozenset()
    routers.cancel()
    await asyncio.gather(routers, return_exceptions=True)


async def test_a_restart_replaces_every_replica_one_after_the_other(provider: LocalProvider, watcher: Watcher) -> None:
    routers = asyncio.create_task(drain_as_told(provider, watcher), name="routers")
    await provider.apply(endpoint(), {"blue": 2})
    olds = {replica.id for replica in await watcher.until_ready(2)}
    await provider.restart(endpoint(), ["blue"])
    await watcher.until(lambda: not olds & watcher.replicas.keys())
    await watcher.until_ready(2)
    routers.cancel()
    await asyncio.gather(routers, return_exceptions=True)
    assert len(watcher.ever) == 4
