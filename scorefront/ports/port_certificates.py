"""The certificates of a control port: files that are read again when they change."""

import asyncio
import datetime
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from router.proxy.tls import CertificatePair, Certificates

RELOAD_EVERY_S = 1.0


class PortCertificates:
    """Certificates chosen by server name; the first pair is the default."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], now: Callable[[], datetime.datetime]) -> None:
        """`pairs`: certificate chain and key, PEM files. `now`: the time, aware. Raises TlsError."""
        self._now = now
        self._certificates = Certificates([CertificatePair(*pair) for pair in pairs], now())

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        return self._certificates.context

    def reload(self) -> None:
        """Reload changed files now."""
        self._certificates.reload(self._now())

    async def run(self) -> None:
        """Reload changed files within a second, until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_EVERY_S)
            self.reload()
