"""The declared object: pydantic models with the field names of the v1 REST payload, and the rules of single fields.

Rules between fields are in `serving.rules`. Types are strict ("5" is not 5, true is not 1; a whole number is accepted
as a number), unknown fields are refused, and null means the default.
"""

import ipaddress
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from serving.cors import DeclaredCors
from serving.data_collection import DataCollection
from serving.declared_model import DAY_S, DeclaredModel, FieldRule, Number
from serving.pod_fields import NodeSelector, ObjectName, PullSecrets, Tolerations
from serving.split_by import DeclaredSplitBy
from serving.token_issuers import MAX_ISSUERS, DeclaredTokenIssuer

API_VERSION: Final = "scorefront.io/v1alpha1"
KIND: Final = "ScoringEndpoint"
MAX_VERSIONS = 6
MAX_REPLICAS = 10_000
MAX_VARIABLES = 1000
MAX_SECRET_VARIABLES = 100


def valid_address(text: str) -> str:
    """`text` if it is `host:port` with an IPv4 address, an [IPv6] address or a DNS name. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise ValueError("port")
    if host.startswith("[") and host.endswith("]") and "%" not in host:
        ipaddress.IPv6Address(host[1:-1])
    elif re.fullmatch(r"[0-9.]+", host):
        ipaddress.IPv4Address(host)
    elif len(host) > 253 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", host):
        raise ValueError("host")
    return text


def valid_host(text: str) -> str:
    """`text` if it is a host as in `valid_address`, with or without a port. Raises ValueError."""
    valid_address(text if re.search(r":[0-9]+$", text) else f"{text}:80")
    return text


# Underscores are not for host names, but names of containers and cluster services have them.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]+$"


Name = Annotated[
    str,
    Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=3, max_length=32),
    FieldRule(
        "3 to 32 characters: lower-case letters, digits and dashes, beginning with a letter and ending with a letter or"
        " digit"
    ),
]
Namespace = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63),
    FieldRule("1 to 63 lower-case letters, digits and dashes, not beginning or ending with a dash"),
]
FilePath = Annotated[
    str,
    Field(pattern=_NO_CONTROL, max_length=4096),
    FieldRule("a path of 1 to 4096 characters without control characters"),
]
UrlPath = Annotated[
    str,
    Field(pattern=r"^/[\x21\x22\x24-\x3e\x40-\x7e]*$", max_length=1024),
    FieldRule('a path that begins with "/", at most 1024 visible ASCII characters, without spaces, "?" and "#"'),
]
Argument = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_768)]
EnvName = Annotated[str, Field(pattern=r"^[-._A-Za-z][-._A-Za-z0-9]*$", max_length=255)]
EnvValue = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_768)]
TextMap = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=256)], str],
    FieldRule('a mapping of text to text (put quotes around numbers: "1.0"), keys of 1 to 256 characters'),
]
Address = Annotated[str, AfterValidator(valid_address)]


HostHeader = Annotated[
    str,
    AfterValidator(valid_host),
    FieldRule('"host" or "host:port": IPv4, [IPv6] or DNS name, and a port from 1 to 65535'),
]


class Metadata(DeclaredModel):
    """Identity of the endpoint."""

    name: Name = Field(description="Name of the endpoint; part of its scoring URL.")
    namespace: Namespace | None = Field(None, description="Namespace in a cluster; without meaning on one machine.")
    labels: TextMap | None = Field(None, description="Labels for people and tools; scorefront does not read them.")
    annotations: TextMap | None = Field(None, description="Notes for people and tools; scorefront does not read them.")


class WorkloadReference(DeclaredModel):
    """An existing workload in the cluster."""

    kind: Literal["Deployment", "StatefulSet"] = Field(description="Kind of the workload.")
    name: ObjectName = Field(description="Name of the workload, in the namespace of the endpoint.")


class SecretKey(DeclaredModel):
    """One entry of a Secret."""

    secret: ObjectName = Field(description="Name of the Secret, in the namespace of the endpoint.")
    key: Annotated[
        str,
        Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253),
        FieldRule("1 to 253 letters, digits, dashes, underscores and dots"),
    ] = Field(description="Key in its data.")


class DeclaredReplica(DeclaredModel):
    """Source of the replicas of a version: exactly one of the six kinds, and their protocol settings."""

    entryScript: FilePath | None = Field(
        None,
        description="A Python file with init() and run(data), hosted by azureml-inference-server-http. Relative to"
        " sourceDirectory, else to the manifest.",
    )
    command: Annotated[
        list[Argument] | None,
        Field(min_length=1, max_length=1000),
        FieldRule(
            "a list of 1 to 1000 texts, the program first (not empty), each at most 32768 characters without NUL; put"
            ' quotes around numbers: "8000"'
        ),
    ] = Field(
        None,
        description='A program that serves HTTP, and its arguments. "{port}" in an argument becomes the port to listen'
        " on; the environment variable PORT says the same.",
    )
    image: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$", max_length=500),
        FieldRule("an image reference such as registry.example.com/model:1, at most 500 characters"),
    ] = Field(None, description="A container image that serves HTTP on `port` (cluster).")
    podTemplate: Annotated[
        dict[str, Any] | None, FieldRule("a mapping: a Kubernetes pod template with spec.containers")
    ] = Field(None, description="A whole Kubernetes pod template (cluster).")
    workloadRef: WorkloadReference | None = Field(
        None, description="A workload that exists already: adopted, and its number of replicas is set (cluster)."
    )
    static: Annotated[
        list[Address] | None,
        Field(min_length=1, max_length=1000),
        FieldRule('a list of 1 to 1000 addresses "host:port": IPv4, [IPv6] or DNS name, and a port from 1 to 65535'),
    ] = Field(None, description="Addresses of replicas that already run somewhere: routed to, never scaled.")
    sourceDirectory: FilePath | None = Field(
        None,
        description="Folder of entryScript, working directory of command. Relative to the manifest, whose folder is the"
        " default.",
    )
    modelDir: FilePath | None = Field(
        None, description="What AZUREML_MODEL_DIR says to entryScript or command. Relative to the manifest."
    )
    environment: FilePath | None = Field(
        None,
        description="Packages of entryScript: a file of requirements (.txt), a conda file (.yml, .yaml), or the path of"
        " a Python that has them. Relative to the manifest. Default: those of scorefront's Python.",
    )
    env: Annotated[
        dict[EnvName, EnvValue],
        Field(max_length=MAX_VARIABLES),
        FieldRule(
            f"a mapping of at most {MAX_VARIABLES} environment variables: names of letters, digits, '_', '-' and '.',"
            " no digit first; values that are text without NUL, at most 32768 characters (put quotes around numbers:"
            ' "8000")'
        ),
    ] = Field(
        default_factory=dict,
        description='Environment variables of the replica. On one machine "${NAME}" takes NAME from the environment of'
        " `scorefront up`.",
    )
    secretEnv: Annotated[
        dict[EnvName, SecretKey],
        Field(max_length=MAX_SECRET_VARIABLES),
        FieldRule(
            f"a mapping of at most {MAX_SECRET_VARIABLES} environment variables to {{secret, key}}: names of letters,"
            " digits, '_', '-' and '.', no digit first"
        ),
    ] = Field(default_factory=dict, description="Environment variables whose values are entries of Secrets (cluster).")
    imagePullSecrets: PullSecrets | None = Field(None, description="Credentials for the registry of image (cluster).")
    nodeSelector: NodeSelector | None = Field(None, description="Labels of the nodes that may run it (cluster).")
    tolerations: Tolerations | None = Field(None, description="Taints of nodes that may run it (cluster).")
    runAsNonRoot: bool | None = Field(
        None,
        json_schema_extra={"default": True},
        description="Refuse an image that runs as root. False: the user and capabilities of the image (cluster).",
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        json_schema_extra={"default": 5001},
        description="Port the container listens on (cluster). On one machine ports are chosen by scorefront.",
    )
    scorePath: UrlPath = Field("/score", description="What /score on the front end becomes on the replica.")
    healthPath: UrlPath = Field(
        "/", description="Readiness: a replica takes requests once GET on this path answers 2xx in time."
    )
    hostHeader: HostHeader | None = Field(
        None,
        description="Value of the Host field for static replicas, scored and probed. Default: the client's.",
    )
    webSocket: bool = Field(False, description="Pass `Upgrade: websocket` through to the replica.")


class AutoScaler(DeclaredModel):
    """Scaling of the number of replicas by load."""

    autoscaleEnabled: bool | None = Field(
        None, description="Scale with the load. Default: true, or false where numReplicas is given."
    )
    minReplicas: int | None = Field(
        None, ge=1, le=MAX_REPLICAS, json_schema_extra={"default": 1}, description="Replicas there are at least."
    )
    maxReplicas: int | None = Field(
        None, ge=1, le=MAX_REPLICAS, json_schema_extra={"default": 10}, description="Replicas there are at most."
    )
    targetUtilization: int | None = Field(
        None,
        ge=1,
        le=100,
        json_schema_extra={"default": 70},
        description="Percent of the slots in use that scaling steers to.",
    )
    refreshPeriodInSeconds: int | None = Field(
        None,
        ge=1,
        le=3600,
        json_schema_extra={"default": 1},
        description="Seconds between two looks at the load; a request that finds no free slot is looked at at once.",
    )
    scaleDownWindowInSeconds: int | None = Field(
        None,
        ge=1,
        le=DAY_S,
        json_schema_extra={"default": 60},
        description="Seconds for which fewer replicas must have been enough before any is given back.",
    )


SCALER_DEFAULTS: dict[str, int] = {
    name: extra["default"]
    for name, info in AutoScaler.model_fields.items()
    if isinstance(extra := info.json_schema_extra, dict) and isinstance(extra["default"], int)
}
"""Field of `autoScaler` -> its default. The models hold None instead, to distinguish explicit values."""

DEFAULT_PORT = 5001


class DeclaredResources(DeclaredModel):
    """Resources of one replica."""

    cpu: Number = Field(0.1, gt=0, le=10_000, allow_inf_nan=False, description="Cores a replica is given.")
    cpuLimit: Number | None = Field(
        None, gt=0, le=10_000, allow_inf_nan=False, description="Cores a replica may use at most; default: no limit."
    )
    memoryInGB: Number = Field(
        0.5, gt=0, le=100_000, allow_inf_nan=False, description="Memory a replica is given, in GB (10^9 bytes)."
    )
    memoryInGBLimit: Number | None = Field(
        None,
        gt=0,
        le=100_000,
        allow_inf_nan=False,
        description="Memory a replica may use at most, in GB (10^9 bytes); default: no limit.",
    )
    gpu: int = Field(0, ge=0, le=1000, description="GPUs a replica is given.")


class DeclaredProbe(DeclaredModel):
    """Rule for restarting an unresponsive replica."""

    periodSeconds: int = Field(10, ge=1, le=DAY_S, description="Seconds between two probes.")
    initialDelaySeconds: int = Field(310, ge=0, le=DAY_S, description="Seconds after the start before the first probe.")
    timeoutSeconds: int = Field(2, ge=1, le=DAY_S, description="Seconds a probe may take.")
    successThreshold: int = Field(1, ge=1, le=1000, description="Successes in a row after which it counts as alive.")
    failureThreshold: int = Field(3, ge=1, le=1000, description="Failures in a row after which it counts as dead.")


class DeclaredVersion(DeclaredModel):
    """One version: a model deployment behind the endpoint."""

    name: Name = Field(description="Name of the version, unique in the endpoint.")
    trafficPercentile: Number = Field(
        0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Percent of the traffic. At most 100 over all versions; the default version gets the rest.",
    )
    isDefault: bool = Field(
        False, description="Gets the traffic no version claims. At most one version; the first if none says so."
    )
    type: Literal["Control", "Treatment"] = Field(
        "Treatment", description="Role in an experiment; at most one version is the Control."
    )
    replica: DeclaredReplica = Field(description="Where its replicas come from.")
    autoScaler: AutoScaler = Field(
        default_factory=lambda: AutoScaler(), description="How the number of replicas follows the load."
    )
    numReplicas: int | None = Field(
        None, ge=1, le=MAX_REPLICAS, description="A fixed number of replicas, instead of autoscaling."
    )
    maxConcurrentRequestsPerContainer: int = Field(
        1, ge=1, le=1000, description="Slots of a replica: requests it may have in flight."
    )
    maxQueueWaitMs: int = Field(
        500, ge=1, le=300_000, description="Milliseconds a request may wait for a slot before it is answered 503."
    )
    scoringTimeoutMs: int = Field(
        60_000,
        ge=1,
        le=300_000,
        description="Milliseconds from the slot to the end of the response; then 504. With streamIdleTimeoutMs: to the"
        " first byte of the response.",
    )
    streamIdleTimeoutMs: int | None = Field(
        None,
        ge=1,
        le=3_600_000,
        description="Streamed responses: longest gap in milliseconds. The response may then last up to an hour.",
    )
    containerResourceRequirements: DeclaredResources = Field(
        default_factory=lambda: DeclaredResources(), description="What one replica may use."
    )
    livenessProbeRequirements: DeclaredProbe = Field(
        default_factory=lambda: DeclaredProbe(), description="When a replica is taken for dead."
    )
    dataCollection: DataCollection = Field(
        default_factory=lambda: DataCollection(), description="Whether requests and responses are kept."
    )


class Spec(DeclaredModel):
    """Desired state of the endpoint."""

    description: str = Field("", max_length=10_000, description="For people.")
    kvTags: TextMap = Field(default_factory=dict, description="Tags for people and tools; may be changed.")
    properties: TextMap = Field(default_factory=dict, description="Facts for people and tools.")
    authEnabled: bool | None = Field(
        None, description="Demand one of the two keys. Default: true, or false where tokenAuthEnabled is true."
    )
    tokenAuthEnabled: bool = Field(False, description="Demand a token; excludes authEnabled.")
    tokenIssuers: Annotated[
        list[DeclaredTokenIssuer], Field(max_length=MAX_ISSUERS), FieldRule(f"a list of at most {MAX_ISSUERS} issuers")
    ] = Field(
        default_factory=list,
        description="Issuers whose tokens are accepted beside scorefront's own; goes with tokenAuthEnabled.",
    )
    cors: DeclaredCors | None = Field(
        None, description="Scripts of browsers that may call from other origins; default: none."
    )
    splitBy: DeclaredSplitBy | None = Field(
        None,
        description="Choose the version by a header field or a cookie: the same value meets the same version while the"
        " shares stand. Default, and for requests without the value: by chance.",
    )
    appInsightsEnabled: bool = Field(
        False,
        description="Export a request record and a span for each request, and continue its trace to the replica.",
    )
    retry: Literal["neverBegun", "beforeResponse"] = Field(
        "neverBegun",
        description="When a request may be sent to a second replica: only where the first cannot have begun it, or also"
        " later, as long as nothing of a response has come (for a tenth of the requests at most).",
    )
    # Their number is checked in serving.rules: pydantic would stop at it and hide the faults inside.
    versions: list[DeclaredVersion] = Field(
        json_schema_extra={"minItems": 1, "maxItems": MAX_VERSIONS},
        description=f"The models behind the endpoint, 1 to {MAX_VERSIONS}.",
    )


class ScoringEndpoint(DeclaredModel):
    """A scoring endpoint: a named scoring service with up to six versions of a model."""

    apiVersion: Literal["scorefront.io/v1alpha1"] = Field(description="Version of this format.")
    kind: Literal["ScoringEndpoint"] = Field(description="Kind of this object.")
    metadata: Metadata = Field(description="Name of the endpoint and notes on it.")
    spec: Spec = Field(description="What the endpoint is to be.")
