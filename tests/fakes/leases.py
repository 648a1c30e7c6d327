"""A Lease in a world of its own, with candidates whose requests fail, hang or arrive late, and who stand still."""

import asyncio
import contextlib
import copy
from collections.abc import Callable
from random import Random
from typing import Any

from cluster.kubernetes.client import api_errors as errors

Object = dict[str, Any]


class LeaseWorld:
    """One Lease as an API server keeps it, in the time of the running loop."""

    def __init__(self) -> None:
        self.home = "home"
        self.lease: Object | None = None
        self.writes: list[tuple[float, str, int]] = []
        """(time, holder, fence) of every accepted write."""
        self._version = 0

    def read(self) -> Object:
        if self.lease is None:
            raise errors.NotFound("no lease", 404, "NotFound")
        return copy.deepcopy(self.lease)

    def write(self, body: Object, create: bool) -> Object:
        known = self.lease
        if create and known is not None:
            raise errors.WriteConflict("exists", 409, "AlreadyExists")
        if not create and known is None:
            raise errors.NotFound("no lease", 404, "NotFound")
        if known is not None and body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise errors.WriteConflict("changed", 409, "Conflict")
        self._version += 1
        uid = known["metadata"]["uid"] if known is not None else f"lease-{self._version}"
        metadata = {**body["metadata"], "resourceVersion": str(self._version), "uid": uid}
        self.lease = copy.deepcopy({**body, "metadata": metadata})
        spec = self.lease["spec"]
        self.writes.append((asyncio.get_running_loop().time(), spec["holderIdentity"], spec["leaseTransitions"]))
        return copy.deepcopy(self.lease)


class Machine:
    """Where one candidate runs: its clock, which may be fast or slow, its network, and whether it stands still."""

    def __init__(self, world: LeaseWorld, chance: Random | None = None, rate: float = 1.0) -> None:
        self.home = world.home
        self._world = world
        self._chance = chance
        self._rate = rate
        self.still_until = 0.0
        self.trouble: Callable[[], str] = lambda: ""
        """Asked for each request: "" (answered), "refused", "hangs", "arrives, then hangs", "arrives late"."""

    # ---- a clock

    def now(self) -> float:
        return asyncio.get_running_loop().time() * self._rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._rate)
        await self.stands_still()

    async def stands_still(self) -> None:
        """Return when this machine runs."""
        left_s = self.still_until - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
            await self.stands_still()  # it may have been told to stand still for longer

    # ---- an API

    async def get(self, path: str) -> Object:
        return await self._ask(lambda: self._world.read())

    async def create(self, path: str, body: Object, *, urgent: bool) -> Object:
        sent = copy.deepcopy(body)
        return await self._ask(lambda: self._world.write(sent, create=True))

    async def replace(self, path: str, body: Object, *, urgent: bool) -> Object:
        sent = copy.deepcopy(body)
        return await self._ask(lambda: self._world.write(sent, create=False))

    async def _ask(self, arrive: Callable[[], Object]) -> Object:
        assert self.still_until <= asyncio.get_running_loop().time(), "who stands still sends nothing"
        trouble = self.trouble()
        await self._travel()
        if trouble == "refused":
            raise OSError("connection refused")
        if trouble == "hangs":
            await asyncio.sleep(1e9)
        if trouble == "arrives late":  # given up by the candidate, taken by the server all the same
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
