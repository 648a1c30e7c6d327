"""Mutual TLS between the processes of an installation, with its own certificate authority.

The files are read for every link, of which there are few: a replaced certificate is used from the next link on.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUTER = "router.scorefront"
"""Name in the certificate of the routers of an installation."""
CONTROL = "control.scorefront"
"""Name in the certificates of its control processes; routers accept orders from no other."""


class TrustError(Exception):
    """Unusable files, or an untrusted peer; the text names the reason."""


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM files. The certificate serves for both client and server side.

    If it restricts its use (extendedKeyUsage), clientAuth and serverAuth must be included.
    """

    ca: Path
    """Certificates of the only trusted authority; those of the system are not trusted."""
    cert: Path
    key: Path

    def verifying(self) -> ssl.SSLContext:
        """A context for a client without certificate that checks the server's name. Raises TrustError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._load_authority(context)
        return context

    def context(self, server: bool) -> ssl.SSLContext:
        """A context for one link. Raises TrustError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # both ends compare the names after the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        self._load_authority(context)
        try:
            # An empty pass phrase: an encrypted key must fail, not ask on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:
            raise TrustError(f"{self.cert} with {self.key}: cannot be shown to peers: {_reason(error)}") from error
        return context

    def _load_authority(self, context: ssl.SSLContext) -> None:
        try:
            context.load_verify_locations(self.ca)
        except OSError as error:
            raise TrustError(f"{self.ca}: no authority to trust peers by: {_reason(error)}") from error


def names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Host names and addresses of a verified certificate."""
    alternative = certificate.get("subjectAltName", ())
    return tuple(name for kind, name in alternative if kind in ("DNS", "IP Address"))


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).replace("_", " ").lower()
