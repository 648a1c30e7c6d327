"""Bytes of a history, for a file of the same machine. Pure."""

from array import array
from typing import Final

import msgspec

from serving.endpoint import VersionKey
from telemetry.history.metric_history import COARSE_POINTS, FINE_POINTS, MetricHistory, ScalingMove, VersionHistory
from telemetry.history.point_ring import MAX_CODES, TRAFFIC_TYPES, PointRing, ReplicaNumbers
from telemetry.history.ring_clock import RingClock
from telemetry.history.worker_deltas import COUNT, BucketSums, VersionDelta

FORMAT: Final = 2


class DamagedHistory(Exception):
    """The bytes are no history of this format."""


class _KeptRing(msgspec.Struct, frozen=True, array_like=True):
    ready: bytes
    wanted: bytes
    traffic: list[bytes]
    failures: dict[int, bytes]


class _KeptClock(msgspec.Struct, frozen=True, array_like=True):
    numbers: bytes
    seconds: bytes


class _KeptBuckets(msgspec.Struct, frozen=True, array_like=True):
    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


class _KeptDelta(msgspec.Struct, frozen=True, array_like=True):
    requests: dict[int, int]
    duration: _KeptBuckets
    queue_wait: _KeptBuckets


class _KeptVersion(msgspec.Struct, frozen=True, array_like=True):
    endpoint: str
    version: str
    fine: _KeptRing
    coarse: _KeptRing
    replicas: ReplicaNumbers
    delta: _KeptDelta | None
    utilization: float
    scrapes: int


class _KeptMove(msgspec.Struct, frozen=True, array_like=True):
    endpoint: str
    version: str
    move: ScalingMove


class _KeptHistory(msgspec.Struct, frozen=True):
    format: int
    fine: _KeptClock
    coarse: _KeptClock
    open_number: int
    open_seconds: float
    versions: list[_KeptVersion]
    moves: list[_KeptMove] = []
    """Oldest first; absent in files of earlier releases."""


def to_bytes(history: MetricHistory) -> bytes:
    """The history with its interval in progress."""
    versions = [_kept(key, version) for key, version in history.versions.items()]
    fine, coarse = _kept_clock(history.fine), _kept_clock(history.coarse)
    moves = [_KeptMove(*key, move) for key, ring in history.moves.items() for move in ring]
    moves.sort(key=lambda kept: kept.move.time_s)
    kept = _KeptHistory(FORMAT, fine, coarse, history.open_number, history.open_seconds, versions, moves)
    return msgspec.msgpack.encode(kept)


def from_bytes(data: bytes, now_s: float) -> MetricHistory:
    """The history, to be continued. Raises DamagedHistory.

    data: from `to_bytes`.
    now_s: unix seconds; the counters of all workers began then or later.
    """
    try:
        kept = msgspec.msgpack.decode(data, type=_KeptHistory)
        if kept.format != FORMAT:
            raise DamagedHistory(f"format {kept.format}; this scorefront reads format {FORMAT}")
        history = MetricHistory(now_s)
        _fill_clock(history.fine, kept.fine)
        _fill_clock(history.coarse, kept.coarse)
        history.open_number, history.open_seconds = kept.open_number, kept.open_seconds
        history.versions = {VersionKey(each.endpoint, each.version): _version(each) for each in kept.versions}
        for each in kept.moves:
            history.moves.add(VersionKey(each.endpoint, each.version), each.move)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise DamagedHistory(str(error)) from error
    history.resume(now_s)
    return history


def _kept(key: VersionKey, version: VersionHistory) -> _KeptVersion:
    delta = version.delta
    return _KeptVersion(
        key.endpoint,
        key.version,
        _kept_ring(version.fine),
        _kept_ring(version.coarse),
        version.replicas,
        _KeptDelta(delta.requests, _kept_buckets(delta.duration), _kept_buckets(delta.queue_wait)) if delta else None,
        version.utilization,
        version.scrapes,
    )


def _kept_ring(ring: PointRing) -> _KeptRing:
    failures = {code: column.tobytes() for code, column in ring.failures.items()}
    return _KeptRing(ring.ready.tobytes(), ring.wanted.tobytes(), [each.tobytes() for each in ring.traffic], failures)


def _kept_clock(clock: RingClock) -> _KeptClock:
    return _KeptClock(clock.numbers.tobytes(), clock.seconds.tobytes())


def _kept_buckets(buckets: BucketSums) -> _KeptBuckets:
    return _KeptBuckets(buckets.bounds_s, tuple(buckets.counts), buckets.sum_s)


def _version(kept: _KeptVersion) -> VersionHistory:
    delta = None
    if kept.delta is not None:
        delta = VersionDelta(kept.delta.requests, _buckets(kept.delta.duration), _buckets(kept.delta.queue_wait))
    rings = _ring(kept.fine, FINE_POINTS), _ring(kept.coarse, COARSE_POINTS)
    return VersionHistory(*rings, kept.replicas, delta, kept.utilization, kept.scrapes)


def _ring(kept: _KeptRing, length: int) -> PointRing:
    if len(kept.failures) > MAX_CODES + 1:
        raise ValueError("too many status codes")
    ring = PointRing(_column("H", kept.ready, length), _column("H", kept.wanted, length))
    if kept.traffic:
        columns = zip(TRAFFIC_TYPES, kept.traffic, strict=True)
        ring.traffic = [_column(kind, data, length) for kind, data in columns]
    ring.failures = {code: _column("I", data, length) for code, data in kept.failures.items()}
    return ring


def _fill_clock(clock: RingClock, kept: _KeptClock) -> None:
    length = len(clock.numbers)
    numbers = array("q", kept.numbers)
    if len(numbers) != length or any(number % length != place for place, number in enumerate(numbers) if number >= 0):
        raise ValueError("intervals out of place")
    seconds = array("f", kept.seconds)
    if len(seconds) != length:
        raise ValueError("intervals of another number")
    clock.numbers, clock.seconds = numbers, seconds


def _buckets(kept: _KeptBuckets) -> BucketSums:
    if len(kept.counts) != len(kept.bounds_s) + bool(kept.bounds_s):
        raise ValueError("counts of another number than buckets")
    return BucketSums(kept.bounds_s, array(COUNT, kept.counts), kept.sum_s)


def _column(kind: str, data: bytes, length: int) -> "array[int]":
    column: array[int] = array(kind, data)
    if len(column) != length:
        raise ValueError(f"a column of {len(column)} points instead of {length}")
    return column
