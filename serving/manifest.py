"""Parsing of the declared object: documents of users in, Endpoints out.

The border of the domain: percent, milliseconds and GB end here. The models are in `serving.models`, the rules between
fields in `serving.rules`.
"""

from pydantic import ValidationError

from serving.cors import DeclaredCors
from serving.data_collection import DataCollection
from serving.document import as_declared, default_version, key_auth, resolve_paths, scaler_settings, to_document
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Cors,
    Endpoint,
    ForeignIssuer,
    LivenessProbe,
    PayloadCollection,
    PodFields,
    ReplicaKind,
    ReplicaSource,
    Resources,
    RetryRule,
    SecretRef,
    SplitBy,
    Version,
    VersionType,
    WorkloadRef,
)
from serving.faults import Fault, InvalidManifest, Path
from serving.models import DEFAULT_PORT, DeclaredReplica, DeclaredVersion, ScoringEndpoint
from serving.models import DeclaredResources as DeclaredResources
from serving.plain import plain
from serving.rules import broken_rules
from serving.schema import json_schema
from serving.split_by import DeclaredSplitBy
from serving.traffic import effective_shares
from serving.validation_messages import complaints

__all__ = ["ScoringEndpoint", "json_schema", "parse", "resolve_paths", "to_document", "to_endpoint"]

BYTES_PER_GB = 10**9


def parse(document: object, subject: str = "") -> ScoringEndpoint:
    """Check a document, decoded from YAML or JSON, against every rule.

    What a server adds is dropped (`serving.document.as_declared`), so that the output of `get -o yaml`, and of kubectl,
    can be applied again. `subject`: name of the document for the error, e.g. a file name. Raises InvalidManifest with
    every fault.
    """
    try:
        content, unsayable = plain(as_declared(document))
    except InvalidManifest as error:
        raise InvalidManifest(error.faults, subject) from None
    found: dict[Path, list[Fault]] = {}
    declared: ScoringEndpoint | None = None
    try:
        declared = ScoringEndpoint.model_validate(content)
    except ValidationError as error:
        for path, fault in complaints(error):
            found.setdefault(path, []).append(fault)
    for path, fault in unsayable.items():
        found.setdefault(path, [fault])
    faults = [fault for at_path in found.values() for fault in at_path]
    faults += broken_rules(content, frozenset(found))
    if faults or declared is None:
        raise InvalidManifest(tuple(faults), subject)
    return declared


def to_endpoint(declared: ScoringEndpoint) -> Endpoint:
    """The domain record of a declared object: fractions, seconds, bytes; shares, default version and auth resolved."""
    spec = declared.spec
    default = default_version(declared)
    shares = effective_shares({version.name: version.trafficPercentile for version in spec.versions}, default)
    return Endpoint(
        name=declared.metadata.name,
        auth=Auth.TOKEN if spec.tokenAuthEnabled else Auth.KEY if key_auth(declared) else Auth.NONE,
        versions=tuple(_version(version, shares[version.name], version.name == default) for version in spec.versions),
        description=spec.description,
        tags=dict(spec.kvTags),
        properties=dict(spec.properties),
        retry=RetryRule(spec.retry),
        cors=_cors(spec.cors),
        split_by=_split_by(spec.splitBy),
        app_insights=spec.appInsightsEnabled,
        token_issuers=tuple(
            ForeignIssuer(each.issuer, each.audience, each.jwksUri or "", tuple(sorted(each.claims.items())))
            for each in spec.tokenIssuers
        ),
    )


def _cors(declared: DeclaredCors | None) -> Cors | None:
    if declared is None:
        return None
    return Cors(tuple(declared.allowOrigins), tuple(declared.allowHeaders), declared.maxAgeSeconds)


def _split_by(declared: DeclaredSplitBy | None) -> SplitBy | None:
    return None if declared is None else SplitBy(declared.header or "", declared.cookie or "")


