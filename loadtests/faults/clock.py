"""The wall clock jumps; the monotonic one does not."""

import asyncio
import tempfile
from pathlib import Path

from loadtests.faults.caller import Caller, statuses
from loadtests.faults.site import ENDPOINT, RATE, Site, Verdict, site, version
from loadtests.installation import manifest

HOUR_S = 3600.0
EXPIRED_S = 14 * HOUR_S
"""End of the validity of all tokens."""

# Every process of the installation imports this first. It moves `time.time`, their only source of wall-clock time.
_SITECUSTOMIZE = """
import time
from pathlib import Path

_offset, _time = Path(__file__).with_name("offset"), time.time
time.time = lambda: _time() + float(_offset.read_text())
"""


class WallClock:
    """A wall clock for processes whose PYTHONPATH begins with `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self.jump(0.0)

    def jump(self, offset_s: float) -> None:
        """So many seconds from the right time, from now on."""
        new = self._folder / "offset.new"
        new.write_text(str(offset_s))
        new.rename(self._folder / "offset")


async def jumping(quick: bool) -> Verdict:
    """20: the wall clock jumps by an hour to and fro: nothing times out; an expired token stays expired."""
    with tempfile.TemporaryDirectory() as folder:
        clock = WallClock(Path(folder))
        async with site(environment={"PYTHONPATH": folder}) as here:
            jumps = asyncio.create_task(_to_and_fro(clock, 1 if quick else 5), name="jump")
            outcomes = await here.caller.open_loop(RATE, 3 if quick else 15)
            await jumps
            seen = await here.metrics()
            utilization = seen["scorefront_utilization_ratio"]
            ready = (await here.client.status(ENDPOINT, "blue"))["ready"]
            tokens = await _tokens(here, clock)
            good = set(statuses(outcomes)) == {200} and 0 <= utilization <= 1 and ready == 3
            good &= tokens == [200, 401, 401, 200] and await here.at_rest()
            return Verdict(
                good,
                f"{statuses(outcomes)}, replicas ready {ready}; a token is answered {tokens[0]}, expired {tokens[1]}, "
                f"with the clock set back {tokens[2]}, a new one {tokens[3]}",
            )


async def _to_and_fro(clock: WallClock, times: int) -> None:
    for _ in range(times):
        for offset in (HOUR_S, -HOUR_S, 0.0):
            clock.jump(offset)
            await asyncio.sleep(0.7)


async def _tokens(here: Site, clock: WallClock) -> list[int]:
    """Statuses of a token, of the same when it has expired, and with the clock set back, and of a new one."""
    await here.client.rest("PUT", "/api/v1/endpoints/tokened", manifest("tokened", [version()], tokenAuthEnabled=True))
    await here.client.until("tokened", "blue", 30, ready=3)

    async def issued() -> Caller:
        _, answer = await here.client.rest("POST", "/api/v1/endpoints/tokened/token")
        return Caller(here.installation.scoring, "tokened", answer["accessToken"])

    async def status(caller: Caller) -> int:
        outcome = await caller.call()
        await caller.close()
        return outcome.status

    first = await issued()
    seen = [await status(first)]
    for offset_s in (EXPIRED_S, 0.0):
        clock.jump(offset_s)
        seen.append(await status(first))
    return [*seen, await status(await issued())]
