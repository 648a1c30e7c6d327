"""A data plane without sockets: bytes of a client in, bytes for a replica and for the client out."""

import asyncio
import math
from typing import Any, NamedTuple, cast

from router.accesslog import AccessLog, AccessLogMode
from router.core.dispatcher import Dispatcher
from router.core.ids import RequestIds
from router.core.ledger import ReplicaSlots
from router.proxy.downstream import Downstream
from router.proxy.exchange import Exchange
from router.proxy.gateway import Gateway
from router.proxy.head_shapes import MAX_HEADS, Shapes
from router.proxy.request_head import RequestHead
from router.proxy.request_shapes import RequestShapes
from router.proxy.response_shapes import ResponseShapes
from router.proxy.upstream import UpstreamConnection
from router.settings import RouterSettings
from serving.credentials import KeyDigests
from serving.destinations import networks
from serving.endpoint import Auth, Cors
from serving.replica import Replica
from tests.integration.router.rig import declared, endpoint, keys, version

KEY, OTHER_KEY = "k" * 43, "o" * 43
TRUSTED_PEER, PEERS = "10.0.0.1", ("192.0.2.7", "10.0.0.1", "192.0.2.8")
ENDPOINTS = (
    (endpoint(name="iris", auth=Auth.KEY), keys(KEY, OTHER_KEY, endpoint="iris")),
    (
        endpoint(version(web_socket=True), name="open", cors=Cors(("https://a.test", "https://*.b.test"), ("*",), 60)),
        KeyDigests("open", ()),
    ),
    (endpoint(version("blue", 0.5), version("green", 0.5), name="pair"), KeyDigests("pair", ())),
)
SLOTS = 64
LATE = b"x" * 64 + b"\r\n0\r\n\r\n" + b"y" * 64
"""Follows what is incomplete: each framing makes something else of it."""


