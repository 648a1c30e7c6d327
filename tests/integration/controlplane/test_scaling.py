import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cluster.provider import ProviderError
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from serving.usage import UsageReport, VersionUsage
from tests.fakes.plane import Bench, manifest, version

BLUE = VersionKey("iris", "blue")
READY, STARTING, DRAINING, FAILED = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.DRAINING,
    ReplicaState.FAILED,
)


class Load:
    """One worker that reports every 200 ms, with an exact integral."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.busy = self.waiting = 0
        self.integral = 0.0
        self._last_s = bench.clock.now()

    def report(self, starved: bool = False) -> None:
        now = self.bench.clock.now()
        self.integral += self.busy * (now - self._last_s)
        self._last_s = now
        total = len(self.bench.provider.of(BLUE, READY))
        row = VersionUsage("iris", "blue", self.busy, total, self.waiting, self.integral, {})
        self.bench.plane.reports.usage_reported(UsageReport("w1", now, (row,), (BLUE,) if starved else ()))

    async def run(self, seconds: int) -> None:
        for _ in range(round(seconds / 0.2)):
            await self.bench.clock.advance(0.2)
            self.report()

    def set(self, busy: int, waiting: int, starved: bool = False) -> None:
        """Busy and waiting from now on."""
        self.report()
        self.busy, self.waiting = busy, waiting
        self.report(starved)


@pytest.fixture
async def load(bench: Bench) -> Load:
    await bench.apply(manifest(versions=[version(minimum=1, maximum=6)]))
    bench.plane.reports.workers_expected(["w1"])
    made = Load(bench)
    made.report()
    await made.run(2)
    return made


async def scaled_to(bench: Bench, load: Load, number: int) -> None:
    """Bring the version to `number` ready replicas, all of them idle except for `load`."""
    load.set(busy=1, waiting=number, starved=True)
    await load.run(3)
    assert len(bench.provider.of(BLUE, READY)) == number


async def test_a_request_that_finds_no_free_slot_brings_more_replicas_at_once(bench: Bench, load: Load) -> None:
    before = bench.clock.now()
    load.set(busy=1, waiting=3, starved=True)
    await bench.clock.advance(0)
    assert bench.provider.asked("scale") == [("scale", BLUE, 5, frozenset())]  # ceil((0 + 3) / 0.7)
    assert bench.clock.now() == before


async def test_a_decision_says_when_it_was_made_and_when_the_provider_had_it(bench: Bench, load: Load) -> None:
    load.set(busy=1, waiting=3, starved=True)
    await bench.clock.advance(0)
    record = bench.plane.endpoints.decisions("iris", "blue", 20)[-1]
    assert (record.decision.previous, record.decision.desired) == (1, 5)
    assert record.at == record.acted_at == bench.clock.wall()


async def test_fewer_replicas_only_after_a_whole_window_and_idle_ones_first(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    busy_one = bench.provider.of(BLUE, READY)[-1]
    bench.routers.busy = {busy_one: 1}
    load.set(busy=0, waiting=0)
    await load.run(58)
    assert bench.routers.retired == []
    await load.run(6)
    assert bench.routers.retired == [(BLUE, 5)]
    what, _, number, victims = bench.provider.asked("scale")[-1]
    assert (what, number) == ("scale", 1)
    assert len(victims) == 5 and busy_one not in victims
    assert bench.provider.of(BLUE, READY) == [busy_one]


async def test_a_replica_is_stopped_only_when_the_routers_say_it_is_drained(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    load.set(busy=0, waiting=0)
    await load.run(64)
    draining = bench.provider.of(BLUE, DRAINING)
    assert len(draining) == 5 and bench.provider.asked("drained") == []
    assert {bench.routers.replicas[each].state for each in draining} == {DRAINING}
    bench.plane.reports.replica_drained(draining[0])
    await bench.clock.advance(0)
    assert bench.provider.asked("drained") == [("drained", draining[0])]
    assert bench.provider.of(BLUE, DRAINING) == draining[1:]


async def test_replicas_that_are_not_ready_go_before_ready_ones(bench: Bench, load: Load) -> None:
    bench.provider.starts_ready = False
    load.set(busy=1, waiting=4, starved=True)
    await load.run(1)
    one_more, *others = bench.provider.of(BLUE, STARTING)
    bench.provider.become(one_more, READY)
    for other in others:
        bench.provider.become(other, FAILED)
    load.set(busy=0, waiting=0)
    await load.run(64)
    assert bench.routers.retired == [(BLUE, 1)]
    assert len(bench.provider.of(BLUE, READY)) == 1 and bench.provider.of(BLUE, FAILED) == []


async def test_replicas_that_start_for_longer_than_the_window_are_not_stopped_before_they_serve(
    bench: Bench, load: Load
) -> None:
    bench.provider.starts_ready = False
    load.set(busy=1, waiting=3, starved=True)
    await load.run(1)
    starting = bench.provider.of(BLUE, STARTING)
    assert len(starting) == 5
    load.set(busy=0, waiting=0)
    await load.run(90)
    assert bench.provider.of(BLUE, STARTING) == starting
    assert "still starting" in bench.plane.endpoints.decisions("iris", "blue", 1)[0].decision.reason
    for each in starting:
        bench.provider.become(each, READY)
    await load.run(80)  # the declared window is over; a start takes 91 s
    assert len(bench.provider.of(BLUE, READY)) == 6
    await load.run(20)
    assert len(bench.provider.of(BLUE, READY)) == 1


async def test_replicas_that_fail_to_start_are_not_multiplied_by_waiting_requests(bench: Bench, load: Load) -> None:
    bench.provider.become(bench.provider.of(BLUE)[0], FAILED, "exited with code 3 before it was ready\n  Traceback")
    load.set(busy=0, waiting=4, starved=True)
    await load.run(30)
    assert bench.provider.asked("scale") == []
    held = bench.plane.endpoints.decisions("iris", "blue", 1)[0].decision
    assert held.rule == "failing" and "(exited with code 3 before it was ready)" in held.reason
    bench.provider.become(bench.provider.of(BLUE)[0], READY)
    await load.run(1)
    assert bench.provider.asked("scale") == [("scale", BLUE, 6, frozenset())]


async def test_replicas_without_room_are_not_piled_up_by_waiting_requests(bench: Bench, load: Load) -> None:
    load.set(busy=1, waiting=1, starved=True)
    await load.run(1)
    homeless = replace(bench.provider.replicas[bench.provider.of(BLUE)[-1]], state=STARTING, placed=False)
    bench.provider.put(replace(homeless, reason="no room: needs 100 GB"))
    load.set(busy=2, waiting=9, starved=True)
    await load.run(30)
    assert [call[2] for call in bench.provider.asked("scale")] == [2, 3]
    held = bench.plane.endpoints.decisions("iris", "blue", 1)[0].decision
    assert held.rule == "room" and "(no room: needs 100 GB)" in held.reason


async def test_nothing_is_withdrawn_while_the_number_cannot_be_lowered(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    bench.provider.hindrances = {True: "another autoscaler sets it"}
    load.set(busy=0, waiting=0)
    await load.run(70)
    assert bench.routers.retired == [] and len(bench.provider.of(BLUE, READY)) == 6
    bench.provider.hindrances = {}
    await load.run(2)
    assert bench.routers.retired == [(BLUE, 5)]


async def test_a_number_that_cannot_be_lowered_can_be_raised(bench: Bench, load: Load) -> None:
    bench.provider.hindrances = {True: "the replicas are not known for sure"}
    load.set(busy=1, waiting=3, starved=True)
    await bench.clock.advance(0)
    assert bench.provider.asked("scale") == [("scale", BLUE, 5, frozenset())]


@pytest.mark.parametrize("failure", [RuntimeError("link lost"), TimeoutError()])
async def test_routers_that_cannot_withdraw_do_not_keep_replicas_from_going(
    bench: Bench, load: Load, failure: RuntimeError | TimeoutError
) -> None:
    await scaled_to(bench, load, 6)
    bench.routers.retire_failure = failure
    load.set(busy=0, waiting=0)
    await load.run(64)
    assert bench.provider.asked("scale")[-1] == ("scale", BLUE, 1, frozenset())
    assert len(bench.provider.of(BLUE, READY)) == 1


async def test_routers_that_never_answer_are_waited_for_a_short_while_only(
    bench: Bench, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.plane._scaling._executor, "_retire_timeout_s", 0.01)
    await scaled_to(bench, load, 6)
    bench.routers.retire_hangs = True
    load.set(busy=0, waiting=0)
    await load.run(64)
    await bench.until(lambda: bench.provider.asked("scale")[-1] == ("scale", BLUE, 1, frozenset()))


async def test_retired_replicas_are_not_retired_twice_when_the_provider_fails(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    load.set(busy=0, waiting=0)
    await load.run(55)
    bench.provider.refusal = ProviderError("busy")
    await load.run(9)
    assert bench.routers.retired == [(BLUE, 5)]
    assert len({call[3] for call in bench.provider.asked("scale")[-3:]}) == 1
    bench.provider.refusal = None
    await load.run(2)
    assert bench.routers.retired == [(BLUE, 5)]
    assert len(bench.provider.of(BLUE, DRAINING)) == 5


async def test_retired_replicas_go_even_when_more_are_needed_after_all(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    load.set(busy=0, waiting=0)
    await load.run(55)
    bench.provider.refusal = ProviderError("busy")
    await load.run(9)
    victims = bench.provider.asked("scale")[-1][3]
    bench.provider.refusal = None
    load.set(busy=1, waiting=6, starved=True)
    await load.run(1)
    assert set(bench.provider.of(BLUE, DRAINING)) == victims and len(victims) == 5
    assert len(bench.provider.of(BLUE, READY)) == 6  # one that was kept, and five in place of the others


async def test_a_replica_that_routers_withdrew_without_an_answer_is_replaced(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    stray = bench.provider.of(BLUE, READY)[2]
    bench.plane.reports.replica_drained(stray)
    await bench.clock.advance(0)
    assert bench.provider.of(BLUE, DRAINING) == [stray]
    assert len(bench.provider.of(BLUE, READY)) == 6
    bench.plane.reports.replica_drained(stray)
    await bench.clock.advance(0)
    assert bench.provider.of(BLUE, DRAINING) == [] and len(bench.provider.of(BLUE)) == 6


async def test_a_victim_that_drains_before_the_provider_knows_is_no_stray(
    bench: Bench, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scaled_to(bench, load, 6)
    retire = bench.routers.retire

    async def retire_and_drain_at_once(key: VersionKey, count: int) -> Sequence[str]:
        retired = await retire(key, count)
        for replica in retired:
            bench.plane.reports.replica_drained(replica)
        return retired

    monkeypatch.setattr(bench.routers, "retire", retire_and_drain_at_once)
    load.set(busy=0, waiting=0)
    await load.run(64)
    assert [call[2] for call in bench.provider.asked("scale")][-1] == 1
    assert len(bench.provider.of(BLUE, READY)) == 1
    assert set(bench.routers.replicas) <= {f"iris-blue-{number}" for number in range(1, 7)}  # none in their place


async def test_a_change_of_the_bounds_holds_at_once(bench: Bench, load: Load) -> None:
    await scaled_to(bench, load, 6)
    await bench.apply(manifest(versions=[version(minimum=1, maximum=3)]))
    await load.run(1)
    assert bench.provider.asked("apply")[-1] == ("apply", "iris", {"blue": 3})
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 3
    await bench.apply(manifest(versions=[version(minimum=5, maximum=6)]))
    await load.run(1)
    assert len(bench.provider.of(BLUE, READY)) >= 5


async def test_a_version_with_a_fixed_number_has_just_that(bench: Bench, load: Load) -> None:
    await bench.apply(manifest(versions=[version(numReplicas=4)]))
    load.set(busy=4, waiting=50, starved=True)
    await load.run(2)
    assert len(bench.provider.of(BLUE, READY)) == 4
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 4


async def test_a_version_that_is_gone_is_not_scaled_by_a_decision_that_came_too_late(bench: Bench, load: Load) -> None:
    async with bench.plane._registry.lock("iris"):
        load.set(busy=1, waiting=4, starved=True)
        await bench.clock.advance(0)
        bench.plane._registry.drop("iris")
    await bench.clock.advance(0)
    assert bench.provider.asked("scale") == []


async def test_a_replica_that_the_provider_itself_withdraws_is_drained_too(bench: Bench, load: Load) -> None:
    (replica,) = bench.provider.of(BLUE, READY)
    bench.provider.become(replica, DRAINING)
    await bench.clock.advance(0)
    assert bench.routers.replicas[replica].state is DRAINING
    bench.plane.reports.replica_drained(replica)
    await bench.clock.advance(0)
    assert bench.provider.of(BLUE) == []


async def test_numbers_never_leave_the_bounds_under_any_load(bench: Bench, load: Load) -> None:
    for busy, waiting in itertools.product((0, 1, 6), (0, 3, 500)):
        load.set(busy=busy, waiting=waiting, starved=waiting > 0)
        await load.run(2)
    assert all(1 <= call[2] <= 6 for call in bench.provider.asked("scale"))


async def test_starved_versions_that_are_not_declared_are_ignored(bench: Bench, load: Load) -> None:
    bench.plane.reports.usage_reported(UsageReport("w1", bench.clock.now(), (), (VersionKey("nobody", "here"),)))
    bench.plane.reports.worker_ended("w1")
    await load.run(1)
    assert bench.provider.asked("scale") == []
