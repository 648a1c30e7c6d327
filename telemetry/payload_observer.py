"""Observers of the requests of versions that collect payloads: copies of heads and bodies for the ring of a worker.

Implements `router.proxy.request_observer`; called on the hot path, so it copies, bounds and returns.
"""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cluster import atomic_files
from serving.endpoint import PayloadCollection, VersionKey
from telemetry.payload_messages import (
    ABANDONED,
    EXCHANGE,
    HELD_BYTES,
    PIECE,
    REQUEST,
    RESPONSE,
    encode_exchange,
    encode_piece,
    is_sampled,
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
    def path(self) -> bytes:
        """Path of its target."""


class CapturedSide:
    """One body of a request in flight."""

    __slots__ = ("content_type", "held", "in_pieces", "pieces", "size_bytes")

    def __init__(self) -> None:
        self.content_type = b""
        self.pieces: list[bytes] = []
        self.held = 0
        """Bytes in `pieces`."""
        self.size_bytes = 0
        self.in_pieces = False


class Capture:
    """A request in flight."""

    __slots__ = ("began", "dropped", "head", "request", "response")

    def __init__(self, head: ObservedRequest, began: float) -> None:
        self.head = head
        self.began = began
        self.request = CapturedSide()
        self.response = CapturedSide()
        self.dropped = False


class PayloadObservers:
    """The observers of one worker, which share a ring made for the first of them."""

    def __init__(self, folder: Path, name: str, ring_bytes: int, unix_now: Callable[[], float]) -> None:
        """`folder`: of the rings. `name`: of the worker. `ring_bytes`: size of its ring. `unix_now`: wall clock."""
        self._folder = folder
        self._name = name
        self._ring_bytes = ring_bytes
        self._unix_now = unix_now
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
        return PayloadObserver(self, ring, counter, key, collection, self._unix_now)

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
    """Observer of one version."""

    def __init__(
        self,
        shared: PayloadObservers,
        ring: RingWriter,
        counter: VersionCounter,
        key: VersionKey,
        collection: PayloadCollection,
        unix_now: Callable[[], float],
    ) -> None:
        """An observer.

        shared: of the worker. ring: of the worker. counter: of the version.
        key, collection: of the version. unix_now: wall clock.
        """
        self._shared = shared
        self._ring = ring
        self._counter = counter
        self._names = (key.endpoint.encode(), key.version.encode())
        self._sampling = collection.sampling
        self._max_body_bytes = collection.max_body_bytes
        self._unix_now = unix_now
        self._open: dict[bytes, Capture] = {}

    def request_head(self, request_id: bytes, head: ObservedRequest) -> None:
        """Decide if the request is in the sample."""
        if head.path.endswith(NOT_COLLECTED):
            return
        if self._sampling < 1.0 and not is_sampled(request_id, self._sampling):
            self._counter.add_sampled_out()
            return
        self._open[request_id] = Capture(head, self._unix_now())

    def request_body(self, request_id: bytes, data: bytes) -> None:
        """Keep a piece."""
        capture = self._open.get(request_id)
        if capture is not None:
            self._add(request_id, capture, capture.request, REQUEST, data)

    def response_head(self, request_id: bytes, status: int, head: ObservedHead | None) -> None:
        """Keep the content type."""
        if head is not None:
            capture = self._open.get(request_id)
            if capture is not None:
                capture.response.content_type = content_type(head)

    def response_body(self, request_id: bytes, data: bytes) -> None:
        """Keep a piece."""
        capture = self._open.get(request_id)
        if capture is not None:
            self._add(request_id, capture, capture.response, RESPONSE, data)

    def request_ended(self, request_id: bytes, status: int, replica_id: str, duration_s: float, wait_s: float) -> None:
        """Hand the request over to the collector."""
        capture = self._open.pop(request_id, None)
        if capture is None:
            return
        request, response = capture.request, capture.response
        head = capture.head
        if not capture.dropped:
            if request.size_bytes:
                request.content_type = content_type(head)
            message = encode_exchange(
                (capture.began, duration_s, status, self._max_body_bytes),
                (
                    (request.content_type, request.size_bytes, request.in_pieces),
                    (response.content_type, response.size_bytes, response.in_pieces),
                ),
                (*self._names, request_id, head.method, head.path[:MAX_PATH_BYTES]),
            )
            try:
                if request.in_pieces:
                    self._send_pieces(request_id, request, REQUEST)
                if response.in_pieces:
                    self._send_pieces(request_id, response, RESPONSE)
                self._ring.write(EXCHANGE, message, *request.pieces, *response.pieces)
            except RingFull:
                capture.dropped = True
        self._shared.held_bytes -= request.held + response.held
        if capture.dropped:
            self._counter.add_dropped()
            if request.in_pieces or response.in_pieces:
                with contextlib.suppress(RingFull):  # then the pieces are removed by age
                    self._ring.write(ABANDONED, request_id)

    def _add(self, request_id: bytes, capture: Capture, side: CapturedSide, number: int, data: bytes) -> None:
        """Keep a piece of a body.

        request_id: of the request. capture, side: of the body. number: REQUEST or RESPONSE.
        data: the piece.
        """
        size_bytes = len(data)
        side.size_bytes += size_bytes
        if capture.dropped:
            return
        side.pieces.append(bytes(data))
        side.held += size_bytes
        shared = self._shared
        shared.held_bytes += size_bytes
        if side.held > HELD_BYTES or shared.held_bytes > TOTAL_HELD_BYTES:
            side.in_pieces = True
            try:
                self._send_pieces(request_id, side, number)
            except RingFull:
                capture.dropped = True
                for each in (capture.request, capture.response):
                    each.pieces.clear()
                    shared.held_bytes -= each.held
                    each.held = 0

    def _send_pieces(self, request_id: bytes, side: CapturedSide, number: int) -> None:
        """Hand over what is held of a body. Raises RingFull."""
        at = side.size_bytes - side.held
        for piece in side.pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                part = piece[start : start + PIECE_BYTES]
                self._ring.write(PIECE, encode_piece(request_id, number, at), part)
                at += len(part)
        side.pieces.clear()
        self._shared.held_bytes -= side.held
        side.held = 0


def content_type(head: ObservedHead) -> bytes:
    """Value of Content-Type, b"" without one."""
    raw = head.raw
    for line in _TYPES:
        at = raw.find(line)
        if at >= 0:
            at += len(line)
            return raw[at : raw.index(b"\r\n", at)][:MAX_TYPE_BYTES]
    return next((value for name, _, value in head.fields if name == b"content-type"), b"")[:MAX_TYPE_BYTES]
