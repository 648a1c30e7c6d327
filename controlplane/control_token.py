"""The control token while a process runs: read again, so that a rotated one needs no restart."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster.kubernetes.client.api_errors import ApiError
from controlplane.control_errors import ControlError
from serving.clock import Clock

REREAD_S = 20.0
"""A token that has been replaced is refused after this, at most a minute where reading is slow."""
OFF = "off"
"""A value that no caller can present: the control token is switched off."""

_log = logging.getLogger(__name__)


class ControlToken:
    """One per process; a `controlplane.rest_guard.Authenticator`."""

    accepts = "the control token"

    def __init__(self, token: str, read: Callable[[], Awaitable[str]]) -> None:
        """`token`: as it was read first. `read`: the token now; raises ApiError, ControlError."""
        self._token = token
        self._read = read

    @classmethod
    def fixed(cls, token: str) -> "ControlToken":
        """One that does not change, e.g. from the environment. Raises ValueError where it is empty."""
        if not token:
            raise ValueError("the control token must not be empty")

        async def read() -> str:
            return token

        return cls(token, read)

    async def caller(self, credential: str, request: web.Request) -> str | None:
        """`control token` where `credential` is the token."""
        if self._token in ("", OFF):
            return None
        same = hmac.compare_digest(credential.encode("utf-8", "replace"), self._token.encode())
        return "control token" if same else None

    async def refresh(self) -> None:
        """Read it again. One that cannot be read now stays; one that is damaged opens nothing any more."""
        try:
            token = await self._read()
        except ApiError as error:
            _log.warning("the control token is not read again: %s", error)
        except ControlError as error:
            if self._token:
                _log.error("the control token opens nothing any more: %s", error)
            self._token = ""
        else:
            if token != self._token:
                _log.warning("the control token has been replaced" if token != OFF else "the control token is off")
            self._token = token

    async def run(self, clock: Clock) -> None:
        """Read it again and again, for ever."""
        while True:
            await clock.sleep(REREAD_S)
            await self.refresh()
