"""Health requests of a worker to suspect replicas: one GET on a connection of its own each."""

import asyncio
import re
from collections.abc import Awaitable, Callable

from cluster.owned_tasks import OwnedTasks
from router.core.health import HealthSign
from router.core.health_watch import HealthProbe
from router.core.ledger import ReplicaSlots
from serving.authority import authority

MAX_STATUS_LINE_BYTES = 8192
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r\n]")


class HealthRequests:
    """Health requests under way."""

    def __init__(
        self,
        hosts: Callable[[ReplicaSlots], Awaitable[list[str]]],
        on_result: Callable[[HealthProbe, HealthSign], None],
    ) -> None:
        """`hosts`: permitted addresses of a replica; raises OSError. `on_result`: called with each result."""
        self._hosts = hosts
        self._on_result = on_result
        self._tasks = OwnedTasks()

    def send(self, probe: HealthProbe) -> None:
        """Send a health request; the result is reported within its timeout."""
        self._tasks.spawn(self._run(probe), f"health request to {probe.replica.id}")

    async def _run(self, probe: HealthProbe) -> None:
        try:
            async with asyncio.timeout(probe.queue.health_timeout_s):
                sign = await self._ask(probe)
        except (OSError, TimeoutError, ValueError):
            sign = HealthSign.NONE
        self._on_result(probe, sign)

    async def _ask(self, probe: HealthProbe) -> HealthSign:
        """Raises OSError without a connection, ValueError for an endless line."""
        replica = probe.replica
        host, *_ = await self._hosts(replica)
        reader, writer = await asyncio.open_connection(host, replica.port, limit=MAX_STATUS_LINE_BYTES)
        try:
            written = probe.queue.host_header or authority(replica.host, replica.port)
            writer.write(request(probe.queue.health_path, written))
            return sign_of(await reader.readline())
        finally:
            writer.close()

    async def close(self) -> None:
        """Cancel the requests under way."""
        await self._tasks.close()


def request(path: str, host: str) -> bytes:
    """The request. `path`: health path. `host`: value of the Host field."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: scorefront-probe",
        "Accept: */*",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


def sign_of(line: bytes) -> HealthSign:
    """The sign in the first line of an answer; b"" if the connection was closed."""
    found = _STATUS_LINE.match(line)
    if found is None:
        return HealthSign.NONE
    return HealthSign.UNREADY if found[1] >= b"500" else HealthSign.WELL
