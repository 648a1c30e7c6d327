"""Observers of the requests of one version: copies of heads and bodies, for payload records, spans or mirroring.

Attach with `Gateway.observe`. Calls come from the hot path and must not block, await or raise. Without an observer, and
for a request outside of its sample, each call site costs one `is not None` test.
"""

from typing import Protocol

from router.proxy.request_head import RequestHead
from router.proxy.response_head import ResponseHead
from serving.endpoint import Endpoint, PayloadCollection, VersionKey

Trace = tuple[bytes, bytes, bytes, bytes, bytes, int]
"""Trace context of a request in an `AccessRecorder`: lines for the replica, each after a line end; four parts of its
own; 0 if the request is not recorded."""


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


class AccessRecorder(Protocol):
    """Recorder of all requests of one version, or of those to an endpoint that reach no version."""

    def begin(self, head: RequestHead) -> Trace:
        """The trace context of a request, made or continued. The end is reported unless its last part is 0."""

    def request_ended(
        self,
        trace: Trace,
        request_id: bytes,
        head: RequestHead,
        request_bytes: int,
        response_bytes: int,
        status: int,
        replica_status: int,
        replica_id: str,
        duration_s: float,
        wait_s: float,
        replica_s: float,
        code: str,
    ) -> None:
        """End of a request: the only call for it, also after an error or disconnect.

        trace: made by `begin`. request_id, head: of the request. Credentials in `head` must not be stored.
        request_bytes, response_bytes: sizes of the bodies of client and replica, as far as they came.
        status: as sent to the client; 499: it has disconnected. replica_status: of the replica; 0: it sent none.
        replica_id: the last replica; "": none. duration_s: total time. wait_s: time in the queue.
        replica_s: time of the replica; NaN: of none. code: error code of the response; "": none.
        """


class ObserverFactory(Protocol):
    """Maker of the observers and recorders of a worker; implemented by `telemetry.worker_observers`."""

    @property
    def traces(self) -> bool:
        """True if requests to endpoints with telemetry get a span of the router."""

    def observer(self, key: VersionKey, collection: PayloadCollection | None) -> VersionObserver | None:
        """An observer for a version; None: its requests are not observed."""

    def recorder(self, endpoint: Endpoint, key: VersionKey) -> AccessRecorder | None:
        """A recorder for a version; None: its requests are not recorded.

        `endpoint`: as declared. `key`: of one of its versions, or with "" for requests to it that reach no version.
        """

    def close(self) -> None:
        """Release what observers share; they are not called any more."""
