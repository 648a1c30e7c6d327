"""The certificates of a control process: for links of routers, for REST, and for requests to the leader."""

import asyncio
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.peer_certificates import PeersIdentity
from cluster.trust import Trust
from scorefront.control.rest_port import RestPortTls
from scorefront.ports.port_certificates import PortCertificates


class ControlCertificates:
    """Made by `own`; call `ensure` before accepting routers."""

    def __init__(self, trust: Trust, made: PeersIdentity | None, certificates: PortCertificates) -> None:
        """Parts that belong together.

        trust: the files of this process.
        made: keeps these files up; None: the user does.
        certificates: of the REST port.
        """
        self.trust = trust
        self._made = made
        self._certificates = certificates
        self._verifying: tuple[bytes, ssl.SSLContext] | None = None
        self.door = RestPortTls(certificates.context, self._to_leader)

    @classmethod
    def own(
        cls, api: Api, folder: Path, host: str, peers_dir: Path | None, tls: tuple[tuple[Path, Path], ...]
    ) -> "ControlCertificates":
        """The files of this process.

        folder: an empty private folder for them.
        host: address of this process for other pods.
        peers_dir: user-supplied ca.crt, tls.crt and tls.key; None: they are created.
        tls: certificate and key files for REST clients; REST also has the certificate of this process.
        Raises TlsError, CertificateError.
        """

        def now() -> datetime.datetime:
            return datetime.datetime.now(datetime.UTC)

        made = PeersIdentity(api, folder, now, host) if peers_dir is None else None
        if peers_dir is not None:
            trust = Trust(peers_dir / "ca.crt", peers_dir / "tls.crt", peers_dir / "tls.key")
        else:
            assert made is not None
            trust = made.trust
        # Standbys verify the name of a control process, which only the own certificate has.
        return cls(trust, made, PortCertificates((*tls, (trust.cert, trust.key)), now))

    async def ensure(self) -> None:
        """Create the certificates that routers trust; leader only. Raises ApiError, CertificateError, TrustError."""
        if self._made is not None:
            await self._made.ensure()
            self._certificates.reload()

    async def run(self, leads: Callable[[], bool]) -> None:
        """Renew certificates and reload changed files, until cancelled.

        `leads`: True while this process may write Secrets.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._certificates.run(), name="read changed certificates")
            if self._made is not None:
                tasks.create_task(self._made.run(leads, self._certificates.reload), name="renew certificates")

    def _to_leader(self) -> ssl.SSLContext:
        """Raises TrustError."""
        # A new context would be a new connection for every request.
        try:
            authorities = self.trust.ca.read_bytes()
        except OSError:
            authorities = b""
        if self._verifying is None or self._verifying[0] != authorities:
            self._verifying = authorities, self.trust.verifying()
        return self._verifying[1]