class Wire(asyncio.Transport):
    """One side of a connection: keeps the bytes."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 4000)})
        self.sent = b""
        self.closing = False
        self.ended = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def taken(self) -> bytes:
        """The bytes since the last call."""
        sent, self.sent = self.sent, b""
        return sent

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class CountedHeads:
    """The cache of request heads; counts the heads that were found."""

    def __init__(self, heads: RequestShapes) -> None:
        self.found = 0
        self.of_peer, self.learn, self._find = heads.of_peer, heads.learn, heads.find

    def find(self, shapes: Shapes[RequestHead], data: bytes) -> RequestHead | None:
        head = self._find(shapes, data)
        self.found += head is not None
        return head


class Outcome(NamedTuple):
    """All that is seen from outside of one message and what follows it."""

    to_client: bytes
    to_replica: bytes
    client_open: bool
    replica_open: bool
    goes_on: bool
    """True if the exchange is not over."""
    authorized: bool
    """True if an endpoint admitted a request."""
    log: tuple[object, ...]


class Records(AccessLog):
    """The access log, kept for one exchange."""

    def __init__(self) -> None:
        super().__init__(AccessLogMode.ALL, -1)
        self.kept: list[object] = []

    def add(self, record: dict[str, object]) -> None:
        self.kept.append(tuple(record.values()))


class FuzzedWorker:
    """The data plane of one worker, with caches of heads that grow, or with the parser alone in one direction."""

    def __init__(self, fresh: str, proxies: bool) -> None:
        """`proxies`: one is trusted. `fresh`: "requests" or "responses", of which each comes on a new connection and
        none is kept; "" for neither. The caches of the other direction save time: it is not compared.
        """
        settings = RouterSettings(
            trusted_proxies=networks(f"{TRUSTED_PEER}/32", "proxies") if proxies else (), max_body_bytes=100_000
        )
        self._fresh = fresh
        self._records = Records()
        self._drawn = 0
        self.now_unix = 1_000_000.0
        self._ids = RequestIds(bytes(16))
        dispatcher = Dispatcher()
        self.gateway = Gateway(
            settings, dispatcher, self._records, self._ids, lambda: 1000.0, lambda: self.now_unix, self._draw
        )
        self._pool = self.gateway.pool
        self._pool.connect = self._connect
        self._clients: dict[str, Downstream] = {}
        self.requests_found = CountedHeads(
            RequestShapes(settings, self.gateway.table, 0 if fresh == "requests" else MAX_HEADS)
        )
        self.responses_found = 0
        """A lower bound: a head that was read field by field does not count."""
        self.gateway.request_shapes = cast(RequestShapes, self.requests_found)
        self._pool.response_shapes = ResponseShapes(0 if fresh == "responses" else MAX_HEADS)
        for one, digests in ENDPOINTS:
            self.gateway.table.upsert(one)
            self.gateway.table.set_keys(digests)
            for each in one.versions:
                dispatcher.configure(one.name, each)
                dispatcher.upsert(_replica(one.name, each.name), 0.0)

    def _draw(self) -> float:
        return self._drawn / 2

    def _connect(self, replica: ReplicaSlots, exchange: Exchange) -> None:
        """The connection is there at once."""
        connection = UpstreamConnection(self._pool, replica.id)
        connection.connection_made(Wire("replica"))
        connection.opened_at = math.inf
        exchange.connected(connection)

    def ask(self, peer: str, pieces: list[bytes], answers: list[bytes], drawn: int = 0) -> Outcome:
        """Send a request in pieces, then the answer of the replica in pieces; what is incomplete gets LATE.

        `peer`: address of the client. `drawn`: the version, if two share the traffic; default the first.
        """
        self._drawn = drawn
        self._ids._next = 0  # outputs can be compared
        self._records.kept.clear()
        client = self._client(peer)
        client.authorized = False
        wire = cast(Wire, client.transport)
        for piece in pieces:
            if not wire.is_closing():
                client.data_received(piece)
        if client.exchange is not None and not client.exchange.body_complete:
            client.data_received(LATE)
        to_replica, is_kept, exchange = b"", False, None
        while client.exchange is not None and client.exchange is not exchange:
            exchange = client.exchange  # another one may follow
            while isinstance(replica := exchange.upstream, UpstreamConnection):
                sent, is_kept = self._answer(replica, answers)
                to_replica += sent
        self.gateway.batch._flush()
        goes_on = client.exchange is not None
        is_open = not wire.is_closing() and not wire.ended
        outcome = Outcome(
            wire.taken(), to_replica, is_open, is_kept, goes_on, client.authorized, tuple(self._records.kept)
        )
        if self._fresh == "requests" or goes_on or not is_open or client._buffer:
            client.connection_lost(None)
            del self._clients[peer]
        self._forgive()
        return outcome

    def _answer(self, replica: UpstreamConnection, answers: list[bytes]) -> tuple[bytes, bool]:
        """Answer the exchange of the connection. Returns what was sent, and True if the connection is kept."""
        self.gateway.batch._flush()
        wire, exchange = cast(Wire, replica.transport), replica.exchange
        to_replica = wire.taken()
        for piece in (*answers, LATE):
            if replica.exchange is exchange:
                replica.data_received(piece)
        to_replica += wire.taken()
        if replica.exchange is exchange:
            replica.eof_received()
        head = replica._last_head
        self.responses_found += head is not None and head._model is not None
        return to_replica, not replica.closed

    def _client(self, peer: str) -> Downstream:
        client = self._clients.get(peer)
        if client is None:
            client = self._clients[peer] = Downstream(self.gateway)
            client.connection_made(Wire(peer))
        return client

    def _forgive(self) -> None:
        """Replicas are never out of service, and never distrusted."""
        dispatcher = self.gateway.dispatcher
        for key, queue in dispatcher.queues.items():
            for replica in list(queue.replicas.values()):
                if replica.failures:
                    dispatcher.remove(replica.id)
                    dispatcher.upsert(_replica(key.endpoint, key.version), 0.0)
        self._pool.distrusted.clear()
        self._pool.http10.clear()
        if self._fresh == "responses":
            self._pool._idle.clear()

    async def close(self) -> None:
        """Cancel timers."""
        await self.gateway.close()


def _replica(endpoint: str, version: str) -> Replica:
    return declared(f"{endpoint}-{version}", 80, SLOTS, version, endpoint)
