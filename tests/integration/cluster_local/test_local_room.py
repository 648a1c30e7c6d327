"""Replicas that this machine has no room for."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.local.local_provider import LocalProvider
from serving.endpoint import Resources
from serving.replica import Replica, ReplicaState
from tests.integration.cluster_local.local_rig import KEY, Watcher, endpoint, get, pids_with, poll, tiny, version

ONE_GPU = Resources(gpu=1)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    one = LocalProvider(tmp_path / "state", gpus=("4", "7"))
    await one.start()
    yield one
    await one.close()


def waiting(watcher: Watcher) -> list[Replica]:
    return [replica for replica in watcher.replicas.values() if not replica.placed]


async def test_replicas_without_memory_are_reported_once_and_no_process_starts(
    provider: LocalProvider, watcher: Watcher
) -> None:
    huge = version(resources=Resources(memory_bytes=10**15))
    await provider.apply(endpoint(huge), {"blue": 10})
    await watcher.until(lambda: waiting(watcher))
    (one,) = watcher.replicas.values()
    assert one.state is ReplicaState.STARTING and "no room: needs 1000000 GB of memory" in one.reason
    assert watcher.ever == {one.id} and not pids_with(f"SCOREFRONT_REPLICA={one.id}")
    await provider.apply(endpoint(version()), {"blue": 2})
    await watcher.until_ready(2)


async def test_each_replica_has_its_own_gpus_and_the_next_one_waits_for_them(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(resources=ONE_GPU)), {"blue": 5})
    await watcher.until(lambda: len(watcher.ready) == 2 and len(waiting(watcher)) == 1)
    assert len(watcher.replicas) == 3
    seen = {json.loads(await get(replica))["CUDA_VISIBLE_DEVICES"] for replica in watcher.ready}
    assert seen == {"4", "7"}
    await provider.scale(KEY, 2)
    await watcher.until(lambda: not waiting(watcher))
    await provider.scale(KEY, 3)
    await watcher.until(lambda: waiting(watcher))
    victim = watcher.ready[0].id
    await provider.scale(KEY, 2, [victim])
    await provider.drained(victim)
    await watcher.until(lambda: victim not in watcher.replicas)
    await watcher.until_ready(2)


async def test_a_changed_version_without_room_beside_the_old_one_replaces_it(
    provider: LocalProvider, watcher: Watcher
) -> None:
    both = Resources(gpu=2)
    await provider.apply(endpoint(version(resources=both)), {"blue": 1})
    (old,) = await watcher.until_ready()
    await provider.apply(endpoint(version(tiny(COLOUR="green"), resources=both)), {"blue": 1})
    await watcher.until(lambda: watcher.replicas[old.id].state is ReplicaState.DRAINING)
    await provider.drained(old.id)
    await watcher.until(lambda: old.id not in watcher.replicas)
    (new,) = await watcher.until_ready()
    assert json.loads(await get(new))["COLOUR"] == "green"


async def test_a_changed_version_that_never_has_room_leaves_the_old_one_serving(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(resources=ONE_GPU)), {"blue": 1})
    (old,) = await watcher.until_ready()
    await provider.apply(endpoint(version(resources=Resources(gpu=3))), {"blue": 1})
    await watcher.until(lambda: waiting(watcher))
    assert [replica.id for replica in watcher.ready] == [old.id]
    await provider.remove("iris")
    await provider.drained(old.id)
    await poll(lambda: not watcher.replicas)


async def test_a_changed_version_that_fails_takes_the_place_of_one_old_replica_only(
    provider: LocalProvider, watcher: Watcher
) -> None:
    await provider.apply(endpoint(version(resources=ONE_GPU)), {"blue": 2})
    olds = {replica.id for replica in await watcher.until_ready(2)}
    await provider.apply(endpoint(version(tiny("exit"), resources=ONE_GPU)), {"blue": 2})
    await watcher.until(lambda: watcher.in_state(ReplicaState.DRAINING))
    (gone,) = watcher.in_state(ReplicaState.DRAINING)
    await provider.drained(gone.id)
    await watcher.until(lambda: len(watcher.ever - olds) >= 6, within_s=40.0)
    assert {replica.id for replica in watcher.ready} == olds - {gone.id}


def test_fields_without_effect_are_named_and_gpus_declared_twice_are_refused(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path)
    assert provider.notes(endpoint(version())) == []
    told = provider.notes(endpoint(version(replace(tiny(), port=80), resources=Resources(cpu=64))))
    assert told == ["version blue: containerResourceRequirements.cpu, replica.port have no effect on one machine"]
    (fault,) = provider.check(endpoint(version(tiny(CUDA_VISIBLE_DEVICES="0"), resources=ONE_GPU)))
    assert fault.path == "spec.versions[0].replica.env.CUDA_VISIBLE_DEVICES"
