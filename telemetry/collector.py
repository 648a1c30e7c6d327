"""The collector: from the rings of the workers and the data of scripts to files in the store. Blocking, one thread.

Scoring never waits for it. A store that is away is tried again for a bounded time while the rings fill; then batches
are dropped, and the workers drop what the rings do not take. Everything dropped is counted.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from msgspec import structs

from serving.endpoint import VersionKey
from telemetry.access_exports import AccessExports
from telemetry.batch_writer import BatchWriter
from telemetry.body_spool import BodySpool
from telemetry.collector_journal import CollectorJournal
from telemetry.collector_settings import CollectorSettings
from telemetry.payload_batch import PayloadBatch
from telemetry.payload_files import PayloadStore, make_spool
from telemetry.payload_messages import (
    ABANDONED,
    ACCESS,
    EXCHANGE,
    PIECE,
    REQUEST,
    RESPONSE,
    CapturedBody,
    CapturedExchange,
    decode_exchange,
    decode_piece,
)
from telemetry.payload_records import (
    REQUESTS,
    RESPONSES,
    ScriptPayload,
    exchange_line,
    place_of,
    record_id,
    script_line,
)
from telemetry.retention import remove_old
from telemetry.ring import DEFAULT_BYTES, PayloadCounts, RingMessage, RingReader, ring_files, sweep_unfinished
from telemetry.script_queue import ScriptQueue, ScriptTable

_log = logging.getLogger("scorefront.collector")

POLL_S: Final = 0.2
"""Interval of looks at the rings."""
REST_EVERY: Final = 16
"""Messages read between two rests: about 0.4 ms of work."""
REST_S: Final = 0.001
UNHURRIED_BYTES: Final = DEFAULT_BYTES // 4
"""Unread bytes of a ring from which on the collector does not rest."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
RETENTION_S: Final = 600.0
COMMIT_S: Final = 0.5
"""Interval of commits while no payload waits."""
MAX_SCRIPT_BODY_BYTES: Final = 4_000_000
"""Longest data of a script within its record."""


@dataclass(slots=True)
class CollectorClock:
    """Time and waiting of the collector."""

    now: Callable[[], float]
    """Monotonic seconds."""
    unix_now: Callable[[], float]
    wait: Callable[[float], object]
    """Waits for so many seconds, not beyond the order to stop."""
    stopping: threading.Event
    """Set by the order to stop."""


