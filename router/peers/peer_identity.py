"""Whether a peer on another machine is who it says: what its certificate, proven by mutual TLS, has to name."""

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
    """The files as a Secret of type kubernetes.io/tls names them."""
    return Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


def covers(certificate: Mapping[str, Any], member: Member) -> bool:
    """Whether a verified certificate (`SSLSocket.getpeercert`) names the member or the host of its address, or is the
    one that all routers of an installation share.

    Only alternative names count, without wildcards: a name that fits many would make every peer any other. That is what
    the shared one does, knowingly: where pods come and go with new addresses, nobody could give each one its own.
    """
    wanted = {_normal(member.name), ROUTER}
    with contextlib.suppress(AddressError):  # of a newer version, perhaps; the name counts
        address = parse_address(member.address)
        wanted |= {_normal(address.host)} if isinstance(address, Tcp) else set()
    return not wanted.isdisjoint(map(_normal, names(certificate)))


def _normal(name: str) -> str:
    """An address has many spellings, and a host name is the same in capitals."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")
