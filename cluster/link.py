"""Messages between the control plane and router workers. No I/O.

On one machine a supervisor sends its workers the complete state. In a cluster a router reads the same state from the
Kubernetes API and sends it to its workers with the same messages. Between the leader of a cluster and a group of
workers in another pod (TCP with mutual TLS; the group connects) only the counts for scaling pass, and orders:

    group                                               leader
      | <-------------------------------------- Leads      |
      | GroupIs, then a Usage per worker, whole -------->  |
      | Usage, Drained, GroupLoad --------------------->   |   on change; a GroupLoad at least every LOAD_S
      | <------------------------------ Retire, Resize     |
      | Retired ---------------------------------------->  |
"""

from collections.abc import Callable

import msgspec

from cluster.framing import body_decoder, encode_frame
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import Endpoint, VersionKey
from serving.replica import Replica
from serving.usage import UsageReport, Work

MAX_FRAME_BYTES = 256 * 1024 * 1024
MAX_GROUP_FRAME_BYTES = 16 * 1024 * 1024
"""Limit between a group and the leader: a report of 6,000 versions takes some hundred bytes for each."""
MAX_GROUP_WORKERS = 64
LOAD_S = 0.2
"""Longest time between load reports of a group; they also serve as a sign of life."""


# ---- control plane -> worker


class ResetAll(msgspec.Struct, tag=True, frozen=True):
    """Complete state: first message on every link."""

    endpoints: tuple[Endpoint, ...]
    keys: tuple[KeyDigests, ...]
    trust: TokenTrust
    replicas: tuple[Replica, ...]
    own_pods: tuple[str, ...] = ()
    """See SetOwnPods."""


class UpsertEndpoint(msgspec.Struct, tag=True, frozen=True):
    """A new or changed endpoint."""

    endpoint: Endpoint


class RemoveEndpoint(msgspec.Struct, tag=True, frozen=True):
    """A removed endpoint: answered 404 from now on."""

    name: str


class SetKeys(msgspec.Struct, tag=True, frozen=True):
    """All keys of one endpoint."""

    keys: KeyDigests


class SetTrust(msgspec.Struct, tag=True, frozen=True):
    """All trusted token issuers."""

    trust: TokenTrust


class UpsertReplica(msgspec.Struct, tag=True, frozen=True):
    """A new or changed replica. DRAINING ones get no new request; `Drained` follows when idle."""

    replica: Replica


class RemoveReplica(msgspec.Struct, tag=True, frozen=True):
    """A removed replica."""

    replica_id: str


class SetOwnPods(msgspec.Struct, tag=True, frozen=True):
    """Addresses of all pods of the installation itself; a static replica may have none of them."""

    addresses: tuple[str, ...]


class Retire(msgspec.Struct, tag=True, frozen=True):
    """Retire `count` READY replicas of a version, idle ones first; answered by `Retired`."""

    request: int
    key: VersionKey
    count: int


class Collect(msgspec.Struct, tag=True, frozen=True):
    """Request for the metrics; answered by `Metrics`."""

    request: int


class ReadTrace(msgspec.Struct, tag=True, frozen=True):
    """Request for the arrivals and service times of a version; answered by `TraceRead`."""

    request: int
    key: VersionKey
    since_s: float
    """Longest age."""


class ReadFailures(msgspec.Struct, tag=True, frozen=True):
    """Request for the last failed requests of an endpoint; answered by `FailuresRead`."""

    request: int
    endpoint: str
    last: int
    """Most requests."""


ToWorker = (
    ResetAll
    | UpsertEndpoint
    | RemoveEndpoint
    | SetKeys
    | SetTrust
    | UpsertReplica
    | RemoveReplica
    | SetOwnPods
    | ReadTrace
    | ReadFailures
    | Retire
    | Collect
)

# ---- worker -> control plane


class Serving(msgspec.Struct, tag=True, frozen=True):
    """The worker has applied its first ResetAll and accepts connections."""

    pid: int


class Usage(msgspec.Struct, tag=True, frozen=True):
    """Counts: every 200 ms if changed, and at once for a request without a free slot."""

    report: UsageReport


class Retired(msgspec.Struct, tag=True, frozen=True):
    """Replicas retired in this worker. `Drained` follows for each when it is idle."""

    request: int
    replicas: tuple[str, ...]


class Drained(msgspec.Struct, tag=True, frozen=True):
    """No request is in flight on this retired replica, and none will be."""

    replica_id: str


