"""Identity of a peer on another machine: the names required in its certificate (mutual TLS)."""

import contextlib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.trust import ROUTER, Trust, TrustError, names
from router.core.view import Member
from router.peers.address import AddressError, Tcp, parse_address

__all__ = ["Trust", "TrustError", "covers", "names", "trust_from_folder"]


def trust_from_folder(folder: Path) -> Trust:
    """Trust from files named as in a Secret of type kubernetes.io/tls."""
    return Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


def covers(certificate: Mapping[str, Any], member: Member) -> bool:
    """True if a certificate names the member or the host of its address, or is the shared one of an installation.

    `certificate`: verified, from `SSLSocket.getpeercert`. Only subject alternative names without wildcards count: a
    pattern would let a peer pose as another. The shared certificate allows that deliberately: pods get new addresses
    too often for a certificate each.
    """
    wanted = {_normal(member.name), ROUTER}
    with contextlib.suppress(AddressError):  # perhaps of a newer release; the name counts
        address = parse_address(member.address)
        wanted |= {_normal(address.host)} if isinstance(address, Tcp) else set()
    return not wanted.isdisjoint(map(_normal, names(certificate)))


def _normal(name: str) -> str:
    """Canonical spelling of an IP address or host name."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")
