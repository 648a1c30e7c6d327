"""Limits of one worker on client connections and on memory for partial request heads. Pure.

A client is unauthorized until an endpoint has admitted one of its requests; unauthorized clients make room first.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Generic, Protocol, TypeVar

HEAD_BLOCK_BYTES = 4096
"""Partial heads are charged in blocks, so that a head that grows byte by byte costs one update per block."""
_SHARED_PREFIX_BITS = 64
"""An IPv6 network of this size belongs to one customer as a rule (RFC 6177)."""


class AdmittedClient(Protocol):
    """The attributes of a client that admission depends on."""

    @property
    def busy(self) -> bool:
        """True while a request is being served."""

    authorized: bool
    """True once an endpoint has admitted a request."""


Client = TypeVar("Client", bound=AdmittedClient)
Owner = TypeVar("Owner", bound=Hashable)


class ConnectionVerdict(Enum):
    """Result of the admission of a new connection."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    """Answered 503 and closed."""
    DROPPED = "dropped"
    """Closed without an answer: too many refused connections are still open, and replicas need the descriptors."""


class ConnectionAdmission(Generic[Client]):
    """The admitted clients of one worker. When full, the unauthorized client that has been idle longest is evicted."""

    def __init__(self, limit_per_address: int) -> None:
        """`limit_per_address`: clients from one address at the same time; 0: any number."""
        self._limit_per_address = limit_per_address
        self._held: dict[Client, str] = {}
        """Client -> address group that it counts for; "" without a limit per address."""
        self._per_address: Counter[str] = Counter()
        self._refused: set[Client] = set()
        self._evictable: OrderedDict[Client, None] = OrderedDict()
        """Idle unauthorized clients, longest idle first; a busy one is removed when found, until `note_idle`."""

    def admit(self, client: Client, address: str, limit: int) -> tuple[ConnectionVerdict, Client | None]:
        """Admit a client; return the verdict and the client that is evicted for it, if any. Idempotent.

        `address`: of the client. `limit`: maximum number of admitted clients.
        """
        if client in self._held:
            return ConnectionVerdict.ADMITTED, None
        group = _group(address) if self._limit_per_address else ""
        if group and self._per_address[group] >= self._limit_per_address:
            return self._refuse(client, limit), None
        evicted = None
        if len(self._held) >= limit:
            evicted = self._longest_idle()
            if evicted is None:
                return self._refuse(client, limit), None
            self.remove(evicted)
        self._held[client] = group
        if group:
            self._per_address[group] += 1
        if not client.authorized:
            self._evictable[client] = None
        return ConnectionVerdict.ADMITTED, evicted

    def note_idle(self, client: Client) -> None:
        """A request of an unauthorized client has ended."""
        if client in self._held:
            self._evictable[client] = None
            self._evictable.move_to_end(client)

    def note_authorized(self, client: Client) -> None:
        """Exempt the client from eviction."""
        self._evictable.pop(client, None)

    def remove(self, client: Client) -> None:
        """Remove a client; idempotent."""
        self._refused.discard(client)
        self._evictable.pop(client, None)
        group = self._held.pop(client, "")
        if group:
            self._per_address[group] -= 1
            if not self._per_address[group]:
                del self._per_address[group]

    def _refuse(self, client: Client, limit: int) -> ConnectionVerdict:
        if len(self._refused) >= max(limit // 8, 16):
            return ConnectionVerdict.DROPPED
        self._refused.add(client)
        return ConnectionVerdict.REFUSED

    def _longest_idle(self) -> Client | None:
        while self._evictable:
            client, _ = self._evictable.popitem(last=False)
            if not client.busy:
                return client
        return None


class HeadBudget(Generic[Owner]):
    """Memory of the partial request heads of all clients of one worker."""

    def __init__(self, limit_bytes: int) -> None:
        self.total_bytes = 0
        self._limit_bytes = limit_bytes
        self._charged: OrderedDict[Owner, int] = OrderedDict()

    def charge(self, client: Owner, size_bytes: int) -> list[Owner]:
        """Set the charge of a client; return the clients to shed, oldest head first, until the total fits."""
        self.total_bytes += size_bytes - self._charged.get(client, 0)
        self._charged[client] = size_bytes
        shed = []
        while self.total_bytes > self._limit_bytes:
            oldest, charged_bytes = self._charged.popitem(last=False)
            self.total_bytes -= charged_bytes
            shed.append(oldest)
        return shed

    def release(self, client: Owner) -> None:
        """Remove the charge of a client; idempotent."""
        self.total_bytes -= self._charged.pop(client, 0)


def blocks(size_bytes: int) -> int:
    """The charge in bytes for a partial head of this size: whole blocks."""
    return -(-size_bytes // HEAD_BLOCK_BYTES) * HEAD_BLOCK_BYTES


def _group(address: str) -> str:
    """Unit of the limit per address: an IPv4 address or an IPv6 network; other text unchanged."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _SHARED_PREFIX_BITS), strict=False))
