"""Observers of the requests of one version: copies of heads and bodies, for payload records, spans or mirroring.

Attach with `Gateway.observe`. Calls come from the hot path and must not block, await or raise. Without an observer, and
for a request outside of its sample, each call site costs one `is not None` test.
"""

from typing import Protocol

from router.proxy.request_head import RequestHead
from router.proxy.response_head import ResponseHead
from serving.endpoint import PayloadCollection, VersionKey


class PieceObserver(Protocol):
    """Calls of one request whose bodies come in pieces, in this order; body calls repeat, and `response_*` may precede
    the last `request_body`."""

    def request_body(self, data: bytes) -> None:
        """A piece of the request body, without framing."""

    def response_body(self, data: bytes) -> None:
        """A piece of the replica's response body, without framing. Bytes of a tunnel are not reported."""

    def request_ended(self, status: int, answer: ResponseHead | None, duration_s: float) -> None:
        """End of the request, also after an error or disconnect.

        status: as sent to the client; 499: it has disconnected.
        answer: head of the replica's response; None: there was none.
        duration_s: total time.
        """


class VersionObserver(Protocol):
    """Observer of a sample of the requests."""

    sampled_below: int
    """Bound of the CRC-32 of the ids of requests in the sample."""
    sampled_out: memoryview
    """Number of the requests outside of the sample; one word, which is added to in place."""

    def observes(self, head: RequestHead) -> bool:
        """True if requests with the method and path of `head` are observed; asked once for a plan."""

    def begin(self, request_id: bytes, head: RequestHead) -> PieceObserver:
        """Observer of a request whose bodies come in pieces. Credentials in `head` must not be stored."""

    def request_ended(
        self,
        request_id: bytes,
        head: RequestHead,
        body: bytes | bytearray,
        answer: ResponseHead | None,
        answer_body: bytes,
        status: int,
        duration_s: float,
    ) -> None:
        """End of a request whose bodies came whole: the only call for it, also after an error or disconnect.

        request_id, head, body: of the request. Credentials in `head` must not be stored.
        answer, answer_body: of the replica; None and empty: there was none.
        status: as sent to the client; 499: it has disconnected.
        duration_s: total time.
        """


class PayloadObserverFactory(Protocol):
    """Maker of the observers of versions; implemented by `telemetry.payload_observer`."""

    def observer(self, key: VersionKey, collection: PayloadCollection | None) -> VersionObserver | None:
        """An observer for a version; None: its requests are not observed."""

    def close(self) -> None:
        """Release what observers share; they are not called any more."""