def _version(declared: DeclaredVersion, share: float, is_default: bool) -> Version:
    probe = declared.livenessProbeRequirements
    return Version(
        name=declared.name,
        share=share,
        is_default=is_default,
        type=VersionType(declared.type),
        replica=_source(declared.replica),
        autoscale=_policy(declared),
        slots_per_replica=declared.maxConcurrentRequestsPerContainer,
        queue_wait_s=declared.maxQueueWaitMs / 1000,
        scoring_timeout_s=declared.scoringTimeoutMs / 1000,
        stream_idle_timeout_s=None if declared.streamIdleTimeoutMs is None else declared.streamIdleTimeoutMs / 1000,
        resources=_resources(declared.containerResourceRequirements),
        liveness=LivenessProbe(
            period_s=float(probe.periodSeconds),
            initial_delay_s=float(probe.initialDelaySeconds),
            timeout_s=float(probe.timeoutSeconds),
            success_threshold=probe.successThreshold,
            failure_threshold=probe.failureThreshold,
        ),
        collection=_collection(declared.dataCollection),
    )


def _collection(declared: DataCollection) -> PayloadCollection | None:
    if not declared.storageEnabled:
        return None
    return PayloadCollection(declared.samplingPercent / 100, declared.maxBodyBytes)


def _source(replica: DeclaredReplica) -> ReplicaSource:
    reference = replica.workloadRef
    return ReplicaSource(
        kind=next(kind for kind in ReplicaKind if getattr(replica, kind.value) is not None),
        entry_script=replica.entryScript,
        source_directory=replica.sourceDirectory,
        model_dir=replica.modelDir,
        environment=replica.environment,
        command=tuple(replica.command or ()),
        image=replica.image,
        pod=_pod(replica),
        pod_template=replica.podTemplate,
        workload_ref=WorkloadRef(reference.kind, reference.name) if reference else None,
        static=tuple(replica.static or ()),
        env=dict(replica.env),
        secret_env={name: SecretRef(entry.secret, entry.key) for name, entry in replica.secretEnv.items()},
        port=DEFAULT_PORT if replica.port is None else replica.port,
        score_path=replica.scorePath,
        health_path=replica.healthPath,
        host_header=replica.hostHeader or "",
        web_socket=replica.webSocket,
    )


def _pod(replica: DeclaredReplica) -> PodFields:
    return PodFields(
        pull_secrets=tuple(each.name for each in replica.imagePullSecrets or ()),
        node_selector=dict(replica.nodeSelector or {}),
        tolerations=tuple(each.model_dump(exclude_none=True) for each in replica.tolerations or ()),
        run_as_non_root=replica.runAsNonRoot is not False,
    )


def _policy(declared: DeclaredVersion) -> AutoscalePolicy:
    settings = scaler_settings(declared)
    if settings is None or not settings["autoscaleEnabled"]:
        fixed = declared.numReplicas or len(declared.replica.static or ())
        return AutoscalePolicy(enabled=False, min_replicas=fixed, max_replicas=fixed)
    return AutoscalePolicy(
        enabled=True,
        min_replicas=settings["minReplicas"],
        max_replicas=settings["maxReplicas"],
        target_utilization=settings["targetUtilization"] / 100,
        refresh_period_s=float(settings["refreshPeriodInSeconds"]),
        scale_down_window_s=float(settings["scaleDownWindowInSeconds"]),
    )


def _resources(declared: DeclaredResources) -> Resources:
    memory_limit = declared.memoryInGBLimit
    return Resources(
        cpu=float(declared.cpu),
        cpu_limit=None if declared.cpuLimit is None else float(declared.cpuLimit),
        memory_bytes=_bytes(declared.memoryInGB),
        memory_limit_bytes=None if memory_limit is None else _bytes(memory_limit),
        gpu=declared.gpu,
    )


def _bytes(gigabytes: float) -> int:
    return max(1, round(gigabytes * BYTES_PER_GB))
