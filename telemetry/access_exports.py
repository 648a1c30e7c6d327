"""Access records on their way from the collector to the receivers of spans and request records.

A thread of its own exports, so that a receiver that is away holds up neither scoring nor payloads. The queue is
bounded: what it does not take, and what a receiver does not take in time, is dropped and counted.
"""

import contextlib
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from serving.endpoint import VersionKey
from telemetry.access_messages import AccessRecord, decode_access, endpoint_of
from telemetry.export_settings import ExportSettings
from telemetry.ring import PayloadCounts

_log = logging.getLogger("scorefront.collector")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
QUEUE_BYTES: Final = 64 * 1024 * 1024
"""Messages that wait; few records with long texts must not take more."""
NICENESS: Final = 5
CLOSE_S: Final = 1.0
"""Time for the last records at the end."""
_query = re.compile(r"\?\S*")
"""May hold a credential of the receiver."""


class Signal(Protocol):
    """One kind of telemetry to one receiver."""

    @property
    def name(self) -> str:
        """For logs."""

    def wants(self, record: AccessRecord) -> bool:
        """True if a record is part of the signal."""

    def export(self, records: Sequence[AccessRecord]) -> bool:
        """Send records, blocking; False, or any exception, if the receiver does not take them."""


class AccessExports:
    """Queue and thread of the export."""

    def __init__(
        self, signals: Sequence[Signal], settings: ExportSettings, now: Callable[[], float], close_s: float = CLOSE_S
    ) -> None:
        """An export that runs.

        signals: kinds of telemetry. settings: limits. now: monotonic seconds.
        close_s: time for the last records at the end.
        """
        self._signals = signals
        self._settings = settings
        self._now = now
        self._close_s = close_s
        self._waiting: deque[tuple[float, bytes]] = deque()
        """Time of arrival, message."""
        self._waiting_bytes = 0
        self._exported: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._failing: set[str] = set()
        """Names of signals whose receiver fails."""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="export telemetry", daemon=True)
        self._thread.start()

    def add(self, message: bytes) -> None:
        """Queue a message of kind ACCESS; it is dropped if the queue is full."""
        with self._changed:
            size_bytes = self._waiting_bytes + len(message)
            if self._closing or len(self._waiting) >= self._settings.queue_records or size_bytes > QUEUE_BYTES:
                self._count(self._dropped, endpoint_of(message))
                return
            self._waiting_bytes = size_bytes
            self._waiting.append((self._now(), message))
            if len(self._waiting) in (1, self._settings.batch_records):
                self._changed.notify()

    def take_counts(self) -> dict[VersionKey, PayloadCounts]:
        """Records exported and dropped since the last call, by endpoint, with "" as the version."""
        with self._changed:
            exported, self._exported = self._exported, {}
            dropped, self._dropped = self._dropped, {}
        return {
            VersionKey(name, ""): PayloadCounts(stored=exported.get(name, 0), dropped=dropped.get(name, 0))
            for name in exported.keys() | dropped.keys()
        }

    def close(self) -> None:
        """Export what there is, within a bounded time; the rest is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._close_s)
        with self._changed:
            for _, message in self._waiting:
                self._count(self._dropped, endpoint_of(message))
            self._waiting.clear()

    # ---- the thread

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # of this thread only: on a busy machine scoring goes first
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        while (batch := self._next_batch()) is not None:
            records = []
            for message in batch:
                try:
                    records.append(decode_access(message))
                except ValueError as error:
                    _log.error("telemetry: a damaged record is skipped: %s", error)
            lost: set[int] = set()
            for signal in self._signals:
                wanted = [index for index, record in enumerate(records) if signal.wants(record)]
                if wanted and not self._delivered(signal, [records[index] for index in wanted]):
                    lost.update(wanted)
            with self._changed:
                for index, record in enumerate(records):
                    self._count(self._dropped if index in lost else self._exported, record.endpoint)

    def _next_batch(self) -> list[bytes] | None:
        """The oldest messages, once they are a batch or have waited long enough; None at the end."""
        settings, waiting = self._settings, self._waiting
        with self._changed:
            while not self._closing and len(waiting) < settings.batch_records:
                left_s = waiting[0][0] + settings.delay_s - self._now() if waiting else None
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            if not waiting:
                return None
            batch = [waiting.popleft()[1] for _ in range(min(len(waiting), settings.batch_records))]
            self._waiting_bytes -= sum(map(len, batch))
            return batch

    def _delivered(self, signal: Signal, records: Sequence[AccessRecord]) -> bool:
        """True once a receiver has the records; False if it stays away."""
        deadline, pause_s = self._now() + self._settings.patience_s, FIRST_PAUSE_S
        while True:
            refused, reason = False, ""
            try:
                refused = not signal.export(records)
            except Exception as error:
                reason = f"{type(error).__name__}: {_query.sub('?…', str(error))}"
            if not refused and not reason:
                if signal.name in self._failing:
                    self._failing.discard(signal.name)
                    _log.warning("telemetry: %s are exported again", signal.name)
                return True
            if signal.name not in self._failing:
                self._failing.add(signal.name)
                _log.error("telemetry: %s cannot be exported: %s", signal.name, reason or "the receiver refuses them")
            if refused or not self._pause(pause_s, deadline):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _pause(self, pause_s: float, deadline: float) -> bool:
        """Wait before the next attempt; False: there is no time for one."""
        with self._changed:
            return self._now() + pause_s <= deadline and not self._changed.wait_for(lambda: self._closing, pause_s)

    def _count(self, counts: dict[str, int], endpoint: str) -> None:
        counts[endpoint] = counts.get(endpoint, 0) + 1
