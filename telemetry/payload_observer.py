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
    EXCHANGE_BYTES,
    HELD_BYTES,
    PIECE,
    REQUEST,
    RESPONSE,
    describe,
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

    observed: bytes | None
    """Its description, once it was made."""

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
        ring = self.ring()
        counter = ring.counter(key) if ring is not None else None
        if ring is None or counter is None:
            return None
        return PayloadObserver(self, ring, counter, collection)

    def ring(self) -> RingWriter | None:
        """The ring of the worker, made at the first call; None if there is no memory for it."""
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
    """Observer of one version; implements `VersionObserver`."""

    __slots__ = (
        *("_append", "_unix_now", "counter", "index", "max_body_bytes", "ring", "sampled_below", "sampled_out"),
        "shared",
    )

    def __init__(
        self, shared: PayloadObservers, ring: RingWriter, counter: VersionCounter, collection: PayloadCollection
    ) -> None:
        """An observer.

        shared: of the worker. ring: of the worker. counter: of the version.
        collection: of the version.
        """
        self.shared = shared
        self.ring = ring
        self.counter = counter
        self.max_body_bytes = collection.max_body_bytes
        self.sampled_below = sampled_below(collection.sampling)
        self.sampled_out = counter.sampled_out
        self.index = counter.index
        self._append = ring.append
        self._unix_now = shared.unix_now

    def observes(self, head: ObservedRequest) -> bool:
        """False for descriptions of the interface."""
        return head.has_body or not head.path.endswith(NOT_COLLECTED)

    def begin(self, request_id: bytes, head: ObservedRequest) -> "PayloadPieces":
        """Observer of a request whose bodies come in pieces."""
        return PayloadPieces(self, request_id, head)

    def request_ended(
        self,
        request_id: bytes,
        head: ObservedRequest,
        body: bytes | bytearray,
        answer: ObservedHead | None,
        answer_body: bytes,
        status: int,
        duration_s: float,
    ) -> None:
        """Hand a request over to the collector, in one message.

        request_id, head, body: of the request.
        answer, answer_body: of the replica; None and empty: there was none.
        status: as sent to the client; 499: it has disconnected.
        duration_s: total time.
        """
        asked_bytes, answered_bytes = len(body), len(answer_body)
        if asked_bytes > HELD_BYTES or answered_bytes > HELD_BYTES:
            pieces = self.begin(request_id, head)
            pieces.request_body(bytes(body))
            pieces.response_body(answer_body)
            pieces.request_ended(status, answer, duration_s)
            return
        asked = head.observed
        if asked is None:
            asked = describe_request(head)
        answered = b"" if answer is None else answer.observed
        if answered is None:
            answered = describe_answer(answer)
        asked_text_bytes, answered_text_bytes = len(asked), len(answered)
        beginning = pack_exchange(
            EXCHANGE_BYTES + asked_text_bytes + answered_text_bytes + asked_bytes + answered_bytes,
            EXCHANGE,
            self._unix_now(),
            duration_s,
            asked_bytes,
            answered_bytes,
            self.max_body_bytes,
            status,
            self.index,
            asked_text_bytes,
            answered_text_bytes,
            0,
            request_id,
        )
        try:
            self._append(b"".join((beginning, asked, answered, body, answer_body)))
        except RingFull:
            self.counter.add_dropped()


