"""Observers of the requests of versions that collect payloads: copies of heads and bodies for the ring of a worker.

Implements `router.proxy.request_observer`; called on the hot path, so it copies, bounds and returns.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from cluster import atomic_files
from serving.endpoint import PayloadCollection, VersionKey
from telemetry.payload_messages import (
    ABANDONED,
    EXCHANGE,
    HELD_BYTES,
    PIECE,
    REQUEST,
    RESPONSE,
    encode_piece,
    pack_exchange,
    sampled_below,
)
from telemetry.ring import RingFull, RingWriter, VersionCounter

_log = logging.getLogger("scorefront.payloads")

TOTAL_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of bodies held by one worker; above it they travel in pieces at once."""
PIECE_BYTES: Final = 131_072
MAX_PATH_BYTES: Final = 2048
MAX_TYPE_BYTES: Final = 256
NOT_COLLECTED: Final = b"/swagger.json"
"""End of the path of descriptions, which are no payloads."""
_TYPES: Final = (b"\r\nContent-Type: ", b"\r\ncontent-type: ", b"\r\nContent-type: ")


class ObservedHead(Protocol):
    """Head of a request or response."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""

    @property
    def fields(self) -> list[tuple[bytes, bytes, bytes]]:
        """Name in lower case, name as sent, value."""


class ObservedRequest(ObservedHead, Protocol):
    """Head of a request."""

    @property
    def method(self) -> bytes:
        """Its method."""

    @property
    def has_body(self) -> bool:
        """True if a body follows."""

    @property
    def path(self) -> bytes:
        """Path of its target."""


class PayloadObservers:
    """The observers of one worker, which share a ring made for the first of them."""

    def __init__(self, folder: Path, name: str, ring_bytes: int, unix_now: Callable[[], float]) -> None:
        """`folder`: of the rings. `name`: of the worker. `ring_bytes`: size of its ring. `unix_now`: wall clock."""
        self._folder = folder
        self._name = name
        self._ring_bytes = ring_bytes
        self.unix_now = unix_now
        self._ring: RingWriter | None = None
        self._failed = False
        self.held_bytes = 0
        """Bytes of bodies held for all versions."""

    def observer(self, key: VersionKey, collection: PayloadCollection | None) -> "PayloadObserver | None":
        """An observer for a version; None if it collects nothing, or if there is no memory for a ring."""
        if collection is None:
            return None
        ring = self._made_ring()
        counter = ring.counter(key) if ring is not None else None
        if ring is None or counter is None:
            return None
        return PayloadObserver(self, ring, counter, key, collection)

    def _made_ring(self) -> RingWriter | None:
        if self._ring is None and not self._failed:
            try:
                atomic_files.make_private_directory(self._folder)
                self._ring = RingWriter(self._folder, self._name, self._ring_bytes)
            except OSError as error:
                self._failed = True
                _log.error("%s: no ring for payloads, none are collected: %s", self._folder, error.strerror or error)
        return self._ring

    def close(self) -> None:
        """End the ring; what is in it is still collected."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
            self._failed = True


class PayloadObserver:
    """Observer of one version: chooses the requests of its sample."""

    def __init__(
        self,
        shared: PayloadObservers,
        ring: RingWriter,
        counter: VersionCounter,
        key: VersionKey,
        collection: PayloadCollection,
    ) -> None:
        """An observer.

        shared: of the worker. ring: of the worker. counter: of the version.
        key, collection: of the version.
        """
        self.shared = shared
        self.ring = ring
        self.counter = counter
        self.names = (key.endpoint + key.version).encode()
        self.name_lengths = (len(key.endpoint), len(key.version))
        self.max_body_bytes = collection.max_body_bytes
        self._sampled_below = sampled_below(collection.sampling)
        self._sampled_out = counter.sampled_out
        self._unix_now = shared.unix_now

    def request_head(self, request_id: bytes, head: ObservedRequest) -> "PayloadCapture | None":
        """The observer of a request in the sample; None for others, which are counted."""
        if not head.has_body and head.path.endswith(NOT_COLLECTED):
            return None
        if crc32(request_id) >= self._sampled_below:
            self._sampled_out[0] += 1
            return None
        return PayloadCapture(self, request_id, head, self._unix_now())


