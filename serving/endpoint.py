"""The normalised domain records: an Endpoint, its Versions, and how a Version's replicas come to be.

`serving.manifest` makes these from what the user declared; nothing here repeats its validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class VersionKey(NamedTuple):
    """Names one version of one endpoint everywhere."""

    endpoint: str
    version: str

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.version}"


class Auth(StrEnum):
    """Which credential an endpoint demands."""

    KEY = "key"
    TOKEN = "token"
    NONE = "none"


class VersionType(StrEnum):
    """Role of a version in an experiment; at most one is the control."""

    CONTROL = "Control"
    TREATMENT = "Treatment"


class RetryRule(StrEnum):
    """When a request may be sent to a second replica."""

    NEVER_BEGUN = "neverBegun"
    """Only where the replica cannot have begun it."""
    BEFORE_RESPONSE = "beforeResponse"
    """Also after it was sent, as long as no byte of a response has come."""


class ReplicaKind(StrEnum):
    """The six ways to say where replicas come from; the values are the manifest's field names."""

    ENTRY_SCRIPT = "entryScript"
    COMMAND = "command"
    IMAGE = "image"
    POD_TEMPLATE = "podTemplate"
    WORKLOAD_REF = "workloadRef"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """A workload that exists already and is adopted."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One entry of a Secret."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class ReplicaSource:
    """Where the replicas of a version come from; only the fields of its `kind` are set. Paths are absolute."""

    kind: ReplicaKind
    entry_script: str | None = None
    source_directory: str | None = None
    model_dir: str | None = None
    command: tuple[str, ...] = ()
    image: str | None = None
    pod_template: Mapping[str, Any] | None = None
    workload_ref: WorkloadRef | None = None
    static: tuple[str, ...] = ()
    """`host:port` each."""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, SecretRef] = field(default_factory=dict)
    port: int = 5001
    score_path: str = "/score"
    health_path: str = "/"
    web_socket: bool = False
    """Replicas want `Upgrade: websocket` passed through; without it an upgrade is not forwarded."""


@dataclass(frozen=True, slots=True)
class AutoscalePolicy:
    """How many replicas a version gets. A fixed number is `enabled=False` with min = max = that number."""

    enabled: bool = True
    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: float = 0.70
    """Share of slots in use that scaling steers to, in (0, 1]."""
    refresh_period_s: float = 1.0
    scale_down_window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Resources:
    """Per replica. None = no limit."""

    cpu: float = 0.1
    cpu_limit: float | None = None
    memory_bytes: int = 500_000_000
    memory_limit_bytes: int | None = None
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class LivenessProbe:
    """Kubernetes semantics; the defaults are those of the v1 SDK."""

    period_s: float = 10.0
    initial_delay_s: float = 310.0
    timeout_s: float = 2.0
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class Version:
    """One model behind an endpoint."""

    name: str
    share: float
    """Effective fraction of the traffic, in [0, 1]; the shares of an endpoint sum to 1."""
    is_default: bool
    type: VersionType
    replica: ReplicaSource
    autoscale: AutoscalePolicy
    slots_per_replica: int = 1
    queue_wait_s: float = 0.5
    scoring_timeout_s: float = 60.0
    resources: Resources = field(default_factory=Resources)
    liveness: LivenessProbe = field(default_factory=LivenessProbe)
    collect_data: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one name on the front end stands for."""

    name: str
    auth: Auth
    versions: tuple[Version, ...]
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    retry: RetryRule = RetryRule.NEVER_BEGUN

    def version(self, name: str) -> Version | None:
        """The version of that name, or None."""
        return next((version for version in self.versions if version.name == name), None)

    @property
    def default(self) -> Version:
        """The version that unclaimed traffic goes to."""
        return next(version for version in self.versions if version.is_default)
