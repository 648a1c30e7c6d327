"""A Lease in a fake Kubernetes, and the machines of its candidates: network, clock and pauses, in virtual time."""

import asyncio
import contextlib
import copy
from collections.abc import Callable
from random import Random

from cluster.kubernetes.client import api_errors as errors
from cluster.kubernetes.client.paths import LEASES
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object, Place

LEASE = "scorefront-control"


class LeaseKubernetes(FakeKubernetes):
    """`lease_writes` has (time, holder, fence) of every version of the Lease."""

    def __init__(self) -> None:
        super().__init__(controllers=False)
        self.lease_writes: list[tuple[float, str, int]] = []
        self.on_version = self._note

    @property
    def lease(self) -> Object | None:
        """The Lease; assignment replaces it, None deletes it."""
        return self.find(LEASES, LEASE)

    @lease.setter
    def lease(self, lease: Object | None) -> None:
        if lease is None:
            self.take_away(LEASES, LEASE)
        else:
            self.put(LEASES, lease)

    def _note(self, place: Place, found: Object | None) -> None:
        if found is not None and place[2] == LEASE:
            spec = found["spec"]
            now = asyncio.get_running_loop().time()
            self.lease_writes.append((now, spec["holderIdentity"], spec["leaseTransitions"]))


class Machine:
    """The machine of one candidate: satisfies the `Api` and the `Clock` of an elector."""

    def __init__(self, kubernetes: FakeKubernetes, chance: Random | None = None, rate: float = 1.0) -> None:
        """
        kubernetes  the API server
        chance      source of random delays of the network; None: 5 ms each
        rate        speed of the clock, 1 is exact
        """
        self.home = kubernetes.home
        self._kubernetes = kubernetes
        self._chance = chance
        self._rate = rate
        self.still_until = 0.0
        """End of a pause of the whole machine."""
        self.trouble: Callable[[], str] = lambda: ""
        """Fate of each request: "" (answered), "refused", "hangs", "arrives, then hangs", "arrives late"."""

    # ---- a clock

    def now(self) -> float:
        return asyncio.get_running_loop().time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)
        await self.stands_still()

    async def stands_still(self) -> None:
        """Return at the end of the pause."""
        left_s = self.still_until - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
            await self.stands_still()  # the pause may have been extended

    # ---- an API

    async def get(self, path: str) -> Object:
        return await self._ask(lambda: self._kubernetes.get_now(path))

    async def create(self, path: str, body: Object, *, urgent: bool) -> Object:
        sent = copy.deepcopy(body)
        return await self._ask(lambda: self._kubernetes.create_now(path, sent))

    async def replace(self, path: str, body: Object, *, urgent: bool) -> Object:
        sent = copy.deepcopy(body)
        return await self._ask(lambda: self._kubernetes.replace_now(path, sent))

    async def _ask(self, arrive: Callable[[], Object]) -> Object:
        assert self.still_until <= asyncio.get_running_loop().time(), "a paused machine sends nothing"
        trouble = self.trouble()
        await self._travel()
        if trouble == "refused":
            raise OSError("connection refused")
        if trouble == "hangs":
            await asyncio.sleep(1e9)
        if trouble == "arrives late":  # after the timeout of the candidate, yet accepted by the server
            asyncio.get_running_loop().call_later(4.0, lambda: _quietly(arrive))
            await asyncio.sleep(1e9)
        answer = arrive()
        if trouble == "arrives, then hangs":
            await asyncio.sleep(1e9)
        await self._travel()
        await self.stands_still()
        return answer

    async def _travel(self) -> None:
        await asyncio.sleep(self._chance.expovariate(100) if self._chance else 0.005)


def _quietly(arrive: Callable[[], Object]) -> None:
    with contextlib.suppress(errors.ApiError):
        arrive()
