"""Timers of streamed responses of versions with `streamIdleTimeoutMs`: longest gap, and longest whole response."""

import asyncio
from collections.abc import Callable

from serving.endpoint import LONGEST_STREAM_S


def stream_deadline(began_at: float, piece_at: float, idle_s: float) -> float:
    """End of a stream if nothing more comes, in monotonic seconds.

    `began_at`: its slot was granted. `piece_at`: its last piece came. `idle_s`: longest gap.
    """
    return min(piece_at + idle_s, began_at + LONGEST_STREAM_S)


class StreamDeadline:
    """Timer of one streamed response."""

    __slots__ = ("_began_at", "_client_paused", "_expired", "_handle", "_idle_s", "_now", "_piece_at")

    def __init__(
        self,
        began_at: float,
        idle_s: float,
        now: Callable[[], float],
        client_paused: Callable[[], bool],
        expired: Callable[[], None],
    ) -> None:
        """`began_at`, `idle_s`: as for `stream_deadline`. `now`: monotonic seconds. `client_paused`: True while the
        client reads too slowly: the gap is not the replica's. `expired`: called once at the end of the time.
        """
        self._began_at = began_at
        self._idle_s = idle_s
        self._now = now
        self._client_paused = client_paused
        self._expired = expired
        self._piece_at = now()
        self._handle = self._armed()

    def note_piece(self) -> None:
        """A piece has come."""
        self._piece_at = self._now()

    def cancel(self) -> None:
        """The stream has ended."""
        self._handle.cancel()

    def _armed(self) -> asyncio.TimerHandle:
        due = stream_deadline(self._began_at, self._piece_at, self._idle_s)
        return asyncio.get_running_loop().call_later(max(0.001, due - self._now()), self._check)

    def _check(self) -> None:
        if self._client_paused():
            self._piece_at = self._now()
        if self._now() < stream_deadline(self._began_at, self._piece_at, self._idle_s):
            self._handle = self._armed()
        else:
            self._expired()