class Histogram(msgspec.Struct, frozen=True):
    """Counts per bucket (not cumulative); `bounds_s` are the upper bounds, one more count follows for +Inf."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


class VersionMetrics(msgspec.Struct, frozen=True):
    """Counts of one worker for one version since its start. `version` is "" for requests without a chosen one."""

    endpoint: str
    version: str
    requests: dict[int, int]
    """Status code -> requests answered."""
    duration: Histogram
    queue_wait: Histogram
    routing: Histogram
    """Own overhead: time inside the router without waiting for a slot and for the replica."""
    busy: int = 0
    total: int = 0
    waiting: int = 0
    ejected: int = 0
    """Times a replica was ejected."""
    suspected: int = 0
    """Times a replica became suspect."""


class WorkerMetrics(msgspec.Struct, frozen=True):
    """All counts of one worker since its start."""

    worker: str
    versions: tuple[VersionMetrics, ...]
    connections: int
    slot_violations: int
    loop_lag_s: float
    """Longest lateness of the event loop since the last collection."""
    counters: dict[str, int]
    """Further counters by short name, e.g. retries, double_releases, access_log_dropped, client_gone."""
    certificate_expires_unix: int = 0
    """Earliest expiry of the certificates in use; 0 without TLS."""
    tasks: int = 0
    """Number of asyncio tasks."""
    cpu_s: float = 0.0
    """CPU time of the process."""
    resident_bytes: int = 0
    """Memory of the process, with what it shares."""


class MetricsPart(msgspec.Struct, tag=True, frozen=True):
    """A part of the answer to `Collect`; more of them and `Metrics` follow."""

    request: int
    versions: tuple[VersionMetrics, ...]


class Metrics(msgspec.Struct, tag=True, frozen=True):
    """The last part of the answer to `Collect`: the remaining versions, and the counts of the worker."""

    request: int
    metrics: WorkerMetrics


class TraceRead(msgspec.Struct, tag=True, frozen=True):
    """The answer to `ReadTrace`."""

    request: int
    requests: list[tuple[float, float | None, int]]
    """(age in seconds, service time in seconds or None, size in bytes)."""


class FailedRequest(msgspec.Struct, frozen=True):
    """A failed request, without query, payload and credential."""

    at: float
    """Time of its end, unix seconds."""
    request_id: str
    client_request_id: str
    method: str
    path: str
    version: str
    """"" if it reached none."""
    replica: str
    status: int
    """HTTP status; 499: the client has gone."""
    code: str
    """Error code of the router; "" if the model answered with the status."""
    rule: str
    """The rule of HTTP that was broken; "" if none was."""
    seconds: float
    waited_s: float
    """Wait for a slot."""


class FailuresRead(msgspec.Struct, tag=True, frozen=True):
    """The answer to `ReadFailures`, newest first."""

    request: int
    failures: list[FailedRequest]


ToControl = TraceRead | FailuresRead | Serving | Usage | Retired | Drained | MetricsPart | Metrics

# ---- leader -> group of workers in another pod


class Leads(msgspec.Struct, tag=True, frozen=True):
    """First message on every link: the identity of the leader."""

    fence: int
    """Number of this leadership. A group that knows a higher one disconnects: this leader has been replaced."""


class Resize(msgspec.Struct, tag=True, frozen=True):
    """Set the number of workers (absolute); the result is reported by `GroupLoad`."""

    workers: int


ToGroup = Leads | Retire | Resize

# ---- group -> leader


class GroupIs(msgspec.Struct, tag=True, frozen=True):
    """First message on every link, and after every change of its workers that serve or drain, at most
    MAX_GROUP_WORKERS.

    After the first one follows a `Usage` per worker with every version reported so far: the leader may be new, or have
    missed reports while there was no link. Counts older than the report are extrapolated to its time:
    `busy_slot_seconds` grows by busy x time.
    """

    group: str
    """Unique per start of the supervisor. Of two links of one group the newer one counts."""
    workers: tuple[str, ...]
    pod: str = ""
    """Pod of the group, in the leader's namespace."""


class GroupLoad(msgspec.Struct, tag=True, frozen=True):
    """Load of the workers of a group, at least every LOAD_S."""

    wanted: int
    """Desired number of workers, as known by the group."""
    cores: int
    """Most workers that its pod has cores for now."""
    even: bool
    """True if connections are balanced over the serving workers."""
    work: dict[str, Work]
    """Worker -> its work so far; of those that serve."""
    fixed: bool = False
    """The number of workers was set by the operator: `Resize` is ignored."""
    dropping: dict[str, int] = {}
    """`endpoint/version` -> collected payloads dropped so far, of those with one in the last minutes."""


FromGroup = GroupIs | Usage | Retired | Drained | GroupLoad

decode_for_worker: Callable[[bytes | memoryview], ToWorker] = body_decoder(ToWorker)
decode_for_group: Callable[[bytes | memoryview], ToGroup] = body_decoder(ToGroup)
decode_from_group: Callable[[bytes | memoryview], FromGroup] = body_decoder(FromGroup)


def encode(message: ToWorker | ToControl | ToGroup | FromGroup) -> bytes:
    """`message` as one frame. Raises LinkError above MAX_FRAME_BYTES."""
    return encode_frame(message, MAX_FRAME_BYTES)
