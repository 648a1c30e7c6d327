"""Where static replicas may be: a rule over the address that is connected to, after any name was resolved. Pure."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SETTING = "SCOREFRONT_STATIC_CIDRS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"""The default of one machine; a cluster's is none."""

# What no list of networks allows.
_NEVER: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("::/128", "unspecified"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        # Metadata services outside the link-local networks: AWS, Google, Alibaba, Oracle, Azure.
        ("fd00:ec2::254/128", "a cloud's metadata service"),
        ("fd20:ce::254/128", "a cloud's metadata service"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("192.0.0.192/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
    )
)
_LOOPBACK_ITSELF = "loopback, which is the router's own pod"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class NotANetwork(ValueError):
    """A text that names no network; str() says what it must be."""


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a list with commas, such as `10.1.0.0/16, 192.168.7.9`. Raises NotANetwork."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            rule = "must be networks such as 10.1.0.0/16 or fd00:1::/64, with commas between, no host bits set"
            raise NotANetwork(f"{SETTING}: {rule} (got {part!r})") from error
    return tuple(found)


def literal(host: str) -> Address | None:
    """The address that `host` is; None for a name. IPv4 in IPv6 is its IPv4 address, a zone is left out."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


@dataclass(frozen=True, slots=True)
class Destinations:
    """What an installation allows."""

    networks: tuple[Network, ...] = LOOPBACK
    in_cluster: bool = False
    """Loopback is never allowed: it is the router's own pod."""

    @property
    def off(self) -> str:
        """Why no address at all is allowed; "" if some are."""
        return "" if self.networks else f"static is not allowed in this installation: {SETTING} names no network"

    def refusal(self, host: str, port: int, is_own: Callable[[Address, int], bool]) -> str:
        """Why a replica may not be at this address; "" if it may.

        `host`: an address, not a name. `is_own(address, port)`: whether it is scorefront's own, or that of a replica
        that scorefront runs.
        """
        address = literal(host)
        if address is None:
            return f"replica address {host} is not an IP address"
        if reason := self._never(address):
            return f"replica address {host} is never allowed: it is {reason}"
        if is_own(address, port):
            return (
                f"replica address {host}:{port} is never allowed: it is scorefront's own, or that of a replica it runs"
            )
        if not any(address in network for network in self.networks):
            return f"replica address {host} is not in an allowed network ({SETTING})"
        return ""

    def _never(self, address: Address) -> str:
        for form in _forms(address):
            if self.in_cluster and form.is_loopback:
                return _LOOPBACK_ITSELF
            for network, reason in _NEVER:
                if form in network:
                    return reason
        return ""


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that a translator or a tunnel would make of it."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
