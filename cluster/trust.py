"""Mutual TLS between the processes of a cluster, with a certificate authority of their own.

The files are read for every link, which are few: a certificate that was exchanged is used from the next link on.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUTER = "router.scorefront"
"""The name in the certificate of the routers of an installation."""
CONTROL = "control.scorefront"
"""The name in the certificates of its control processes; routers take orders from no other."""


class TrustError(Exception):
    """Files that cannot be used, or a peer that cannot be trusted; the text tells which and why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM files. The certificate is shown both to who connects and to whom this process connects.

    Where it restricts its use (extendedKeyUsage), it has to allow clientAuth and serverAuth.
    """

    ca: Path
    """Certificates of the authority; no other is trusted, the system's neither."""
    cert: Path
    key: Path

    def verifying(self) -> ssl.SSLContext:
        """For a client that shows no certificate, and checks the name that it connects for. Raises TrustError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._load_authority(context)
        return context

    def context(self, server: bool) -> ssl.SSLContext:
        """For one link. Raises TrustError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # whoever makes a link looks at the names, at either end
        context.verify_mode = ssl.CERT_REQUIRED
        self._load_authority(context)
        try:
            # An empty pass phrase: a key that wants one must fail, not ask on the terminal.
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
    """Host names and addresses that a verified certificate is for."""
    alternative = certificate.get("subjectAltName", ())
    return tuple(name for kind, name in alternative if kind in ("DNS", "IP Address"))


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).replace("_", " ").lower()
