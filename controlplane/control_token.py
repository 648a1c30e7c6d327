"""The control token of a running process, re-read periodically so that rotation needs no restart."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster.kubernetes.client.api_errors import ApiError
from controlplane.control_errors import ControlError
from serving.clock import Clock

REREAD_S = 20.0
"""Seconds between reads: a replaced token is refused after this time, at most a minute if reads are slow."""
OFF = "off"
"""Value that switches the control token off; it is never accepted as a credential."""

_log = logging.getLogger(__name__)


class ControlToken:
    """Authenticator for the control token; one per process. Implements `controlplane.rest_guard.Authenticator`."""

    accepts = "the control token"

    def __init__(self, token: str, read: Callable[[], Awaitable[str]]) -> None:
        """`token`: its first value. `read`: reads the current token; raises ApiError, ControlError."""
        self._token = token
        self._read = read

    @classmethod
    def fixed(cls, token: str) -> "ControlToken":
        """A token that does not change, e.g. from the environment. Raises ValueError if it is empty."""
        if not token:
            raise ValueError("the control token must not be empty")

        async def read() -> str:
            return token

        return cls(token, read)

    async def caller(self, credential: str, request: web.Request) -> str | None:
        """`control token` if `credential` is the token, else None."""
        if self._token in ("", OFF):
            return None
        same = hmac.compare_digest(credential.encode("utf-8", "replace"), self._token.encode())
        return "control token" if same else None

    async def refresh(self) -> None:
        """Read the token again. After a failed read the last token stays valid; a damaged one disables it."""
        try:
            token = await self._read()
        except ApiError as error:
            _log.warning("control token: read failed: %s", error)
        except ControlError as error:
            if self._token:
                _log.error("control token: disabled: %s", error)
            self._token = ""
        else:
            if token != self._token:
                _log.warning("control token: replaced" if token != OFF else "control token: switched off")
            self._token = token

    async def run(self, clock: Clock) -> None:
        """Re-read the token every 20 s until cancelled."""
        while True:
            await clock.sleep(REREAD_S)
            await self.refresh()
