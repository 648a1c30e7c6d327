"""Rate limit with bursts. Pure: the time is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """At most `burst` at once and `per_s` per second in the long run; first come, first served."""

    per_s: float
    burst: float
    _full_at: float = float("-inf")
    """Time at which the bucket is full again, in seconds on the clock of the caller."""

    def take(self, now: float) -> float:
        """Take one token at `now` (seconds, never decreasing); return the seconds until it is valid, 0 for at once."""
        self._full_at = max(self._full_at, now) + 1.0 / self.per_s
        return max(0.0, self._full_at - now - self.burst / self.per_s)
