"""Observers of the requests of one version: copies of heads and bodies, for payload records, spans or mirroring.

Attach with `Gateway.observe`. Calls come from the hot path and must not block, await or raise. Without an observer, and
for a request that it does not choose, each call site costs one `is not None` test.
"""

from typing import Protocol

from router.proxy.request_head import RequestHead
from router.proxy.response_head import ResponseHead
from serving.endpoint import PayloadCollection, VersionKey


class RequestObserver(Protocol):
    """Calls of one request, in this order; body calls repeat, and `response_*` may precede the last `request_body`."""

    def request_body(self, data: bytes) -> None:
        """A piece of the request body, without framing."""

    def response_head(self, status: int, head: ResponseHead | None) -> None:
        """The final response. `status`: as sent to the client. `head`: of the replica; None if the router responds."""

    def response_body(self, data: bytes) -> None:
        """A piece of the replica's response body, without framing. Bytes of a tunnel are not reported."""

    def request_ended(self, status: int, replica_id: str, duration_s: float, wait_s: float) -> None:
        """End of the request, also after an error or disconnect (499).

        `replica_id`: the last replica, "" if none. `duration_s`: total time. `wait_s`: time in the queue.
        """


class VersionObserver(Protocol):
    """Chooses the requests that are observed."""

    def request_head(self, request_id: bytes, head: RequestHead) -> RequestObserver | None:
        """A request was routed to the version: its observer, or None. Credentials in `head` must not be stored."""


class PayloadObserverFactory(Protocol):
    """Maker of the observers of versions; implemented by `telemetry.payload_observer`."""

    def observer(self, key: VersionKey, collection: PayloadCollection | None) -> VersionObserver | None:
        """An observer for a version; None: its requests are not observed."""

    def close(self) -> None:
        """Release what observers share; they are not called any more."""
