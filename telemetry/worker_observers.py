"""Observers and recorders of the requests of one worker, which share its ring."""

from serving.endpoint import Endpoint, PayloadCollection, VersionKey
from telemetry.payload_observer import PayloadObserver, PayloadObservers
from telemetry.request_recorder import RecordRules, RequestRecorder


class WorkerObservers:
    """Makes observers and recorders; implements `router.proxy.request_observer.ObserverFactory`."""

    def __init__(self, payloads: PayloadObservers, rules: RecordRules | None) -> None:
        """`payloads`: maker of the observers, with the ring. `rules`: of access records; None: none are wanted."""
        self._payloads = payloads
        self._rules = rules

    @property
    def traces(self) -> bool:
        """True if requests to endpoints with telemetry get a span of the router."""
        return self._rules is not None and self._rules.sampler is not None

    def observer(self, key: VersionKey, collection: PayloadCollection | None) -> PayloadObserver | None:
        """An observer for a version; None if it collects nothing, or if there is no memory for a ring."""
        return self._payloads.observer(key, collection)

    def recorder(self, endpoint: Endpoint, key: VersionKey) -> RequestRecorder | None:
        """A recorder for a version; None without telemetry.

        `endpoint`: as declared. `key`: of one of its versions, or with "" for requests to it that reach no version.
        """
        if self._rules is None or not endpoint.app_insights:
            return None
        ring, lost = self._payloads.ring(), VersionKey(endpoint.name, "")
        counter = ring.counter(lost) if ring is not None else None
        return RequestRecorder(self._rules, key, endpoint.auth, ring, counter)

    def close(self) -> None:
        """End the ring; what is in it is still collected."""
        self._payloads.close()
