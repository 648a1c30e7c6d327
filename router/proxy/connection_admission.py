"""What strangers may take of a worker: a place among its clients, and memory for heads that are not whole. Pure.

A stranger is a client of which no request has been admitted by an endpoint yet: as a rule, one without a valid key.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Generic, Protocol, TypeVar

HEAD_BLOCK_BYTES = 4096
"""Unfinished heads are charged in blocks: a head that grows byte by byte is counted once per block."""
_SHARED_PREFIX_BITS = 64
"""An IPv6 network of this size belongs to one customer as a rule (RFC 6177)."""


class AdmittedClient(Protocol):
    """A client, as far as its place is concerned."""

    @property
    def busy(self) -> bool:
        """Whether a request of it is being served."""

    known: bool
    """Whether a request of it has been admitted."""


Client = TypeVar("Client", bound=AdmittedClient)
Owner = TypeVar("Owner", bound=Hashable)


class ConnectionVerdict(Enum):
    """On a client that wants a place."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    """It is told that there are too many."""
    CROWDED_OUT = "crowded out"
    """So many are being told already that it is dropped: answers would take descriptors that replicas need."""


class ConnectionAdmission(Generic[Client]):
    """Who is among the clients of one worker. A full table makes room by the stranger that has been idle longest."""

    def __init__(self, limit_per_address: int) -> None:
        """`limit_per_address`: clients from one address at the same time; 0: any number."""
        self._limit_per_address = limit_per_address
        self._held: dict[Client, str] = {}
        """AdmittedClient -> the address that it counts for; "" where addresses do not count."""
        self._per_address: Counter[str] = Counter()
        self._refused: set[Client] = set()
        self._strangers: OrderedDict[Client, None] = OrderedDict()
        """Longest idle first. One that is found busy is left out until its request has ended."""

    def take(self, client: Client, address: str, limit: int) -> tuple[ConnectionVerdict, Client | None]:
        """Give the client a place, and return the one that has to leave for it, if any. Harmless when repeated.

        `address`: of the client. `limit`: clients at the same time.
        """
        if client in self._held:
            return ConnectionVerdict.ADMITTED, None
        group = _group(address) if self._limit_per_address else ""
        if group and self._per_address[group] >= self._limit_per_address:
            return self._refuse(client, limit), None
        leaving = None
        if len(self._held) >= limit:
            leaving = self._longest_idle()
            if leaving is None:
                return self._refuse(client, limit), None
            self.leave(leaving)
        self._held[client] = group
        if group:
            self._per_address[group] += 1
        if not client.known:
            self._strangers[client] = None
        return ConnectionVerdict.ADMITTED, leaving

    def rest(self, client: Client) -> None:
        """A request of a stranger has ended: it is idle from now on."""
        if client in self._held:
            self._strangers[client] = None
            self._strangers.move_to_end(client)

    def recognize(self, client: Client) -> None:
        """The client is no stranger any more: it never has to make room."""
        self._strangers.pop(client, None)

    def leave(self, client: Client) -> None:
        """The client is gone; harmless for one without a place."""
        self._refused.discard(client)
        self._strangers.pop(client, None)
        group = self._held.pop(client, "")
        if group:
            self._per_address[group] -= 1
            if not self._per_address[group]:
                del self._per_address[group]

    def _refuse(self, client: Client, limit: int) -> ConnectionVerdict:
        if len(self._refused) >= max(limit // 8, 16):
            return ConnectionVerdict.CROWDED_OUT
        self._refused.add(client)
        return ConnectionVerdict.REFUSED

    def _longest_idle(self) -> Client | None:
        while self._strangers:
            client, _ = self._strangers.popitem(last=False)
            if not client.busy:
                return client
        return None


class HeadBudget(Generic[Owner]):
    """Bytes of heads that are not whole, over all clients of one worker."""

    def __init__(self, limit_bytes: int) -> None:
        self.total_bytes = 0
        self._limit_bytes = limit_bytes
        self._charged: OrderedDict[Owner, int] = OrderedDict()

    def charge(self, client: Owner, size_bytes: int) -> list[Owner]:
        """Charge so much for the head of a client; whose heads have to go for it, the one that began first first."""
        self.total_bytes += size_bytes - self._charged.get(client, 0)
        self._charged[client] = size_bytes
        shed = []
        while self.total_bytes > self._limit_bytes:
            oldest, charged_bytes = self._charged.popitem(last=False)
            self.total_bytes -= charged_bytes
            shed.append(oldest)
        return shed

    def free(self, client: Owner) -> None:
        """Its head is whole, or gone; harmless where nothing was charged."""
        self.total_bytes -= self._charged.pop(client, 0)


def blocks(size_bytes: int) -> int:
    """The bytes that are charged for a head of this size."""
    return -(-size_bytes // HEAD_BLOCK_BYTES) * HEAD_BLOCK_BYTES


def _group(address: str) -> str:
    """What a limit per address counts by: an IPv4 address, an IPv6 network; the text itself where it is neither."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _SHARED_PREFIX_BITS), strict=False))
