"""The workers of one machine: the numbers for their scaling, the workers asked, the published values."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.frontend_settings import ClusterPurpose, FrontEndSettings, WorkerLoad
from autoscaler.policy import Direction
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from router.inflight_table import BEAT_S
from router.settings import SettingError
from scorefront.exposition import Exposition
from scorefront.frontend_scaling import (
    EVEN_S,
    MACHINE_FIELDS,
    FrontEndFigures,
    FrontEndFleet,
    FrontEndScaler,
    OneMachine,
    front_end_settings,
    load_between,
)
from serving.usage import Work
from tests.fakes.clock import VirtualClock, settle

ONE_MACHINE = FrontEndSettings(min_routers=1, max_routers=1)
START_S = 1.0
A_REQUEST_S = 0.00004


class Rows:
    """Satisfies `scorefront.frontend_scaling.Group`: the load is shared by the serving workers; a core has a limit.

    A worker with a full core is late: 10 ms for every arrival.
    """

    def __init__(self, clock: VirtualClock, workers: int = 1) -> None:
        self.clock = clock
        self.wanted = workers
        self.requests_per_s = 0.0
        self.asked: list[tuple[float, int]] = []
        self.uneven_until = 0.0
        self.speechless: set[str] = set()
        self._rows = {f"w{number}": self._born() for number in range(workers)}
        self._told = dict(self._rows)

    def _born(self) -> Work:
        return Work(self.clock.now(), 1, 0.0, 0.2, 0, 0.0)

    def work(self) -> Mapping[str, Work]:
        return self._told

    def is_even(self) -> bool:
        return self.clock.now() >= self.uneven_until

    async def resize(self, count: int) -> None:
        self.wanted = count
        self.asked.append((self.clock.now() - 1000.0, count))
        await self.clock.sleep(START_S)
        kept = dict(list(self._rows.items())[:count])
        self._rows = kept | {f"w{n}-{self.clock.now()}": self._born() for n in range(len(kept), count)}

    async def beat(self) -> None:
        """For ever."""
        while True:
            await self.clock.sleep(BEAT_S)
            each = self.requests_per_s * BEAT_S / len(self._rows)
            possible = BEAT_S / A_REQUEST_S
            for name, row in self._rows.items():
                routed = min(each, possible)
                self._rows[name] = Work(
                    self.clock.now(),
                    row.beats + 1,
                    row.late_s + (0.01 if each > possible else 0.0001),
                    row.cpu_s + routed * A_REQUEST_S,
                    row.routed + routed,
                    row.routing_s + routed * A_REQUEST_S,
                )
            self._told = {
                name: self._told.get(name, self._born()) if name in self.speechless else row
                for name, row in self._rows.items()
            }


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def rows(clock: VirtualClock) -> AsyncIterator[Rows]:
    made = Rows(clock)
    beating = asyncio.create_task(made.beat(), name="beat")
    yield made
    beating.cancel()


@pytest.fixture
async def scaler(rows: Rows, clock: VirtualClock) -> AsyncIterator[FrontEndScaler]:
    made = FrontEndScaler(OneMachine(rows, lambda: 4), ONE_MACHINE, clock, lambda: 1000.0 + clock.now(), scales=True)
    running = asyncio.create_task(made.run(), name="scale")
    yield made
    running.cancel()
    await settle()


# ---- the load of one worker


BEFORE = Work(at_s=100.0, beats=10, late_s=1.0, cpu_s=5.0, routed=1000, routing_s=0.5)


def later(seconds: float = 0.5, beats: float = 5, **more: float) -> Work:
    return BEFORE._replace(
        at_s=BEFORE.at_s + seconds,
        beats=BEFORE.beats + beats,
        **{name: getattr(BEFORE, name) + value for name, value in more.items()},
    )


def test_the_load_is_the_difference_between_two_beats() -> None:
    after = later(cpu_s=0.25, routed=2000, routing_s=0.2, late_s=0.01)
    load = load_between(BEFORE, after)
    assert load is not None
    assert load.routing_s == pytest.approx(0.0001)
    assert load.cpu == pytest.approx(0.5)
    assert load.loop_lag_s == pytest.approx(0.002)


def test_a_router_without_requests_has_no_time_to_route() -> None:
    assert load_between(BEFORE, later()) == WorkerLoad(None, 0.0, 0.0)


def test_threads_do_not_make_a_core_more_than_one() -> None:
    load = load_between(BEFORE, later(cpu_s=0.9))
    assert load is not None and load.cpu == 1.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, BEFORE),
        (BEFORE, BEFORE),
        (Work(0, 0, 0, 0, 0, 0), Work(0, 0, 0, 0, 0, 0)),
        (Work(0, 0, 0, 0, 0, 0), BEFORE),
    ],
    ids=["just seen", "it has not beaten since", "it has never beaten", "its first beat"],
)
def test_without_two_beats_nothing_is_known(before: Work | None, after: Work) -> None:
    assert load_between(before, after) is None


# ---- the router


async def test_every_worker_that_serves_is_seen_and_those_that_say_nothing_new_are_silent(rows: Rows) -> None:
    router = FrontEndFleet(OneMachine(rows, lambda: 99), rows.clock)
    rows.requests_per_s = 1000.0
    await router.observe(0.5)
    await rows.clock.advance(0.5)
    (seen,) = (await router.observe(0.5)).routers
    assert seen.workers == 1
    assert seen.answered[0].cpu == pytest.approx(1000.0 * A_REQUEST_S, rel=0.05)
    assert seen.answered[0].routing_s == pytest.approx(A_REQUEST_S)
    rows.speechless.add("w0")
    await rows.clock.advance(0.5)
    await router.observe(0.5)
    await rows.clock.advance(0.5)
    load = await router.observe(0.5)
    assert (load.routers[0].workers, load.routers[0].answered) == (1, ())
    assert (load.cores, load.room) == (64, False)


async def test_a_step_has_been_made_when_the_clients_are_spread(rows: Rows, clock: VirtualClock) -> None:
    rows.uneven_until = clock.now() + START_S + 2.0
    router = FrontEndFleet(OneMachine(rows, lambda: 4), clock)
    rows.requests_per_s = 1.5 / A_REQUEST_S
    await router.observe(0.5)
    step = asyncio.create_task(router.resize(2))
    await clock.advance(START_S + 1.9)
    assert not step.done()
    await clock.advance(0.1)
    rows.requests_per_s = 0.1 / A_REQUEST_S
    await clock.advance(0.5)
    assert step.done()
    (seen,) = (await router.observe(0.5)).routers
    assert [load.cpu < 0.1 for load in seen.answered] == [True, True], "what was before the step is not seen any more"


async def test_clients_that_stay_do_not_delay_the_next_step(rows: Rows, clock: VirtualClock) -> None:
    rows.uneven_until = clock.now() + 1e6
    step = asyncio.create_task(FrontEndFleet(OneMachine(rows, lambda: 4), clock).resize(2))
    await clock.advance(START_S + EVEN_S + 0.2)
    assert step.done()


# ---- the whole


async def test_a_step_of_load_is_answered_within_three_seconds_and_its_end_after_a_minute(
    rows: Rows, clock: VirtualClock, scaler: FrontEndScaler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await clock.advance(70.0)
    assert rows.asked == []
    rows.requests_per_s = 1.5 / A_REQUEST_S  # of a core and a half
    await clock.advance(3.0)
    assert len(rows.work()) == 2
    assert rows.asked[0][0] + START_S <= 70.0 + 3.0
    await clock.advance(120.0)
    rows.requests_per_s = 100.0
    await clock.advance(55.0)
    assert [count for _, count in rows.asked] == [2]
    await clock.advance(60.0)
    assert [count for _, count in rows.asked] == [2, 1]
    assert scaler.figures() == FrontEndFigures(1, 1, scaler.figures().decisions)
    assert (scaler.figures().decisions[Direction.UP], scaler.figures().decisions[Direction.DOWN]) == (1, 1)
    up, down = caplog.messages
    assert up.startswith("router workers: 1 of 1 worker takes over 3 ms to route or 95 % of a core (slowest ")
    assert up.endswith(": up from 1 to 2 workers in each router.")
    assert down.endswith(": down from 2 to 1 worker in each router.")
    steps = [each for each in scaler.decisions(1000) if each.decision.direction is not Direction.HOLD]
    assert [f"router workers: {each.decision.reason}" for each in steps] == caplog.messages
    assert [each.at for each in steps] == [each.decision.at_s + 1000.0 for each in steps]
    assert scaler.decisions(1) == scaler.decisions(1000)[-1:]


@pytest.mark.parametrize("cores_of_load", [0.9, 1.2, 1.8, 2.7])
async def test_no_steady_load_makes_the_number_go_to_and_fro(
    rows: Rows, clock: VirtualClock, scaler: FrontEndScaler, cores_of_load: float
) -> None:
    rows.requests_per_s = cores_of_load / A_REQUEST_S
    await clock.advance(200.0)
    counts = [count for _, count in rows.asked]
    assert counts == sorted(counts)
    assert len(rows.work()) == int(cores_of_load) + 1


async def test_more_workers_than_cores_are_allowed_are_sent_away_at_once(clock: VirtualClock) -> None:
    rows = Rows(clock, workers=3)
    running = asyncio.create_task(
        FrontEndScaler(OneMachine(rows, lambda: 2), ONE_MACHINE, clock, lambda: 1000.0 + clock.now(), scales=True).run()
    )
    await clock.advance(0.1)
    assert rows.asked == [(0.0, 2)]
    running.cancel()
    await settle()


@pytest.mark.parametrize("how", ["a number was chosen", "DevTest"])
async def test_with_a_chosen_number_or_in_tests_nothing_is_scaled(rows: Rows, clock: VirtualClock, how: str) -> None:
    purpose = ClusterPurpose.DEV_TEST if how == "DevTest" else ClusterPurpose.FAST_PROD
    settings = FrontEndSettings(purpose, min_routers=1, max_routers=1)
    scaler = FrontEndScaler(
        OneMachine(rows, lambda: 4), settings, clock, lambda: 1000.0 + clock.now(), scales=how == "DevTest"
    )
    rows.requests_per_s = 2.0 / A_REQUEST_S
    running = asyncio.create_task(scaler.run())
    await clock.advance(10.0)
    assert running.done()
    assert rows.asked == []
    assert scaler.figures() == FrontEndFigures(1, 1, {}) and scaler.decisions(20) == []


# ---- published values and settings


def test_metrics_have_the_number_of_workers_and_of_its_changes() -> None:
    exposition = Exposition(lambda: FrontEndFigures(1, 2, {Direction.UP: 3}))
    text = asyncio.run(exposition.render((), ScalingMetrics({}, {}, {}), ProblemMetrics())).decode()
    samples = {
        (sample.name, sample.labels.get("direction", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["scorefront_router_workers", ""] == 1
    assert samples["scorefront_desired_router_workers", ""] == 2
    decided = {labels: value for (name, labels), value in samples.items() if "frontend_decisions_total" in name}
    assert decided == {"up": 3, "down": 0, "hold": 0}


def test_without_an_environment_the_defaults_hold_for_one_machine() -> None:
    assert front_end_settings({"PATH": "/bin"}) == ONE_MACHINE


@pytest.mark.parametrize("name", MACHINE_FIELDS)
def test_every_threshold_has_its_variable(name: str) -> None:
    settings = front_end_settings({f"SCOREFRONT_FRONTEND_{name.upper()}": "0.25"})
    assert getattr(settings, name) == 0.25


@pytest.mark.parametrize("purpose", ClusterPurpose)
def test_the_purpose_is_written_as_azure_writes_it(purpose: ClusterPurpose) -> None:
    assert front_end_settings({"SCOREFRONT_CLUSTER_PURPOSE": purpose.value}).purpose is purpose


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        ("SCOREFRONT_FRONTEND_ROUTING_LIMIT_S", "0", "must be a number, above 0 and below 1e12 (got '0')"),
        ("SCOREFRONT_FRONTEND_DOWN_AFTER_S", "soon", "must be a number, above 0 and below 1e12 (got 'soon')"),
        ("SCOREFRONT_FRONTEND_DOWN_CPU", "1.5", "down_cpu must be above 0 and at most 1, not 1.5"),
        ("SCOREFRONT_CLUSTER_PURPOSE", "devtest", "must be FastProd or DevTest (got 'devtest')"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, text: str, rule: str) -> None:
    with pytest.raises(SettingError) as refused:
        front_end_settings({variable: text})
    assert str(refused.value) == f"{variable}: {rule}"
