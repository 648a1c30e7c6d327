"""The domain records: an Endpoint, its Versions and the source of their replicas.

`serving.manifest` makes these from a valid document; nothing here repeats its validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class VersionKey(NamedTuple):
    """Key of a version: endpoint name and version name."""

    endpoint: str
    version: str

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.version}"


class Auth(StrEnum):
    """Kind of credential that an endpoint demands."""

    KEY = "key"
    TOKEN = "token"
    NONE = "none"


class VersionType(StrEnum):
    """Role of a version in an experiment; at most one is the control."""

    CONTROL = "Control"
    TREATMENT = "Treatment"


class RetryRule(StrEnum):
    """Condition for sending a request to a second replica."""

    NEVER_BEGUN = "neverBegun"
    """The replica cannot have begun it."""
    BEFORE_RESPONSE = "beforeResponse"
    """Sent or not, while no byte of a response has arrived."""


class ReplicaKind(StrEnum):
    """The six sources of replicas; the values are the manifest's field names."""

    ENTRY_SCRIPT = "entryScript"
    COMMAND = "command"
    IMAGE = "image"
    POD_TEMPLATE = "podTemplate"
    WORKLOAD_REF = "workloadRef"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """An existing workload to adopt."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One entry of a Secret."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class PodFields:
    """Fields of the pods made from an image."""

    pull_secrets: tuple[str, ...] = ()
    """Names of Secrets."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """As in a pod."""
    run_as_non_root: bool = True
    """False: user and capabilities are the choice of the image."""


@dataclass(frozen=True, slots=True)
class ReplicaSource:
    """Source of the replicas of a version; only the fields of its `kind` are set. Paths are absolute."""

    kind: ReplicaKind
    entry_script: str | None = None
    source_directory: str | None = None
    model_dir: str | None = None
    environment: str | None = None
    """Requirements, conda file or interpreter of an entry script; None: the interpreter of scorefront."""
    command: tuple[str, ...] = ()
    image: str | None = None
    pod: PodFields = PodFields()
    pod_template: Mapping[str, Any] | None = None
    workload_ref: WorkloadRef | None = None
    static: tuple[str, ...] = ()
    """`host:port` each."""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, SecretRef] = field(default_factory=dict)
    port: int = 5001
    score_path: str = "/score"
    health_path: str = "/"
    host_header: str = ""
    """Value of Host for static replicas; "": that of the client."""
    web_socket: bool = False
    """`Upgrade: websocket` is passed through; otherwise upgrades are not forwarded."""


@dataclass(frozen=True, slots=True)
class AutoscalePolicy:
    """Number of replicas of a version. A fixed number is `enabled=False` with min = max = that number."""

    enabled: bool = True
    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: float = 0.70
    """Target of scaling: share of slots in use, in (0, 1]."""
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
class PayloadCollection:
    """Collection of the requests and responses of a version."""

    sampling: float = 1.0
    """Share of the requests, in [0, 1]."""
    max_body_bytes: int = 4_000_000
    """Longest body within a record."""


SERVER_TIMEOUT_VARIABLE = "SCORING_TIMEOUT_MS"
"""Setting of the inference server: it ends a call of `run` after so many milliseconds."""
LONGEST_STREAM_S = 3600.0
"""Longest streamed response of a version with a stream idle timeout, from its slot."""
SERVER_TIMEOUT_MARGIN_MS = 200


@dataclass(frozen=True, slots=True)
class Version:
    """One model deployment behind an endpoint."""

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
    collection: PayloadCollection | None = None
    """None: requests and responses are not kept."""
    stream_idle_timeout_s: float | None = None
    """Longest gap of a streamed response; None: the scoring timeout applies to its end."""

    @property
    def longest_request_s(self) -> float:
        """Longest time for which a request may hold a slot."""
        return self.scoring_timeout_s if self.stream_idle_timeout_s is None else LONGEST_STREAM_S

    @property
    def server_timeout_ms(self) -> int:
        """Scoring timeout of the inference server: a little above that of the router, whose 504 comes first."""
        return round(self.scoring_timeout_s * 1000) + SERVER_TIMEOUT_MARGIN_MS


@dataclass(frozen=True, slots=True)
class Cors:
    """Permission for scripts of browsers to call an endpoint from other origins."""

    allow_origins: tuple[str, ...]
    """Origins, with `*.` for subdomains, or `*` alone."""
    allow_headers: tuple[str, ...]
    """Request fields, or `*` alone."""
    max_age_s: int
    """Time for which browsers may keep the permission."""


@dataclass(frozen=True, slots=True)
class SplitBy:
    """The value of a request by which its version is chosen; one of the two is set."""

    header: str = ""
    """Name of a header field."""
    cookie: str = ""
    """Name of a cookie."""


OPENID_CONFIGURATION = "/.well-known/openid-configuration"


KEYS_URL_PATTERN = r"^(https://[A-Za-z0-9\[]|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?/)[!-~]*$"
"""URL of the public keys of a token issuer. Not beside its model: pydantic takes 10 MB, and each worker has this."""


@dataclass(frozen=True, slots=True)
class ForeignIssuer:
    """A foreign issuer whose tokens an endpoint accepts."""

    issuer: str
    audience: str
    jwks_uri: str = ""
    """"": as its OpenID configuration says."""
    claims: tuple[tuple[str, str], ...] = ()
    """(name, value) of further claims of every token."""

    @property
    def source(self) -> str:
        """URL of its keys, or of its OpenID configuration."""
        return self.jwks_uri or self.issuer.rstrip("/") + OPENID_CONFIGURATION


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One named scoring service and its versions."""

    name: str
    auth: Auth
    versions: tuple[Version, ...]
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    retry: RetryRule = RetryRule.NEVER_BEGUN
    cors: Cors | None = None
    """None: only scripts of its own origin may call it."""
    split_by: SplitBy | None = None
    """None: the version of a request is chosen by chance."""
    token_issuers: tuple[ForeignIssuer, ...] = ()
    """Beside scorefront itself."""
    app_insights: bool = False
    """Request records and spans are wanted."""

    def version(self, name: str) -> Version | None:
        """The version with this name, or None."""
        return next((version for version in self.versions if version.name == name), None)

    @property
    def default(self) -> Version:
        """The version that gets unclaimed traffic."""
        return next(version for version in self.versions if version.is_default)
