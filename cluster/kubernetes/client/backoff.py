"""Delays between retries, and a limit for the rate of writes. Pure: time and chance are arguments."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Exponential with full jitter, as reflectors of other clients have it."""

    first_s: float = 0.2
    """Most that is waited after a first failure; doubled with each further one."""
    last_s: float = 30.0
    """Most that is ever waited, unless the server asks for more."""
    least_s: float = 0.02
    """Lower bound for every delay, against a hot loop."""
    healthy_s: float = 30.0
    """Success for this long resets the count of failures."""
    longest_asked_s: float = 120.0
    """Most that a server's Retry-After is believed."""


@dataclass(slots=True)
class Backoff:
    """The failures in a row of one thing that is tried again and again."""

    settings: BackoffSettings = field(default_factory=BackoffSettings)
    failures: int = 0

    def lasted(self, seconds: float) -> None:
        """Record success for some seconds; resets the failures if it was long enough."""
        if seconds >= self.settings.healthy_s:
            self.failures = 0

    def failed(self, u: float, retry_after_s: float | None = None) -> float:
        """Record a failure; returns the seconds to wait. `u` is uniform on [0, 1).

        The delay requested by the server is added to the jitter, so that clients with the same request do not return at
        once.
        """
        chosen = self.settings
        most_s = min(chosen.last_s, chosen.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        asked_s = min(max(retry_after_s or 0.0, 0.0), chosen.longest_asked_s)
        return asked_s + max(chosen.least_s, u * most_s)
