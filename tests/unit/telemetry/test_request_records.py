"""Access records from a worker's recorder over the ring and the collector to receivers."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.endpoint import Auth, Endpoint, PayloadCollection, VersionKey
from telemetry.access_exports import AccessExports
from telemetry.access_messages import AccessRecord, decode_access
from telemetry.collector import Collector
from telemetry.collector_journal import access_counts, payload_counts
from telemetry.collector_settings import CollectorSettings
from telemetry.export_settings import ExportSettings
from telemetry.payload_files import StoredPayloads
from telemetry.payload_observer import PayloadObservers
from telemetry.request_recorder import RecordRules, RequestRecorder
from telemetry.ring import LEAST_BYTES, PayloadCounts
from telemetry.trace_context import NO_TRACE, Sampler
from telemetry.worker_observers import WorkerObservers
from tests.integration.router.rig import version
from tests.unit.telemetry.collecting import BLUE, NOON, FakeHead, VirtualTime
from workspace.store.file_store import FileStore

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"traceparent: 00-{TRACE}-{SPAN}-01"
REQUEST = b"6f1ba2a4-0000-4000-8000-000000000001"
QUICK = ExportSettings(("spans",), ("records",), delay_s=0.01, batch_records=8, patience_s=0.3)
DEADLINE_S = 20.0


class FakeSignal:
    """A receiver that keeps records, and fails or waits on order."""

    name = "records (fake)"

    def __init__(self) -> None:
        self.taken: list[AccessRecord] = []
        self.fails = False
        self.refuses = False
        self.free = threading.Event()
        self.free.set()

    def wants(self, record: AccessRecord) -> bool:
        return record.recorded

    def export(self, records: Sequence[AccessRecord]) -> bool:
        assert self.free.wait(DEADLINE_S)
        if self.fails:
            raise ConnectionError("http://127.0.0.1:1/v1/logs?key=secret refused")
        if not self.refuses:
            self.taken += records
        return not self.refuses


class Recording:
    """A worker, a collector and a receiver in one process."""

    def __init__(
        self, root: Path, settings: ExportSettings = QUICK, sampler: Sampler | None = None, records: bool = True
    ) -> None:
        self.rings = root / "rings"
        self.rings.mkdir()
        self.time = VirtualTime()
        randbytes = random.Random(1).randbytes
        rules = RecordRules(sampler or Sampler(), records, self.time.unix_now, randbytes, lambda value: value[:40])
        self.observers = WorkerObservers(PayloadObservers(self.rings, "w-1", LEAST_BYTES, self.time.unix_now), rules)
        self.endpoint = Endpoint("iris", Auth.KEY, (version(),), app_insights=True)
        self.signal = FakeSignal()
        self.exports = AccessExports([self.signal], settings, time.monotonic)
        self.store = StoredPayloads(FileStore(root / "store"))
        self.collector = Collector(
            self.rings, self.store, "pod-1", CollectorSettings(), self.time.clock(), lambda: "id", self.exports
        )
        self.collector.begin()

    def recorder(self, name: str = "blue") -> RequestRecorder:
        made = self.observers.recorder(self.endpoint, VersionKey("iris", name))
        assert made is not None
        return made

    def lines(self, *fields: str) -> bytes:
        """Lines for the replica."""
        return self.recorder().begin(FakeHead(lines=fields))[0]

    def request(self, head: FakeHead | None = None, recorder: RequestRecorder | None = None) -> bytes:
        """One request; the lines for the replica."""
        recorder, head = recorder or self.recorder(), head or FakeHead()
        trace = recorder.begin(head)
        recorder.request_ended(trace, REQUEST, head, 5, 3, 200, 200, "r0", 0.25, 0.05, 0.125, "")
        return trace[0]

    def collect(self) -> None:
        self.collector.step()

    def counts(self) -> PayloadCounts:
        """As of the journal, after the step that takes them over."""
        self.time.now_s += 1
        self.collector.step()
        return access_counts(self.rings).get("iris", PayloadCounts())


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., Recording]]:
    """Makes the parts."""
    made: list[Recording] = []

    def make(*arguments: Any, **more: Any) -> Recording:
        made.append(Recording(tmp_path, *arguments, **more))
        return made[-1]

    yield make
    for recording in made:
        recording.signal.free.set()
        recording.exports.close()


def eventually_counts(recording: Recording, wanted: PayloadCounts) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while recording.counts() != wanted:
        assert time.monotonic() < deadline, recording.counts()
        time.sleep(0.005)  # interval of the polls


def test_a_request_arrives_with_its_columns_and_without_a_credential(record: Callable[..., Recording]) -> None:
    recording = record()
    head = FakeHead(client_request_id=b"mine", lines=(PARENT, f"USER-Agent:  {'ü' * 90} "))
    recorder = recording.recorder()
    trace = recorder.begin(head)
    recording.time.now_s = 10.0
    recorder.request_ended(trace, REQUEST, head, 5, 3, 502, 500, "r0", 0.25, 0.05, 0.125, "ModelError")
    assert b"the-secret-key" not in b"".join(path.read_bytes() for path in recording.rings.iterdir())
    recording.collect()
    eventually_counts(recording, PayloadCounts(stored=1))
    (found,) = recording.signal.taken
    assert (found.ended, found.total_s, found.queue_s, found.replica_s) == (NOON + 10, 0.25, 0.05, 0.125)
    assert (found.endpoint, found.version, found.auth, found.replica) == ("iris", "blue", "key", "r0")
    assert (found.method, found.path, found.http_version) == ("POST", "/api/v1/service/iris/score", "1.1")
    assert (found.status, found.replica_status, found.code) == (502, 500, "ModelError")
    assert (found.request_bytes, found.response_bytes, found.user_agent) == (5, 3, "ü" * 70)
    assert (found.request_id, found.client_request_id) == (REQUEST.decode(), "mine")
    assert (found.trace_id, found.parent_id, found.sampled) == (TRACE, SPAN, True)
    assert trace[0] == f"\r\ntraceparent: 00-{TRACE}-{found.span_id}-01".encode() and found.span_id != SPAN


def test_a_request_that_reaches_no_version_has_a_record_of_its_endpoint(record: Callable[..., Recording]) -> None:
    recording = record()
    recorder, head = recording.recorder(""), FakeHead()
    nothing = float("nan")
    recorder.request_ended(recorder.begin(head), REQUEST, head, 0, 0, 401, 0, "", 0.0, 0.0, nothing, "Unauthorized")
    recording.collect()
    eventually_counts(recording, PayloadCounts(stored=1))
    (found,) = recording.signal.taken
    assert (found.endpoint, found.version, found.replica_s, found.code) == ("iris", "", None, "Unauthorized")


@pytest.mark.parametrize(
    ("sampler", "flags", "sampled"),
    [
        (Sampler(), "01", True),
        (Sampler(), "00", False),
        (Sampler(), None, True),
        (Sampler(True, 0.0), None, False),
        (Sampler(True, 0.0), "01", True),
        (Sampler(False, 0.0), "01", False),
        (Sampler(False, 1.0), "00", True),
    ],
)
def test_the_sampled_flag_is_honoured_and_passed_on(
    record: Callable[..., Recording], sampler: Sampler, flags: str | None, sampled: bool
) -> None:
    recording = record(sampler=sampler)
    lines = recording.request(FakeHead(lines=(f"traceparent: 00-{TRACE}-{SPAN}-{flags}",) if flags else ()))
    assert lines.endswith(b"-01" if sampled else b"-00")
    recording.collect()
    eventually_counts(recording, PayloadCounts(stored=1))
    assert recording.signal.taken[0].sampled is sampled, "its request record is kept in any case"


@pytest.mark.parametrize("fields", [(), (PARENT.replace("-01", "-00"),)])
def test_a_request_outside_of_the_sample_is_not_reported_without_request_records(
    record: Callable[..., Recording], fields: tuple[str, ...]
) -> None:
    recording = record(sampler=Sampler(True, 0.0), records=False)
    lines, *_, recorded = recording.recorder().begin(FakeHead(lines=fields))
    assert lines.endswith(b"-00") and not recorded


def test_a_ratio_chooses_by_the_lower_half_of_the_trace_id(record: Callable[..., Recording]) -> None:
    recording = record(sampler=Sampler(False, 0.5))
    for low, sampled in ((0, True), (2**63 - 1, True), (2**63, False)):
        lines = recording.lines(f"traceparent: 00-{'f' * 16}{low:016x}-{SPAN}-00")
        assert lines.endswith(b"-01" if sampled else b"-00")
    made = [recording.lines() for _ in range(400)]
    assert 120 < sum(lines.endswith(b"-01") for lines in made) < 280
    assert len({lines[:51] for lines in made}) == 400, "each has a trace of its own"


def test_the_state_of_the_trace_goes_to_the_replica(record: Callable[..., Recording]) -> None:
    assert record().lines(PARENT, "tracestate: a=1, b=2").endswith(b"-01\r\ntracestate: a=1,b=2")


def test_without_spans_the_trace_of_the_client_is_passed_on_and_named(record: Callable[..., Recording]) -> None:
    recording = record()
    rules = RecordRules(None, True, recording.time.unix_now, random.Random(1).randbytes, bytes)
    observers = WorkerObservers(PayloadObservers(recording.rings, "w-2", LEAST_BYTES, lambda: 0.0), rules)
    assert not observers.traces
    cases = (((PARENT,), TRACE), ((), NO_TRACE.decode()))
    for count, (lines, trace_id) in enumerate(cases, 1):
        recorder = observers.recorder(recording.endpoint, BLUE)
        assert recording.request(FakeHead(lines=lines), recorder) == b""
        recording.collect()
        eventually_counts(recording, PayloadCounts(stored=count))
        assert recording.signal.taken[-1].trace_id == trace_id


def test_payloads_and_records_of_one_version_go_side_by_side(record: Callable[..., Recording]) -> None:
    recording = record()
    observer, head = recording.observers.observer(BLUE, PayloadCollection()), FakeHead()
    assert observer is not None
    observer.request_ended(REQUEST, head, b"[1]", FakeHead(), b"[2]", 200, 0.1)
    recording.request(head)
    recording.collect()
    recording.collector.flush()
    eventually_counts(recording, PayloadCounts(stored=1))
    assert payload_counts(recording.rings) == {BLUE: PayloadCounts(stored=1)}
    assert recording.signal.taken[0].response_bytes == 3


def test_an_endpoint_without_telemetry_is_not_recorded(record: Callable[..., Recording]) -> None:
    recording = record()
    plain = Endpoint("iris", Auth.KEY, (version(),))
    assert [recording.observers.recorder(plain, key) for key in (BLUE, VersionKey("iris", ""))] == [None, None]


def test_the_ring_is_freed_although_no_payload_is_written(record: Callable[..., Recording]) -> None:
    recording = record()
    for number in range(3 * LEAST_BYTES // 300):
        recording.request()
        if number % 1000 == 999:
            recording.time.now_s += 1
            recording.collect()
    assert access_counts(recording.rings)["iris"].dropped == 0


def test_a_full_ring_drops_and_counts(record: Callable[..., Recording]) -> None:
    recording = record()
    sent = 2 * LEAST_BYTES // 250
    for _ in range(sent):
        recording.request()
    lost = access_counts(recording.rings)["iris"].dropped
    assert 0 < lost < sent
    recording.collect()
    eventually_counts(recording, PayloadCounts(stored=sent - lost, dropped=lost))
    assert payload_counts(recording.rings) == {}, "no payload is counted"


def test_a_receiver_that_stays_away_loses_counted_records_and_later_ones_arrive(
    record: Callable[..., Recording], caplog: pytest.LogCaptureFixture
) -> None:
    recording = record()
    recording.signal.fails = True
    for _ in range(3):
        recording.request()
    recording.collect()
    eventually_counts(recording, PayloadCounts(dropped=3))
    recording.signal.fails = False
    recording.request()
    recording.collect()
    eventually_counts(recording, PayloadCounts(stored=1, dropped=3))
    said = [record.getMessage() for record in caplog.records if record.name == "scorefront.collector"]
    assert len(said) == 2 and "cannot be exported" in said[0] and "exported again" in said[1]
    assert "secret" not in caplog.text


def test_a_receiver_that_refuses_loses_counted_records(record: Callable[..., Recording]) -> None:
    recording = record()
    recording.signal.refuses = True
    recording.request()
    recording.collect()
    eventually_counts(recording, PayloadCounts(dropped=1))


def test_a_receiver_that_hangs_fills_a_bounded_queue_and_holds_up_nothing(record: Callable[..., Recording]) -> None:
    recording = record(ExportSettings(("s",), ("r",), delay_s=0.01, queue_records=20, batch_records=8))
    recording.signal.free.clear()
    for _ in range(100):
        recording.request()
    recording.collect()  # returns although the receiver hangs
    assert recording.counts().dropped in range(100 - 20 - 8, 100 - 20 + 1)
    recording.signal.free.set()
    lost = recording.counts().dropped
    eventually_counts(recording, PayloadCounts(stored=100 - lost, dropped=lost))


def test_the_queue_is_bounded_in_bytes_as_well(
    record: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.access_exports.QUEUE_BYTES", 1000)
    recording = record(ExportSettings(("s",), ("r",), delay_s=3600.0))
    for _ in range(10):
        recording.request()
    recording.collect()
    assert 5 <= recording.counts().dropped <= 8


def test_the_end_exports_what_there_is_and_counts_the_rest(record: Callable[..., Recording]) -> None:
    recording = record(ExportSettings(("s",), ("r",), delay_s=3600.0, queue_records=20))
    recording.request()
    recording.collect()
    assert recording.signal.taken == []
    clock = recording.collector.clock
    clock.stopping.set()
    recording.collector.run()
    assert len(recording.signal.taken) == 1
    assert access_counts(recording.rings)["iris"] == PayloadCounts(stored=1)


def test_a_damaged_message_is_refused() -> None:
    for message in (b"", b"x" * 40, b"\0" * 400):
        with pytest.raises(ValueError):
            decode_access(message)
