"""Names to addresses, and which addresses this machine has: what judging the address of a static replica needs."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Sequence

from serving.destinations import Address, Destinations, literal


class AddressRefused(OSError):
    """No address of a static replica is one that may be connected to; str() says why."""


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order of preference; an address is its own. Raises OSError."""
    if literal(host) is not None:
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise AddressRefused(f"{host} is not a name that can be resolved") from error
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def is_of_this_machine(address: Address) -> bool:
    """Whether a process here can listen on it."""
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True


class OwnAddresses:
    """Addresses that no static replica may have: processes of scorefront, and replicas that it runs or finds by itself.

    On one machine a port stands for itself: whatever listens on it there is ours. In a cluster an address does: a pod
    has one of its own.
    """

    def __init__(self, ports: Sequence[int] = (), in_cluster: bool = False) -> None:
        self._ports = frozenset(ports)
        self._in_cluster = in_cluster
        self._replicas: dict[str, tuple[Address | None, int]] = {}
        self._counts: dict[Address | int | None, int] = {}
        """Replicas by address in a cluster, by port on one machine."""
        self._hosts: dict[str, frozenset[Address]] = {}

    def put(self, replica_id: str, host: str, port: int) -> None:
        """A replica that is no static one is there, or has changed."""
        place = (literal(host), port)
        if self._replicas.get(replica_id) == place:
            return
        self.drop(replica_id)
        self._replicas[replica_id] = place
        key = self._key(*place)
        self._counts[key] = self._counts.get(key, 0) + 1

    def drop(self, replica_id: str) -> None:
        """A replica is gone; an unknown one is harmless."""
        place = self._replicas.pop(replica_id, None)
        if place is not None:
            key = self._key(*place)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def keep(self, replica_ids: Collection[str]) -> None:
        """Only these are left."""
        for replica_id in self._replicas.keys() - set(replica_ids):
            self.drop(replica_id)

    def set_hosts(self, kind: str, hosts: Sequence[str]) -> None:
        """Addresses of pods of the installation, or of its Services: all of this kind."""
        self._hosts[kind] = frozenset(address for host in hosts if (address := literal(host)) is not None)

    def __call__(self, address: Address, port: int) -> bool:
        """Whether it is one of these."""
        if any(address in hosts for hosts in self._hosts.values()):
            return True
        if self._in_cluster:
            return address in self._counts
        return (port in self._ports or port in self._counts) and (address.is_loopback or is_of_this_machine(address))

    def _key(self, address: Address | None, port: int) -> Address | int | None:
        return address if self._in_cluster else port


async def permitted(host: str, port: int, destinations: Destinations, own: OwnAddresses) -> list[str]:
    """The addresses of a static replica that may be connected to: just these, with no second look at its name.

    `host`, `port`: as declared. `destinations`: what the installation allows. `own`: what it does not.
    Raises AddressRefused where none may be, OSError where the name has none.
    """
    if destinations.off:
        raise AddressRefused(destinations.off)
    allowed, refusals = [], []
    for address in await addresses_of(host, port):
        refusal = destinations.refusal(address, port, own)
        if refusal:
            refusals.append(refusal if address == host else f"{refusal}; {host} has it")
        else:
            allowed.append(address)
    if not allowed:
        raise AddressRefused(refusals[0] if refusals else f"{host} has no address")
    return allowed
