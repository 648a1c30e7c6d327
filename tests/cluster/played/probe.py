"""Probes as a node agent makes them: HTTP, TCP and commands, with their thresholds."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

Spec = Mapping[str, Any]
Run = Callable[[tuple[str, ...]], "asyncio.Future[int] | Any"]
"""Runs a command in the container's stead; its exit status."""

DEFAULTS = {
    "initialDelaySeconds": 0,
    "periodSeconds": 10,
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}


class Probe:
    """One probe of one container. `passes` is its standing; it begins as `passes_at_first`."""

    def __init__(self, spec: Spec, ip: str, ports: Mapping[str, int], run: Run, passes_at_first: bool) -> None:
        """`ports`: number by name."""
        self._spec = spec
        self._ip = ip
        self._ports = ports
        self._run = run
        self._every = {name: spec.get(name) or value for name, value in DEFAULTS.items()}
        self.passes = passes_at_first
        self._in_a_row = 0

    async def go_on(self, session: aiohttp.ClientSession, changed: Callable[[bool], None]) -> None:
        """Probe until cancelled; `changed` hears of every change of the standing."""
        await asyncio.sleep(self._every["initialDelaySeconds"])
        loop = asyncio.get_running_loop()
        while True:
            following = loop.time() + self._every["periodSeconds"]
            good = await self._once(session)
            if good == self.passes:
                self._in_a_row = 0
            else:
                self._in_a_row += 1
                if self._in_a_row >= self._every["successThreshold" if good else "failureThreshold"]:
                    self.passes, self._in_a_row = good, 0
                    changed(good)
            await asyncio.sleep(max(0.0, following - loop.time()))

    async def _once(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(self._every["timeoutSeconds"]):
                return await self._look(session)
        return False

    async def _look(self, session: aiohttp.ClientSession) -> bool:
        if http := self._spec.get("httpGet"):
            scheme = http.get("scheme", "HTTP").lower()
            url = f"{scheme}://{self._ip}:{self._port(http['port'])}{http.get('path', '/')}"
            fields = {each["name"]: each["value"] for each in http.get("httpHeaders", ())}
            async with session.get(url, headers=fields, ssl=False, allow_redirects=False) as response:
                return 200 <= response.status < 400
        if tcp := self._spec.get("tcpSocket"):
            _, writer = await asyncio.open_connection(self._ip, self._port(tcp["port"]))
            writer.close()
            return True
        status: int = await self._run(tuple(self._spec["exec"]["command"]))
        return status == 0

    def _port(self, named: int | str) -> int:
        return self._ports[named] if isinstance(named, str) else named
