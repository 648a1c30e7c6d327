"""Hosts and ports in writing: `host:port` of a URL, and the address of a peer. Pure."""

_MAPPED = "::ffff:"


def authority(host: str, port: int) -> str:
    """`host:port` of a URL; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unmapped(host: str) -> str:
    """The address of a peer, as a socket has it; an IPv4-mapped IPv6 address as IPv4.

    A socket for both families has the IPv4 address of a peer in this form.
    """
    return host[len(_MAPPED) :] if host.startswith(_MAPPED) and "." in host else host