class PayloadPieces:
    """Observer of a request whose bodies come in pieces; implements `PieceObserver`."""

    __slots__ = (
        *("_answered", "_answered_bytes", "_asked", "_asked_bytes", "_dropped", "_head", "_observer"),
        *("_request_id", "_spilled"),
    )

    def __init__(self, observer: PayloadObserver, request_id: bytes, head: ObservedRequest) -> None:
        """`observer`: of its version. `request_id`, `head`: of the request."""
        self._observer = observer
        self._request_id = request_id
        self._head = head
        self._asked: list[bytes] = []
        """Held pieces of the request body."""
        self._answered: list[bytes] = []
        """Those of the response body."""
        self._asked_bytes = 0
        """Bytes of the request body so far, held or not."""
        self._answered_bytes = 0
        self._spilled = 0
        """Bit for each body that goes in pieces."""
        self._dropped = False

    def request_body(self, data: bytes) -> None:
        """Keep a piece."""
        self._asked_bytes += len(data)
        self._asked.append(data)
        self._hold(REQUEST, len(data), self._asked_bytes)

    def response_body(self, data: bytes) -> None:
        """Keep a piece."""
        self._answered_bytes += len(data)
        self._answered.append(data)
        self._hold(RESPONSE, len(data), self._answered_bytes)

    def _hold(self, side: int, size_bytes: int, so_far_bytes: int) -> None:
        """Account for a piece; hand over what is held if it is too much.

        side: REQUEST or RESPONSE. size_bytes: of the piece. so_far_bytes: of the body.
        """
        shared = self._observer.shared
        shared.held_bytes += size_bytes
        if so_far_bytes > HELD_BYTES or shared.held_bytes > TOTAL_HELD_BYTES:
            self._spill(side)

    def request_ended(self, status: int, answer: ObservedHead | None, duration_s: float) -> None:
        """Hand the request over to the collector."""
        for side in (REQUEST, RESPONSE):
            if self._spilled & 1 << side:
                self._spill(side)
        observer, head = self._observer, self._head
        body, answer_body = b"".join(self._asked), b"".join(self._answered)
        observer.shared.held_bytes -= len(body) + len(answer_body)
        if not self._spilled:
            observer.request_ended(self._request_id, head, body, answer, answer_body, status, duration_s)
            return
        asked, answered = describe_request(head), describe_answer(answer)
        beginning = pack_exchange(
            EXCHANGE_BYTES + len(asked) + len(answered) + len(body) + len(answer_body),
            EXCHANGE,
            observer.shared.unix_now(),
            duration_s,
            self._asked_bytes,
            self._answered_bytes,
            observer.max_body_bytes,
            status,
            observer.index,
            len(asked),
            len(answered),
            self._spilled,
            self._request_id,
        )
        try:
            if not self._dropped:
                observer.ring.append(b"".join((beginning, asked, answered, body, answer_body)))
                return
        except RingFull:
            pass
        observer.counter.add_dropped()
        with contextlib.suppress(RingFull):  # then the pieces are removed by age
            observer.ring.write(ABANDONED, self._request_id)

    def _spill(self, side: int) -> None:
        """Hand over what is held of a body; drop the request if there is no room. `side`: REQUEST or RESPONSE."""
        pieces, end = (self._asked, self._asked_bytes) if side == REQUEST else (self._answered, self._answered_bytes)
        held = sum(map(len, pieces))
        self._observer.shared.held_bytes -= held
        self._spilled |= 1 << side
        at, ring = end - held, self._observer.ring
        try:
            for piece in () if self._dropped else pieces:
                for start in range(0, len(piece), PIECE_BYTES):
                    part = piece[start : start + PIECE_BYTES]
                    ring.write(PIECE, encode_piece(self._request_id, side, at) + part)
                    at += len(part)
        except RingFull:
            self._dropped = True
        pieces.clear()


def describe_request(head: ObservedRequest) -> bytes:
    """Method, path and content type, kept with the head."""
    head.observed = found = describe(head.method, head.path[:MAX_PATH_BYTES], content_type(head))
    return found


def describe_answer(head: ObservedHead | None) -> bytes:
    """The content type, kept with the head; empty without one."""
    if head is None:
        return b""
    head.observed = found = content_type(head)
    return found


def content_type(head: ObservedHead) -> bytes:
    """Value of Content-Type, b"" without one."""
    raw = head.raw
    for line in _TYPES:
        at = raw.find(line)
        if at >= 0:
            at += len(line)
            return raw[at : raw.index(b"\r\n", at)][:MAX_TYPE_BYTES]
    return next((value for name, _, value in head.fields if name == b"content-type"), b"")[:MAX_TYPE_BYTES]
