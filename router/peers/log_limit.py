"""What is logged about links: not the same thing about the same peer again, though it is tried every second."""

import logging
from collections.abc import Callable

_log = logging.getLogger("scorefront.router")

REPEAT_S = 60.0
_MAX_SUBJECTS = 256


class PeerLogLimit:
    """Remembers what was said last about whom."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: seconds on any clock that does not go back."""
        self._now = now
        self._said: dict[str, tuple[str, float]] = {}

    def log(self, subject: str, text: str, level: int) -> None:
        """Log it, unless it was the last thing said about this subject, less than a minute ago."""
        now = self._now()
        last, said_at = self._said.get(subject, ("", now))
        if last == text and now - said_at < REPEAT_S:
            return
        if len(self._said) >= _MAX_SUBJECTS:
            self._said.clear()  # saying something twice is better than remembering without end
        self._said[subject] = text, now
        _log.log(level, "%s", text)

    def forget(self, subject: str) -> None:
        """All is well again: the next complaint is news."""
        self._said.pop(subject, None)