class PayloadCapture:
    """A request in flight."""

    __slots__ = (
        *("_answered", "_answered_bytes", "_asked", "_asked_bytes", "_began", "_dropped", "_head", "_observer"),
        *("_request_id", "_response_type", "_spilled"),
    )

    def __init__(self, observer: PayloadObserver, request_id: bytes, head: ObservedRequest, began: float) -> None:
        """`observer`: of its version. `request_id`, `head`: of the request. `began`: unix seconds."""
        self._observer = observer
        self._request_id = request_id
        self._head = head
        self._began = began
        self._response_type = b""
        self._asked: tuple[bytes, ...] = ()
        """Held pieces of the request body."""
        self._answered: tuple[bytes, ...] = ()
        """Those of the response body."""
        self._asked_bytes = 0
        """Bytes of the request body so far, held or not."""
        self._answered_bytes = 0
        self._spilled = 0
        """Bit for each body that goes in pieces."""
        self._dropped = False

    def request_body(self, data: bytes) -> None:
        """Keep a piece."""
        size_bytes = len(data)
        self._asked_bytes += size_bytes
        self._asked += (data,)
        shared = self._observer.shared
        shared.held_bytes += size_bytes
        if self._asked_bytes > HELD_BYTES or shared.held_bytes > TOTAL_HELD_BYTES:
            self._spill(REQUEST)

    def response_head(self, status: int, head: ObservedHead | None) -> None:
        """Keep the content type."""
        if head is not None:
            self._response_type = content_type(head)

    def response_body(self, data: bytes) -> None:
        """Keep a piece."""
        size_bytes = len(data)
        self._answered_bytes += size_bytes
        self._answered += (data,)
        shared = self._observer.shared
        shared.held_bytes += size_bytes
        if self._answered_bytes > HELD_BYTES or shared.held_bytes > TOTAL_HELD_BYTES:
            self._spill(RESPONSE)

    def request_ended(self, status: int, replica_id: str, duration_s: float, wait_s: float) -> None:
        """Hand the request over to the collector."""
        observer, head = self._observer, self._head
        held = self._asked_bytes + self._answered_bytes
        if self._spilled:
            for side in (REQUEST, RESPONSE):
                if self._spilled & 1 << side:
                    self._spill(side)
            held = sum(map(len, self._asked + self._answered))
        observer.shared.held_bytes -= held
        if self._dropped:
            self._drop()
            return
        request_type = content_type(head) if self._asked_bytes else b""
        method, path, response_type = head.method, head.path[:MAX_PATH_BYTES], self._response_type
        numbers = pack_exchange(
            self._began,
            duration_s,
            status,
            observer.max_body_bytes,
            self._asked_bytes,
            self._answered_bytes,
            self._spilled,
            *observer.name_lengths,
            len(method),
            len(path),
            len(request_type),
            len(response_type),
        )
        texts = (numbers, self._request_id, observer.names, method, path, request_type, response_type)
        try:
            observer.ring.write(EXCHANGE, b"".join(texts + self._asked + self._answered))
        except RingFull:
            self._drop()

    def _drop(self) -> None:
        observer = self._observer
        observer.counter.add_dropped()
        if self._spilled:
            with contextlib.suppress(RingFull):  # then the pieces are removed by age
                observer.ring.write(ABANDONED, self._request_id)

    def _spill(self, side: int) -> None:
        """Hand over what is held of a body; drop the request if there is no room. `side`: REQUEST or RESPONSE."""
        pieces, end = (self._asked, self._asked_bytes) if side == REQUEST else (self._answered, self._answered_bytes)
        if side == REQUEST:
            self._asked = ()
        else:
            self._answered = ()
        held = sum(map(len, pieces))
        self._observer.shared.held_bytes -= held
        self._spilled |= 1 << side
        if self._dropped:
            return
        at, ring = end - held, self._observer.ring
        try:
            for piece in pieces:
                for start in range(0, len(piece), PIECE_BYTES):
                    part = piece[start : start + PIECE_BYTES]
                    ring.write(PIECE, encode_piece(self._request_id, side, at) + part)
                    at += len(part)
        except RingFull:
            self._dropped = True


def content_type(head: ObservedHead) -> bytes:
    """Value of Content-Type, b"" without one."""
    raw = head.raw
    for line in _TYPES:
        at = raw.find(line)
        if at >= 0:
            at += len(line)
            return raw[at : raw.index(b"\r\n", at)][:MAX_TYPE_BYTES]
    return next((value for name, _, value in head.fields if name == b"content-type"), b"")[:MAX_TYPE_BYTES]
