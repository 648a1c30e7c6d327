"""Rate-limited logging: repeats of the same message about a subject are suppressed for 60 s."""

import logging
from collections.abc import Callable

_log = logging.getLogger("scorefront.router")

REPEAT_S = 60.0
_MAX_SUBJECTS = 256


class LogLimit:
    """The last message logged for each subject."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: monotonic clock in seconds."""
        self._now = now
        self._last: dict[str, tuple[str, float]] = {}

    def log(self, subject: str, text: str, level: int) -> None:
        """Log a message unless it repeats the subject's last one within 60 s.

        `subject`: name of what the message is about. `text`: the message. `level`: level of `logging`.
        """
        now = self._now()
        text_before, logged_at = self._last.get(subject, ("", now))
        if text_before == text and now - logged_at < REPEAT_S:
            return
        if len(self._last) >= _MAX_SUBJECTS:
            self._last.clear()  # bounded memory; a repeat may be logged
        self._last[subject] = text, now
        _log.log(level, "%s", text)

    def forget(self, subject: str) -> None:
        """Forget the last message of a subject: its next one is logged."""
        self._last.pop(subject, None)
