"""Candidates for one Lease in virtual time: never two active leaders, never long without one."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from cluster.kubernetes.client import api_errors as errors
from cluster.kubernetes.client.election import LINK, REST, ElectionSettings, LeaderInfo
from cluster.kubernetes.client.elector import Elector, LeadershipLost
from cluster.kubernetes.client.paths import LEASES
from tests.fakes.leases import LEASE, LeaseKubernetes, Machine
from tests.fakes.virtual_loop import run_virtually

S = ElectionSettings()
LOOK_S = S.retry_s * 1.2 + 0.1
"""A standby looks at least this often."""


def elector(machine: Machine, identity: str = "me", u: Callable[[], float] = lambda: 0.5) -> Elector:
    notes = {LINK: f"{identity}:8083", REST: f"http://{identity}:8081"}
    return Elector(machine, LEASE, identity, notes, machine, lambda: 1_700_000_000.25, u)


async def for_ever(fence: int) -> None:
    await asyncio.sleep(1e9)


def now() -> float:
    return asyncio.get_running_loop().time()


class Led:
    """The work of a leader: records its begin and end."""

    def __init__(self) -> None:
        self.fences: list[int] = []
        self.ended_at: list[float] = []

    async def __call__(self, fence: int) -> None:
        self.fences.append(fence)
        try:
            await asyncio.sleep(1e9)
        finally:
            self.ended_at.append(now())


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> Any:
    task = asyncio.create_task(work, name="candidate")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test in virtual time."""

    def run() -> None:
        run_virtually(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# ---- one candidate


@virtual
async def test_the_first_candidate_leads_at_once_and_writes_its_identity() -> None:
    kubernetes = LeaseKubernetes()
    me, led = elector(Machine(kubernetes)), Led()
    async with running(me.run(led)):
        await asyncio.sleep(0.1)
        assert led.fences == [1] and me.leads()
        assert me.leader == LeaderInfo("me", "me:8083", "http://me:8081", 1)
        assert kubernetes.lease is not None
        assert kubernetes.lease["spec"]["renewTime"] == "2023-11-14T22:13:20.250000Z"
        assert kubernetes.lease["spec"]["leaseDurationSeconds"] == 8


@virtual
async def test_a_leader_renews_every_second_and_leads_on() -> None:
    kubernetes = LeaseKubernetes()
    me, led = elector(Machine(kubernetes)), Led()
    async with running(me.run(led)):
        await asyncio.sleep(1000)
        assert led.fences == [1] and not led.ended_at and me.leads()
    assert 950 < len(kubernetes.lease_writes) < 1001


@virtual
async def test_when_the_led_work_has_ended_the_lease_is_released_and_the_call_returns() -> None:
    kubernetes = LeaseKubernetes()

    async def soon(fence: int) -> None:
        await asyncio.sleep(3)

    await elector(Machine(kubernetes)).run(soon)
    assert kubernetes.lease_writes[-1][1:] == ("", 1)


@virtual
async def test_when_the_led_work_has_failed_the_lease_is_released_and_the_error_is_raised() -> None:
    kubernetes = LeaseKubernetes()

    async def fails(fence: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await elector(Machine(kubernetes)).run(fails)
    assert kubernetes.lease_writes[-1][1:] == ("", 1)


@virtual
async def test_a_stopping_leader_renews_until_its_work_has_ended_and_then_steps_down() -> None:
    kubernetes = LeaseKubernetes()
    ended_at = 0.0

    async def ends_slowly(fence: int) -> None:
        nonlocal ended_at
        try:
            await asyncio.sleep(1e9)
        finally:
            await asyncio.sleep(20)
            ended_at = now()

    me = elector(Machine(kubernetes))
    async with running(me.run(ends_slowly)) as task:
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.sleep(15)
        assert me.leads() and not task.done()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() and not me.leads()
    assert kubernetes.lease_writes[-1][1:] == ("", 1) and kubernetes.lease_writes[-1][0] >= ended_at == 30


# ---- one candidate and an API in trouble


async def lost_after(trouble: Callable[[], str], good_s: float = 3.5) -> tuple[float, Led, str]:
    """From the last good renewal's second on all requests are in trouble; returns the end of the led work, and its
    reason.
    """
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    me, led = elector(machine), Led()
    asyncio.get_running_loop().call_later(good_s, lambda: setattr(machine, "trouble", trouble))
    with pytest.raises(LeadershipLost) as caught:
        await me.run(led)
    assert not me.leads()
    return led.ended_at[0] - kubernetes.lease_writes[-1][0], led, str(caught.value)


def test_a_leader_with_refused_requests_stops_at_the_deadline() -> None:
    after_s, led, told = run_virtually(lost_after(lambda: "refused"))
    assert after_s == pytest.approx(S.renew_deadline_s, abs=0.02) and led.fences == [1]
    assert "connection refused" in told


def test_a_leader_with_hanging_requests_stops_at_the_deadline() -> None:
    after_s, _, told = run_virtually(lost_after(lambda: "hangs"))
    assert after_s == pytest.approx(S.renew_deadline_s, abs=0.02)
    assert "no answer within 2.5 s" in told


def test_a_leader_with_hanging_answers_stops_at_the_deadline_of_its_last_known_renewal() -> None:
    async def main() -> None:
        kubernetes = LeaseKubernetes()
        machine = Machine(kubernetes)
        me, led = elector(machine), Led()
        asyncio.get_running_loop().call_later(3.5, lambda: setattr(machine, "trouble", lambda: "arrives, then hangs"))
        with pytest.raises(LeadershipLost):
            await me.run(led)
        assert 3 + S.renew_deadline_s - 0.1 < led.ended_at[0] < 3.5 + S.renew_deadline_s + 0.1

    run_virtually(main())


@virtual
async def test_one_lost_request_in_three_is_harmless() -> None:
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    turns = itertools.cycle(("", "hangs", ""))
    machine.trouble = lambda: next(turns)
    me, led = elector(machine), Led()
    async with running(me.run(led)):
        await asyncio.sleep(600)
        assert led.fences == [1] and not led.ended_at


@virtual
async def test_a_renewal_that_was_given_up_and_arrived_late_is_not_taken_for_a_theft() -> None:
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    turns = itertools.cycle(("", "", "", "", "arrives, then hangs"))
    machine.trouble = lambda: next(turns)
    me, led = elector(machine), Led()
    async with running(me.run(led)):
        await asyncio.sleep(600)
        assert led.fences == [1] and not led.ended_at


@virtual
async def test_a_stolen_lease_is_noticed_at_the_next_renewal() -> None:
    kubernetes = LeaseKubernetes()
    me, led = elector(Machine(kubernetes)), Led()
    async with running(me.run(led)) as task:
        await asyncio.sleep(10.5)
        kubernetes.edit(LEASES, LEASE, {"spec": {"holderIdentity": "thief", "leaseTransitions": 2}})
        with pytest.raises(LeadershipLost):
            await task
        assert led.ended_at[0] < 10.5 + S.retry_s + 0.1
    assert kubernetes.lease_writes[-1][1:] == ("thief", 2)


@virtual
async def test_a_deleted_lease_is_noticed_at_the_next_renewal() -> None:
    kubernetes = LeaseKubernetes()
    me, led = elector(Machine(kubernetes)), Led()
    async with running(me.run(led)) as task:
        await asyncio.sleep(10.5)
        kubernetes.lease = None
        with pytest.raises(LeadershipLost):
            await task
        assert led.ended_at[0] < 10.5 + S.retry_s + 0.1


@virtual
async def test_a_leader_is_confirmed_by_the_lease_that_it_holds_and_by_no_other() -> None:
    kubernetes = LeaseKubernetes()
    me, led = elector(Machine(kubernetes)), Led()
    assert me.lease_uid == "" and not await me.confirmed()
    async with running(me.run(led)):
        await asyncio.sleep(0.1)
        mine = kubernetes.must_find(LEASES, LEASE)
        assert me.lease_uid == mine["metadata"]["uid"] and await me.confirmed()
        for change in ({"holderIdentity": "thief"}, {"leaseTransitions": 2}, {"holderIdentity": ""}):
            kubernetes.lease = {**mine, "spec": {**mine["spec"], **change}}
            assert not await me.confirmed()
        kubernetes.lease = {**mine, "metadata": {**mine["metadata"], "uid": "another"}}
        assert not await me.confirmed()
        kubernetes.lease = None
        assert not await me.confirmed()
        kubernetes.lease = mine
        assert await me.confirmed() and me.leads()


@virtual
async def test_any_other_error_in_a_request_is_a_failed_renewal() -> None:
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    me, led = elector(machine), Led()

    async def garbage(path: str, body: object, *, urgent: bool) -> dict[str, Any]:
        return {"kind": "surprise"}

    asyncio.get_running_loop().call_later(3.5, lambda: setattr(machine, "replace", garbage))
    with pytest.raises(LeadershipLost):
        await me.run(led)
    assert led.ended_at[0] == pytest.approx(3.0 + S.renew_deadline_s, abs=0.1)


@virtual
async def test_work_that_will_not_end_does_not_delay_the_loss() -> None:
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    release = asyncio.Event()

    async def will_not_end(fence: int) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    asyncio.get_running_loop().call_later(3.5, lambda: setattr(machine, "trouble", lambda: "refused"))
    with pytest.raises(LeadershipLost):
        await elector(machine).run(will_not_end)
    assert now() <= 3.5 + S.lease_s
    release.set()


@virtual
async def test_a_candidate_outlives_an_api_that_is_away() -> None:
    kubernetes = LeaseKubernetes()
    machine = Machine(kubernetes)
    machine.trouble = lambda: "refused"
    me, led = elector(machine), Led()
    async with running(me.run(led)):
        await asyncio.sleep(600)
        assert not led.fences and me.last_error == "connection refused"
        machine.trouble = lambda: ""
        await asyncio.sleep(LOOK_S)
        assert led.fences == [1] and me.last_error == ""


@virtual
async def test_a_candidate_waits_as_long_as_the_server_asks() -> None:
    machine = Machine(LeaseKubernetes())
    looks = []

    async def busy(path: str) -> dict[str, Any]:
        looks.append(now())
        raise errors.ApiError("slow down", 429, "TooManyRequests", retry_after_s=10.0)

    machine.get = busy  # type: ignore[method-assign]
    async with running(elector(machine).run(for_ever)):
        await asyncio.sleep(60)
    assert len(looks) <= 7


# ---- two candidates


@virtual
async def test_a_standby_knows_the_leader_and_does_nothing() -> None:
    kubernetes = LeaseKubernetes()
    first, second, led = elector(Machine(kubernetes), "a"), elector(Machine(kubernetes), "b"), Led()
    async with running(first.run(for_ever)):
        await asyncio.sleep(1)
        async with running(second.run(led)):
            await asyncio.sleep(600)
            assert not led.fences and not second.leads()
            assert second.leader == first.leader == LeaderInfo("a", "a:8083", "http://a:8081", 1)


@virtual
async def test_a_standby_takes_over_at_its_next_look_after_a_release() -> None:
    kubernetes = LeaseKubernetes()
    first, second, led = elector(Machine(kubernetes), "a"), elector(Machine(kubernetes), "b"), Led()
    async with running(first.run(for_ever)) as leading:
        await asyncio.sleep(1)
        async with running(second.run(led)):
            await asyncio.sleep(30)
            leading.cancel()
            await asyncio.sleep(LOOK_S)
            assert led.fences == [2] and second.leader is not None and second.leader.identity == "b"


def test_a_standby_takes_over_from_a_killed_leader_within_the_lease_and_one_look() -> None:
    async def takeover(phase_s: float) -> float:
        kubernetes = LeaseKubernetes()
        machine = Machine(kubernetes)
        first, second = elector(machine, "a"), elector(Machine(kubernetes), "b", lambda: phase_s)
        leads = asyncio.Event()

        async def lead(fence: int) -> None:
            assert fence == 2
            leads.set()
            await asyncio.sleep(1e9)

        async with running(first.run(for_ever)):
            await asyncio.sleep(1)
            async with running(second.run(lead)):
                await asyncio.sleep(20 + phase_s)
                machine.still_until = killed = now() + 1000  # kill -9: it says no other word
                await leads.wait()
                return now() - (killed - 1000)

    for phase in range(10):
        assert run_virtually(takeover(phase / 10)) <= S.lease_s + LOOK_S


@virtual
async def test_a_wall_clock_that_stands_still_or_goes_back_makes_no_renewal_look_like_none() -> None:
    kubernetes = LeaseKubernetes()
    hours = itertools.chain([9e8, 9e8, 9e8, 5e8, 7e8], itertools.repeat(1e8))
    machine = Machine(kubernetes)
    first = Elector(machine, LEASE, "a", {}, machine, lambda: next(hours), lambda: 0.5)
    second, led = elector(Machine(kubernetes), "b"), Led()
    async with running(first.run(for_ever)):
        await asyncio.sleep(1)
        async with running(second.run(led)):
            await asyncio.sleep(60)
            assert not led.fences and first.leads()


def test_a_leader_that_stood_still_does_nothing_more_when_it_wakes() -> None:
    async def main() -> None:
        kubernetes = LeaseKubernetes()
        machine = Machine(kubernetes)
        first = elector(machine, "a")
        acts: list[float] = []

        async def act(fence: int) -> None:
            while True:
                if first.leads():
                    acts.append(now())
                await machine.sleep(0.1)

        async with running(first.run(act)) as task:
            await asyncio.sleep(10)
            machine.still_until = 40.0
            with pytest.raises(LeadershipLost):
                await task
            assert now() == pytest.approx(40.0, abs=0.1)
        assert max(acts) < 10.2

    run_virtually(main())


# ---- at random


class Drama:
    """Some candidates on machines in trouble; each that loses or ends comes back as a new process."""

    def __init__(self, seed: int, candidates: int) -> None:
        self.chance = Random(seed)
        self.kubernetes = LeaseKubernetes()
        self.acts: list[tuple[float, int, str]] = []
        self.machines = [
            Machine(self.kubernetes, self.chance, rate=1 + self.chance.uniform(-0.1, 0.1)) for _ in range(candidates)
        ]
        self.fair = False

    def trouble(self) -> str:
        if self.fair or self.chance.random() < self.calm:
            return ""
        return self.chance.choice(("refused", "hangs", "arrives, then hangs", "arrives late"))

    async def process(self, place: int) -> None:
        machine = self.machines[place]
        machine.trouble = self.trouble
        for start in itertools.count():
            candidate = elector(machine, f"{place}.{start}", self.chance.random)

            async def act(fence: int, candidate: Elector = candidate) -> None:
                while True:
                    if candidate.leads():
                        self.acts.append((now(), fence, candidate.identity))
                    await machine.sleep(0.25)

            with contextlib.suppress(LeadershipLost):
                await candidate.run(act)
            await machine.sleep(1.0)

    async def fate(self) -> None:
        while True:
            self.calm = self.chance.choice((1.0, 0.9, 0.5, 0.1))
            await asyncio.sleep(self.chance.expovariate(1 / 10))
            if not self.fair and self.chance.random() < 0.5:
                machine = self.chance.choice(self.machines)
                machine.still_until = now() + self.chance.expovariate(1 / 6)

    async def run(self) -> None:
        self.calm = 1.0
        async with running(self.fate()), contextlib.AsyncExitStack() as stack:
            for place in range(len(self.machines)):
                await stack.enter_async_context(running(self.process(place)))
            await asyncio.sleep(400)
            self.fair = True
            for machine in self.machines:
                machine.still_until = 0.0
            await asyncio.sleep(2 * (S.lease_s + LOOK_S))
            leading = self.kubernetes.lease_writes[-1]
            await asyncio.sleep(60)
            assert self.kubernetes.lease_writes[-1][1:] == leading[1:], "in peace the leader stays"

    def judge(self) -> int:
        """Number of leaders. Fails if two acted at one time, or with one fence, or a fence went back."""
        spans: dict[tuple[int, str], tuple[float, float]] = {}
        for moment, fence, identity in self.acts:
            first, _ = spans.get((fence, identity), (moment, moment))
            spans[fence, identity] = (first, moment)
        in_order = sorted(spans)
        assert len({fence for fence, _ in in_order}) == len(in_order), "two with one fence"
        for before, after in itertools.pairwise(in_order):
            assert spans[before][1] < spans[after][0], f"{before} and {after} acted at one time"
        fences = [fence for _, _, fence in self.kubernetes.lease_writes]
        assert fences == sorted(fences)
        return len(spans)


@pytest.mark.parametrize("candidates", [2, 3])
def test_there_are_never_two_leaders_under_any_failures_hangs_and_pauses(candidates: int) -> None:
    led = 0
    for seed in range(6):
        drama = Drama(seed, candidates)
        try:
            run_virtually(drama.run())
            led += drama.judge()
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise
    assert led > 30