class Collector:
    """Reads rings, makes batches, writes them."""

    def __init__(
        self,
        rings: Path,
        store: PayloadStore,
        instance: str,
        settings: CollectorSettings,
        clock: CollectorClock,
        new_id: Callable[[], str],
        accesses: AccessExports | None = None,
    ) -> None:
        """A collector; it must be the only one of the folder.

        rings: folder of the rings, private. store: of the files.
        instance: its part of the names of files; unique among the writers of the store.
        settings: limits and times. clock: time. new_id: makes ids of records of scripts.
        accesses: takes access records; default: they are skipped.
        """
        self.scripts = ScriptQueue()
        self._folder = rings
        self._store = store
        self._instance = instance
        self._settings = settings
        self.clock = clock
        self._new_id = new_id
        self._accesses = accesses
        self._commit_due = 0.0
        self._uncommitted = False
        """True if the journal lacks counts of access records."""
        self._journal = CollectorJournal(rings)
        self._writer = BatchWriter(store, self._journal, instance, settings.compress)
        self._spool = BodySpool(store.spool)
        self._rings: dict[str, RingReader] = {}
        self._batch = PayloadBatch()
        self._batch_began = 0.0
        self._number = 0
        self._away = False
        """True while the store fails."""
        self._dropped_scripts: dict[VersionKey, int] = {}
        self._lock = threading.Lock()

    # ---- life

    def run(self) -> None:
        """Collect until the order to stop, then write what there is. Raises OSError if the folders fail."""
        self.begin()
        retention_due = self.clock.now()
        while not self.clock.stopping.is_set():
            self.step()
            if self.clock.now() >= retention_due:
                retention_due = self.clock.now() + RETENTION_S
                self._housekeeping()
            if self._idle():
                self.clock.wait(POLL_S)
        self.step()
        self.flush()
        if self._accesses is not None:
            self._accesses.close()
        self._commit_due = 0.0
        self._commit_read()
        self._look_for_rings()

    def begin(self) -> None:
        """Go on after an earlier collector. Raises OSError."""
        make_spool(self._store)
        sweep_unfinished(self._folder)
        try:
            self._writer.recover()
        except OSError as error:
            _log.error("payloads: the batch of a killed collector could not be undone: %s", error)
        for name, position in self._journal.content.positions.items():
            if (ring := self._opened(self._folder / name)) is not None:
                ring.commit(position)
                self._rings[name] = ring

    def step(self) -> None:
        """Read what there is; write a batch if it is due."""
        self._look_for_rings()
        for name, ring in list(self._rings.items()):
            self._read(name, ring)
        while (data := self.scripts.take()) is not None:
            self._add_script(data)
            self._write_if_due()
        self._write_if_due()
        self._commit_read()

    def flush(self) -> None:
        """Write the batch."""
        if not self._batch.is_empty or self._dropped_scripts:
            self._write()

    def drop_script(self, key: VersionKey) -> None:
        """Count data of a script that is lost; called by the listener, in any thread."""
        with self._lock:
            self._dropped_scripts[key] = self._dropped_scripts.get(key, 0) + 1

    def _idle(self) -> bool:
        return not any(ring.unread_bytes for ring in self._rings.values())

    def _housekeeping(self) -> None:
        try:
            self._spool.sweep(self.clock.unix_now())
            remove_old(self._store, self._settings.keep_days, self._settings.keep_bytes, self.clock.unix_now())
        except OSError as error:
            _log.warning("payloads: old data could not be removed: %s", error)

    # ---- rings

    def _opened(self, path: Path) -> RingReader | None:
        try:
            return RingReader(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.error("payloads: ring removed: %s", error)
            path.unlink(missing_ok=True)
            return None

    def _look_for_rings(self) -> None:
        """Open new rings; remove those whose worker has ended and that are stored."""
        for path in ring_files(self._folder):
            if path.name not in self._rings and (ring := self._opened(path)) is not None:
                self._rings[path.name] = ring
        for name, ring in list(self._rings.items()):
            if ring.writer_ended() and not ring.unread_bytes and ring.committed == ring.position:
                self._absorb(name, ring)

    def _absorb(self, name: str, ring: RingReader) -> None:
        """Take over the counts of an ended worker, and remove its ring."""
        content = self._journal.content
        if name not in content.absorbed:
            for key, counts in ring.counts().items():
                self._journal.add(key, counts)
            content.absorbed.append(name)
        content.positions.pop(name, None)
        self._journal.write()
        ring.remove()
        ring.close()
        del self._rings[name]
        self._spool.forget_ring(name)
        content.absorbed.remove(name)
        self._journal.write()

    def _read(self, name: str, ring: RingReader) -> None:
        read = 0
        try:
            while (message := ring.read()) is not None:
                self._add(name, message)
                self._write_if_due()
                read += 1
                # Hundreds of messages in one go would hold a core for milliseconds, and requests with it.
                if read % REST_EVERY == 0 and ring.unread_bytes < UNHURRIED_BYTES:
                    self.clock.wait(REST_S)
        except ValueError as error:
            _log.error("payloads: ring skipped: %s", error)
            ring.skip_all()

    # ---- batch

    def _add(self, ring: str, message: RingMessage) -> None:
        """Add a message of a worker. Raises ValueError for a damaged one."""
        if message.kind == EXCHANGE:
            if self._batch.is_empty:
                self._batch_began = self.clock.now()
            self._add_exchange(ring, decode_exchange(message.data, self._rings[ring].version))
        elif message.kind == PIECE:
            self._spool.add(ring, decode_piece(message.data))
        elif message.kind == ABANDONED:
            self._spool.abandon(ring, message.data.decode("latin-1"))
        elif message.kind == ACCESS and self._accesses is not None:
            self._accesses.add(message.data)

    def _add_exchange(self, ring: str, exchange: CapturedExchange) -> None:
        key = exchange.key
        sides = []
        for side, collection, body in (
            (REQUEST, REQUESTS, exchange.request),
            (RESPONSE, RESPONSES, exchange.response),
        ):
            place = place_of(key, collection, exchange.began)
            file: PurePath | None = None
            if body.in_pieces:
                file = self._spool.body(ring, exchange.request_id, side, body.size_bytes)
                if file is None:
                    self._batch.damaged[key] += 1
                    self._spool.abandon(ring, exchange.request_id)
                    return
            sides.append((place, collection, body, file))
        for place, collection, body, file in sides:
            reference = None
            if body.size_bytes > exchange.max_body_bytes:
                reference = f"{place.folder}/{self._instance}-{record_id(exchange.request_id, collection)}.bin"
                self._batch.add_body(reference, body.data if file is None else file)
            elif file is not None:
                exchange = _with_data(exchange, collection, Path(file).read_bytes())
            if file is not None:
                self._batch.spooled.append(file)
            self._batch.add_line(place, exchange_line(exchange, collection, reference))
        self._batch.payloads[key] += 1

    def _add_script(self, data: ScriptPayload | ScriptTable) -> None:
        if self._batch.is_empty:
            self._batch_began = self.clock.now()
        self._batch.payloads[data.key] += 1
        if isinstance(data, ScriptTable):
            self._batch.add_line(data.place, data.rows)
            return
        identity, place, reference = self._new_id(), place_of(data.key, data.collection, data.at), None
        if len(data.body) > MAX_SCRIPT_BODY_BYTES:
            reference = f"{place.folder}/{self._instance}-{identity}.bin"
            self._batch.add_body(reference, data.body)
        self._batch.add_line(place, script_line(data, identity, reference))

    def _write_if_due(self) -> None:
        waited_s = 0.0 if self._batch.is_empty else self.clock.now() - self._batch_began
        if self._batch.size_bytes >= self._settings.batch_bytes or waited_s >= self._settings.batch_s:
            self._write()

    # ---- store

    def _write(self) -> None:
        """Write the batch; drop it if the store stays away. At the order to stop its requests stay in the rings."""
        batch, self._batch = self._batch, PayloadBatch()
        stored = self._written(batch)
        if not stored and self.clock.stopping.is_set():
            for ring in self._rings.values():
                ring.rewind()
            return
        for key, count in batch.payloads.items():
            self._journal.add(key, PayloadCounts(stored=count) if stored else PayloadCounts(dropped=count))
        for key, count in batch.damaged.items():
            self._journal.add(key, PayloadCounts(dropped=count))
        with self._lock:
            lost, self._dropped_scripts = self._dropped_scripts, {}
        for key, count in lost.items():
            self._journal.add(key, PayloadCounts(dropped=count))
        self._commit()
        for path in batch.spooled:
            Path(path).unlink(missing_ok=True)

    def _written(self, batch: PayloadBatch) -> bool:
        """True once the batch is in the store; False if it stays away."""
        clock = self.clock
        deadline = clock.now() + self._settings.retry_s
        pause_s = FIRST_PAUSE_S
        while True:
            self._number = max(self._number + 1, int(clock.unix_now() * 1000))
            try:
                self._writer.write(batch, self._number)
            except OSError as error:
                if not self._away:
                    self._away = True
                    _log.error("payloads: the store fails, trying again: %s", error)
                if clock.stopping.is_set():
                    return False
                if clock.now() + pause_s > deadline:
                    _log.error("payloads: dropped %d: the store fails: %s", sum(batch.payloads.values()), error)
                    return False
                clock.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if self._away:
                    self._away = False
                    _log.warning("payloads: the store works again")
                return True

    def _commit_read(self) -> None:
        """Free the rings of access records, which wait for no store, and keep their counts; not while payloads wait."""
        counts = self._accesses.take_counts() if self._accesses is not None else {}
        for key, more in counts.items():
            self._journal.add(key, more)
        self._uncommitted |= bool(counts)
        if not self._batch.is_empty or self._dropped_scripts or self.clock.now() < self._commit_due:
            return
        if self._uncommitted or any(ring.position != ring.committed for ring in self._rings.values()):
            self._commit_due = self.clock.now() + COMMIT_S
            self._commit()

    def _commit(self) -> None:
        """Free the rings up to what was read."""
        self._uncommitted = False
        self._journal.content.writing = {}
        self._journal.content.positions = {name: ring.position for name, ring in self._rings.items()}
        try:
            self._journal.write()
        except OSError as error:
            _log.error("payloads: the journal is not writable; a kill now would store a batch twice: %s", error)
        for ring in self._rings.values():
            ring.commit()


def _with_data(exchange: CapturedExchange, collection: str, data: bytes) -> CapturedExchange:
    """The exchange with the body of one side."""
    side = exchange.request if collection == REQUESTS else exchange.response
    body = CapturedBody(side.content_type, data, side.size_bytes)
    return structs.replace(exchange, **{collection: body})
