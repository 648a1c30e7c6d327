"""The View of an endpoint in REST: its manifest with defaults filled in, plus its status."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoscaler.policy import Observation
from controlplane.answers import StatusAnswer, VersionStatusAnswer
from controlplane.cluster_view import ClusterView, Shortfall, shortfalls
from controlplane.registry import DeclaredEndpoint
from serving.endpoint import Endpoint, Version, VersionKey
from serving.manifest import to_document
from serving.replica import ReplicaState

LOG_LINES = 10
"""Log lines of a replica shown with a version that is not ready."""


@dataclass(frozen=True, slots=True)
class ViewSources:
    """Sources of the status of endpoints."""

    view: ClusterView
    scoring_url: str
    """`http://host:port` of the routers."""
    observe: Callable[[Version, VersionKey], Observation]
    desired: Callable[[Version, VersionKey], int]
    trouble: Callable[[str], str]
    notes: Callable[[Endpoint], list[str]]


def to_view(declared: DeclaredEndpoint, sources: ViewSources, log_tails: dict[VersionKey, list[str]]) -> dict[str, Any]:
    """The View of one endpoint.

    declared: the endpoint.
    sources: of its status.
    log_tails: last log lines of versions that are not ready.
    """
    endpoint = declared.endpoint
    missing = {shortfall.key: shortfall for shortfall in shortfalls((endpoint,), sources.view)}
    base = f"{sources.scoring_url}/api/v1/service/{endpoint.name}"
    trouble = sources.trouble(endpoint.name)
    versions = {}
    for version in endpoint.versions:
        key = VersionKey(endpoint.name, version.name)
        shortfall = missing.get(key)
        message = explain(shortfall, trouble, log_tails.get(key, [])) or _hindrance(key, sources.view)
        versions[version.name] = _version_status(version, key, sources, message)
    status = StatusAnswer(
        ready=not missing,
        scoring_uri=f"{base}/score",
        swagger_uri=f"{base}/swagger.json",
        auth=endpoint.auth,
        notes=sources.notes(endpoint),
        versions=versions,
    )
    return {**to_document(declared.manifest), "status": status.document()}


def _hindrance(key: VersionKey, view: ClusterView) -> str:
    """The reason of replicas that fail or have no room while enough others are ready: a new model that does not start
    while the previous one serves, or a scale-up that the machine is too small for."""
    facts = view.facts(key)
    return view.message(key) if facts.unplaced or view.counts(key)[ReplicaState.FAILED] else ""


def explain(shortfall: Shortfall | None, trouble: str, log_tail: list[str]) -> str:
    """The reason why a version is not as declared, as text for people; '' if it is.

    shortfall: None if enough replicas are ready.
    trouble: last error of the provider, or ''.
    log_tail: last log lines of a replica.
    """
    if shortfall is None:
        return trouble
    reason = shortfall.message
    # The reason of a provider may already quote the log.
    tail = [] if "\n" in reason else log_tail
    if not reason and not trouble:
        reason = "starting; its last log lines:" if tail else "starting"
    return "\n".join(part for part in (trouble, reason, *tail) if part)


def _version_status(version: Version, key: VersionKey, sources: ViewSources, message: str) -> VersionStatusAnswer:
    counts = sources.view.counts(key)
    usage = sources.observe(version, key)
    total = sources.view.ready_slots(key)
    return VersionStatusAnswer(
        share=version.share,
        desired=sources.desired(version, key),
        **{state.value: counts[state] for state in ReplicaState},
        busy=usage.busy,
        total=total,
        waiting=usage.waiting,
        utilization=usage.busy / total if total else 0.0,
        is_default=version.is_default,
        type=version.type,
        message=message,
    )
