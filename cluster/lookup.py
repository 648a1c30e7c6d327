"""Name resolution, and the addresses of this machine, for checking the addresses of static replicas."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Sequence

from serving.destinations import Address, Destinations, literal


class AddressRefused(OSError):
    """Refusal of all addresses of a static replica; str() is the reason."""


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a name in order of preference; of an address, itself. Raises OSError."""
    if literal(host) is not None:
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise AddressRefused(f"{host} is not a name that can be resolved") from error
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def is_of_this_machine(address: Address) -> bool:
    """True if a process of this machine can listen on it."""
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True


class OwnAddresses:
    """Addresses that no static replica may have: processes of scorefront, and replicas that it runs or discovers.

    On one machine they are known by port: any listener on such a port is ours. In a cluster they are known by address:
    a pod has one of its own.
    """

    def __init__(self, ports: Sequence[int] = (), in_cluster: bool = False) -> None:
        self._ports = frozenset(ports)
        self._in_cluster = in_cluster
        self._replicas: dict[str, tuple[Address | None, int]] = {}
        self._counts: dict[Address | int | None, int] = {}
        """Replicas by address in a cluster, by port on one machine."""
        self._hosts: dict[str, frozenset[Address]] = {}

    def put(self, replica_id: str, host: str, port: int) -> None:
        """Add or update a replica that is not static."""
        place = (literal(host), port)
        if self._replicas.get(replica_id) == place:
            return
        self.drop(replica_id)
        self._replicas[replica_id] = place
        key = self._key(*place)
        self._counts[key] = self._counts.get(key, 0) + 1

    def drop(self, replica_id: str) -> None:
        """Remove a replica; unknown ids are ignored."""
        place = self._replicas.pop(replica_id, None)
        if place is not None:
            key = self._key(*place)
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def keep(self, replica_ids: Collection[str]) -> None:
        """Remove all replicas but these."""
        for replica_id in self._replicas.keys() - set(replica_ids):
            self.drop(replica_id)

    def set_hosts(self, kind: str, hosts: Sequence[str]) -> None:
        """Set the addresses of pods, or of Services, of the installation: all of this `kind`."""
        self._hosts[kind] = frozenset(address for host in hosts if (address := literal(host)) is not None)

    def __call__(self, address: Address, port: int) -> bool:
        """True if it is one of these addresses."""
        if any(address in hosts for hosts in self._hosts.values()):
            return True
        if self._in_cluster:
            return address in self._counts
        return (port in self._ports or port in self._counts) and (address.is_loopback or is_of_this_machine(address))

    def _key(self, address: Address | None, port: int) -> Address | int | None:
        return address if self._in_cluster else port


async def permitted(host: str, port: int, destinations: Destinations, own: OwnAddresses) -> list[str]:
    """The allowed addresses of a static replica; connect to these only, without resolving its name again.

    `host`, `port`: as declared. `destinations`: allowed by the installation. `own`: addresses of the installation,
    never allowed. Raises AddressRefused if none is allowed, OSError if the name does not resolve.
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
