"""Messages between the control plane and the router workers of one machine: shapes, codec and framing. No I/O.

A frame is a 4-byte big-endian length and a msgpack body. The same truth that a router in a cluster reads from the
Kubernetes API reaches a local worker through here.
"""

import struct
from collections.abc import Iterator

import msgspec

from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import Endpoint, VersionKey
from serving.replica import Replica
from serving.usage import UsageReport

MAX_FRAME_BYTES = 256 * 1024 * 1024


class LinkError(Exception):
    """The other side sent something that is not a message."""


# ---- control plane -> worker


class ResetAll(msgspec.Struct, tag=True, frozen=True):
    """Everything: sent first on every link."""

    endpoints: tuple[Endpoint, ...]
    keys: tuple[KeyDigests, ...]
    trust: TokenTrust
    replicas: tuple[Replica, ...]


class UpsertEndpoint(msgspec.Struct, tag=True, frozen=True):
    """An endpoint is new or has changed."""

    endpoint: Endpoint


class RemoveEndpoint(msgspec.Struct, tag=True, frozen=True):
    """An endpoint is gone: 404 from now on."""

    name: str


class SetKeys(msgspec.Struct, tag=True, frozen=True):
    """The keys of one endpoint, whole."""

    keys: KeyDigests


class SetTrust(msgspec.Struct, tag=True, frozen=True):
    """The token issuers, whole."""

    trust: TokenTrust


class UpsertReplica(msgspec.Struct, tag=True, frozen=True):
    """A replica is new or has changed. One that is DRAINING takes no new request; `Drained` follows when it is idle."""

    replica: Replica


class RemoveReplica(msgspec.Struct, tag=True, frozen=True):
    """A replica is gone."""

    replica_id: str


class Retire(msgspec.Struct, tag=True, frozen=True):
    """Withdraw `count` READY replicas of a version from service, idle ones first; answered by `Retired`."""

    request: int
    key: VersionKey
    count: int


class Collect(msgspec.Struct, tag=True, frozen=True):
    """Send the metrics; answered by `Metrics`."""

    request: int


ToWorker = (
    ResetAll | UpsertEndpoint | RemoveEndpoint | SetKeys | SetTrust | UpsertReplica | RemoveReplica | Retire | Collect
)

# ---- worker -> control plane


class Serving(msgspec.Struct, tag=True, frozen=True):
    """The worker has applied its first ResetAll and accepts connections."""

    pid: int


class Usage(msgspec.Struct, tag=True, frozen=True):
    """Counts, every 200 ms where something changed, and at once when a request finds no free slot."""

    report: UsageReport


class Retired(msgspec.Struct, tag=True, frozen=True):
    """These replicas take no new request from this worker. `Drained` follows for each when it is idle."""

    request: int
    replicas: tuple[str, ...]


class Drained(msgspec.Struct, tag=True, frozen=True):
    """Nothing is in flight on this withdrawn replica and nothing will be."""

    replica_id: str


class Histogram(msgspec.Struct, frozen=True):
    """Counts per bucket (not cumulative); `bounds_s` are the upper bounds, one more count follows for +Inf."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


class VersionMetrics(msgspec.Struct, frozen=True):
    """What one worker has counted for one version since its start. `version` is "" where none was chosen."""

    endpoint: str
    version: str
    requests: dict[int, int]
    """Status code -> requests answered."""
    duration: Histogram
    queue_wait: Histogram
    routing: Histogram
    """Own overhead: time inside the router less waiting for a slot and for the replica."""
    busy: int = 0
    total: int = 0
    waiting: int = 0


class WorkerMetrics(msgspec.Struct, frozen=True):
    """Everything one worker has counted since its start."""

    worker: str
    versions: tuple[VersionMetrics, ...]
    connections: int
    slot_violations: int
    loop_lag_s: float
    """Longest lateness of the worker's loop since the last collection."""
    counters: dict[str, int]
    """Further counters by short name, e.g. retries, double_releases, access_log_dropped, client_gone."""
    certificate_expires_unix: int = 0
    """When the first of the certificates in use ends; 0 without TLS."""
    tasks: int = 0
    """asyncio tasks that are alive."""


class Metrics(msgspec.Struct, tag=True, frozen=True):
    """The answer to `Collect`."""

    request: int
    metrics: WorkerMetrics


ToControl = Serving | Usage | Retired | Drained | Metrics

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_to_control = msgspec.msgpack.Decoder(ToControl)


def encode(message: ToWorker | ToControl) -> bytes:
    """One frame."""
    body = _encoder.encode(message)
    return struct.pack(">I", len(body)) + body


class FrameReader:
    """Bytes in, message bodies out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield every body that is complete. Raises LinkError on a frame over the limit."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            (size,) = struct.unpack_from(">I", buffer, start)
            if size > MAX_FRAME_BYTES:
                raise LinkError(f"frame of {size} bytes, at most {MAX_FRAME_BYTES}")
            if len(buffer) - start - 4 < size:
                break
            yield bytes(buffer[start + 4 : start + 4 + size])
            start += 4 + size
        del buffer[:start]


def decode_for_worker(body: bytes) -> ToWorker:
    """A message of the control plane. Raises LinkError."""
    try:
        message: ToWorker = _to_worker.decode(body)
    except msgspec.DecodeError as error:
        raise LinkError(str(error)) from error
    return message


def decode_for_control(body: bytes) -> ToControl:
    """A message of a worker. Raises LinkError."""
    try:
        message: ToControl = _to_control.decode(body)
    except msgspec.DecodeError as error:
        raise LinkError(str(error)) from error
    return message
