"""Who a peer on another machine is: mutual TLS with a certificate authority of the peers' own.

The files are read for every link, which are few: a certificate that was exchanged is used from the next link on.
"""

import contextlib
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.core.members import Member
from router.peers.address import AddressError, Tcp, parse_address


class TrustError(Exception):
    """Files that cannot be used, or a peer that cannot be trusted; the text tells which and why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM files. The certificate is shown both to who connects and to whom this worker connects.

    Where it restricts its use (extendedKeyUsage), it has to allow clientAuth and serverAuth.
    """

    ca: Path
    """Certificates of the authority; no other is trusted, the system's neither."""
    cert: Path
    key: Path

    def context(self, server: bool) -> ssl.SSLContext:
        """For one link. Raises TrustError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # `covers` looks at more than the host, and at either end
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.ca)
        except OSError as error:
            raise TrustError(f"{self.ca}: no authority to trust peers by: {_reason(error)}") from error
        try:
            # An empty pass phrase: a key that wants one must fail, not ask on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:
            raise TrustError(f"{self.cert} with {self.key}: cannot be shown to peers: {_reason(error)}") from error
        return context


def covers(certificate: Mapping[str, Any], member: Member) -> bool:
    """Whether a verified certificate (`SSLSocket.getpeercert`) names the member or the host of its address.

    Only alternative names count, without wildcards: a name that fits many would make every peer any other.
    """
    wanted = {_normal(member.name)}
    with contextlib.suppress(AddressError):  # of a newer version, perhaps; the name counts
        address = parse_address(member.address)
        wanted |= {_normal(address.host)} if isinstance(address, Tcp) else set()
    return not wanted.isdisjoint(map(_normal, names(certificate)))


def names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Host names and addresses that a verified certificate is for."""
    alternative = certificate.get("subjectAltName", ())
    return tuple(name for kind, name in alternative if kind in ("DNS", "IP Address"))


def _normal(name: str) -> str:
    """An address has many spellings, and a host name is the same in capitals."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).replace("_", " ").lower()
