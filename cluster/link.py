"""Messages between the control plane and router workers. No I/O.

On one machine a supervisor feeds its workers with the whole
truth; the same truth a router in a cluster reads from the Kubernetes API, and has it reach its workers through here.
Between the leader of a cluster and a group of workers in another pod (TCP with mutual TLS; the group connects) pass
only the counts that scaling needs, and orders:

    group                                               leader
      | <-------------------------------------- Leads      |
      | GroupIs, then a Usage per worker, whole -------->  |
      | Usage, Drained, GroupLoad --------------------->   |   as it happens; a GroupLoad at least every LOAD_S
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
"""Between a group and the leader: a report of 6,000 versions is some hundred bytes for each."""
MAX_GROUP_WORKERS = 64
LOAD_S = 0.2
"""How often a group tells its load at least, which also shows that it is alive."""


# ---- control plane -> worker


class ResetAll(msgspec.Struct, tag=True, frozen=True):
    """Everything: sent first on every link."""

    endpoints: tuple[Endpoint, ...]
    keys: tuple[KeyDigests, ...]
    trust: TokenTrust
    replicas: tuple[Replica, ...]
    own_pods: tuple[str, ...] = ()
    """As SetOwnPods has them."""


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


class SetOwnPods(msgspec.Struct, tag=True, frozen=True):
    """Addresses of the pods of the installation itself, all of them: no static replica is one."""

    addresses: tuple[str, ...]


class Retire(msgspec.Struct, tag=True, frozen=True):
    """Withdraw `count` READY replicas of a version from service, idle ones first; answered by `Retired`."""

    request: int
    key: VersionKey
    count: int


class Collect(msgspec.Struct, tag=True, frozen=True):
    """Send the metrics; answered by `Metrics`."""

    request: int


ToWorker = (
    ResetAll
    | UpsertEndpoint
    | RemoveEndpoint
    | SetKeys
    | SetTrust
    | UpsertReplica
    | RemoveReplica
    | SetOwnPods
    | Retire
    | Collect
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

# ---- leader -> group of workers in another pod


class Leads(msgspec.Struct, tag=True, frozen=True):
    """First on every link: whom the group has reached."""

    fence: int
    """Counts the leaders of the cluster. A group that knows of a higher one parts: this leader is none any more."""


class Resize(msgspec.Struct, tag=True, frozen=True):
    """Have so many workers, absolute; what comes of it stands in `GroupLoad`."""

    workers: int


ToGroup = Leads | Retire | Resize

# ---- group -> leader


class GroupIs(msgspec.Struct, tag=True, frozen=True):
    """First on every link, and whenever its workers change: who serves or is leaving, at most MAX_GROUP_WORKERS.

    After the first one follows, for each worker, a `Usage` with every version that it has told of: the leader may be a
    new one, or have missed what was said while there was no link. What is older than the report is brought up to its
    time: `busy_slot_seconds` has grown by busy x time since.
    """

    group: str
    """Unique per start of the supervisor. Of two links of the same group the newer one counts."""
    workers: tuple[str, ...]
    pod: str = ""
    """The pod that it runs in, in the leader's namespace."""


class GroupLoad(msgspec.Struct, tag=True, frozen=True):
    """What the workers of a group have done so far, at least every LOAD_S."""

    wanted: int
    """Workers there shall be, as the group sees it."""
    cores: int
    """The most workers that its pod has cores for now."""
    even: bool
    """Every worker that serves has about its part of the clients."""
    work: dict[str, Work]
    """Worker -> what it has done; of those that serve."""
    fixed: bool = False
    """The number of workers was chosen by whoever started the router: `Resize` is not obeyed."""


FromGroup = GroupIs | Usage | Retired | Drained | GroupLoad

decode_for_worker: Callable[[bytes | memoryview], ToWorker] = body_decoder(ToWorker)
decode_for_group: Callable[[bytes | memoryview], ToGroup] = body_decoder(ToGroup)
decode_from_group: Callable[[bytes | memoryview], FromGroup] = body_decoder(FromGroup)


def encode(message: ToWorker | ToControl | ToGroup | FromGroup) -> bytes:
    """`message` as one frame. Raises LinkError above MAX_FRAME_BYTES."""
    return encode_frame(message, MAX_FRAME_BYTES)
