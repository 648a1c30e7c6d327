"""Cache of the reviews of callers, and the rate limit of new reviews. Pure: `now` in seconds, monotonic."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from cluster.token_bucket import TokenBucket

REMEMBER_S = 10.0
MAX_REMEMBERED = 4096
ALL_PER_S, ALL_BURST = 100.0, 200.0
"""Reviews of uncached credentials, over all addresses."""
ONE_PER_S, ONE_BURST = 5.0, 20.0
"""Reviews for one address, so that guessing from one address cannot use up the total."""
MAX_ADDRESSES = 1024

_V = TypeVar("_V")


class ExpiringCache(Generic[_V]):
    """Values by key, each valid for 10 s; at most the newest 4,096."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, tuple[float, _V]] = OrderedDict()

    def get(self, key: Hashable, now: float) -> tuple[_V] | None:
        """The value in a 1-tuple, because the value may be None; None: not cached, or expired."""
        found = self._values.get(key)
        return (found[1],) if found is not None and now < found[0] else None

    def put(self, key: Hashable, value: _V, now: float) -> None:
        """Cache `value` for 10 s from `now`."""
        self._values.pop(key, None)
        self._values[key] = now + REMEMBER_S, value
        while len(self._values) > MAX_REMEMBERED:
            self._values.popitem(last=False)


class ReviewLimit:
    """Rate limit of credential reviews by the API server."""

    def __init__(self) -> None:
        self._all = _Gate(ALL_PER_S, ALL_BURST)
        self._by_address: OrderedDict[str, _Gate] = OrderedDict()

    def admits(self, address: str, now: float) -> bool:
        """True if one more review for this address may be sent now."""
        gate = self._by_address.pop(address, None) or _Gate(ONE_PER_S, ONE_BURST)
        self._by_address[address] = gate
        while len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return gate.passes(now) and self._all.passes(now)


class _Gate:
    """A bucket that refuses instead of making callers wait."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._bucket = TokenBucket(per_s, burst)
        self._closed_until_s = 0.0

    def passes(self, now: float) -> bool:
        if now < self._closed_until_s:
            return False
        self._closed_until_s = now + self._bucket.take(now)
        return True
