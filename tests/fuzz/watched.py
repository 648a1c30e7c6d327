"""A gateway on a loop of its own that fails the test on any unhandled exception."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from router.settings import RouterSettings
from tests.fakes.clock import eventually
from tests.integration.router.replicas import Script
from tests.integration.router.rig import Rig, endpoint, version

SOON_S = 0.05
"""Timeout of incomplete messages: short, so that every conversation ends."""
SETTINGS = RouterSettings(
    head_timeout_s=SOON_S,
    body_timeout_s=SOON_S,
    first_byte_timeout_s=SOON_S,
    idle_timeout_s=SOON_S,
    write_timeout_s=1.0,
    tunnel_idle_s=SOON_S,
)


class Watched:
    """Lives as long as a test; conversations run in it one set after the other."""

    def __init__(self, script: Script, **changed: Any) -> None:
        self.rig: Rig
        self._script = script
        self._version = version(web_socket=True, scoring_timeout_s=2 * SOON_S, queue_wait_s=2.0, **changed)
        self._runner = asyncio.Runner()
        self._unhandled: list[dict[str, Any]] = []

    def __enter__(self) -> "Watched":
        self._runner.__enter__()
        self._runner.run(self._start())
        return self

    async def _start(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._unhandled.append(context))
        self.rig = Rig(SETTINGS)
        await self.rig.start()
        self.rig.declare(endpoint(self._version))
        for _ in range(6):
            await self.rig.replica(self._script, slots=2)

    def run(self, *conversations: Coroutine[Any, Any, Any]) -> list[Any]:
        """Hold these conversations at the same time; then nothing may be left of them."""
        return self._runner.run(self._run(conversations))

    async def _run(self, conversations: tuple[Coroutine[Any, Any, Any], ...]) -> list[Any]:
        for replica in self.rig.queue().replicas.values():
            replica.failures = 0  # else replicas that answer wrongly all the time would hardly ever be asked
        async with asyncio.timeout(20):
            results = await asyncio.gather(*conversations)
        await eventually(self.rig.is_at_rest)
        self.rig.check()
        assert not self._unhandled, self._unhandled
        return results

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self.rig.stop())
            assert error is not None or not self._unhandled, self._unhandled
        finally:
            self._runner.__exit__(kind, error, trace)
