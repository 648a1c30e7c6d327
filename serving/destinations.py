"""Destination rules of static replicas, applied to the resolved address at connection time. Pure."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SETTING = "SCOREFRONT_STATIC_CIDRS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"""Default on one machine; in a cluster there is no default."""

# Never allowed by a list of networks.
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
    """Text that is not a network; str() names the rule."""


def networks(text: str, setting: str = SETTING) -> tuple[Network, ...]:
    """The networks of a list with commas, such as `10.1.0.0/16, 192.168.7.9`. Raises NotANetwork.

    `setting`: its name, for the error.
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            rule = "must be networks such as 10.1.0.0/16 or fd00:1::/64, with commas between, no host bits set"
            raise NotANetwork(f"{setting}: {rule} (got {part!r})") from error
    return tuple(found)


def literal(host: str) -> Address | None:
    """`host` as an address; None for a name. IPv4-mapped IPv6 becomes IPv4; a zone is removed."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


@dataclass(frozen=True, slots=True)
class Destinations:
    """The allowed destinations of an installation."""

    networks: tuple[Network, ...] = LOOPBACK
    in_cluster: bool = False
    """Loopback is never allowed in a cluster: it is the router's own pod."""

    @property
    def off(self) -> str:
        """The reason for allowing no address at all; "" if some are allowed."""
        return "" if self.networks else f"static is not allowed in this installation: {SETTING} names no network"

    def refusal(self, host: str, port: int, is_own: Callable[[Address, int], bool]) -> str:
        """The reason for refusing a replica at this address; "" if it is allowed.

        `host`: an address, not a name. `port`: its port. `is_own(address, port)`: true for scorefront's own addresses
        and those of replicas that scorefront runs.
        """
        address = literal(host)
        if address is None:
            return f"replica address {host} is not an IP address"
        if reason := never_allowed(address, self.in_cluster):
            return f"replica address {host} is never allowed: it is {reason}"
        if is_own(address, port):
            return (
                f"replica address {host}:{port} is never allowed: it is scorefront's own, or that of a replica it runs"
            )
        if not any(address in network for network in self.networks):
            return f"replica address {host} is not in an allowed network ({SETTING})"
        return ""


def never_allowed(address: Address, in_cluster: bool) -> str:
    """The reason for never connecting to an address, whatever is set; "" if there is none.

    `in_cluster`: loopback is the router's own pod.
    """
    for form in _forms(address):
        if in_cluster and form.is_loopback:
            return _LOOPBACK_ITSELF
        for network, reason in _NEVER:
            if form in network:
                return reason
    return ""


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that translators and tunnels derive from it."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
