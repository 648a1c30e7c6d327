"""Delay before the next attempt. Pure: time and chance are arguments."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """Exponential with full jitter, as reflectors of other clients have it."""

    first_s: float = 0.2
    """Most that is waited after a first failure; doubled with each further one."""
    last_s: float = 30.0
    """Most that is ever waited, unless the server asks for more."""
    least_s: float = 0.02
    """Even where chance says 0: no series of failures may ever become a hot loop."""
    healthy_s: float = 30.0
    """What went well for this long is forgiven its failures before."""
    longest_asked_s: float = 120.0
    """Most that a server's Retry-After is believed."""


@dataclass(slots=True)
class Backoff:
    """The failures in a row of one thing that is tried again and again."""

    settings: BackoffSettings = field(default_factory=BackoffSettings)
    failures: int = 0

    def lasted(self, seconds: float) -> None:
        """What was tried has gone well for this long: failures before are forgotten if that was long enough."""
        if seconds >= self.settings.healthy_s:
            self.failures = 0

    def failed(self, u: float, retry_after_s: float | None = None) -> float:
        """One more failure; returns the seconds to wait. `u` is uniform on [0, 1).

        What the server asks for comes on top of the jitter, so that those who were told the same do not return at once.
        """
        chosen = self.settings
        most_s = min(chosen.last_s, chosen.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        asked_s = min(max(retry_after_s or 0.0, 0.0), chosen.longest_asked_s)
        return asked_s + max(chosen.least_s, u * most_s)
