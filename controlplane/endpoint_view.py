"""The View of an endpoint in REST: its manifest with defaults filled in, plus its status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.policy import Observation
from cluster.provider import Problem
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
    """Endpoint -> last error of the provider."""
    degraded: Callable[[str], str]
    """Endpoint -> why it does not run as declared; "" if it does."""
    version_trouble: Callable[[VersionKey], str]
    """Version -> the part of that error about it."""
    problems: Callable[[VersionKey], Mapping[Problem, str]]
    """Version -> problems known to the provider."""
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
    versions = {}
    for version in endpoint.versions:
        key = VersionKey(endpoint.name, version.name)
        problems = problems_of(key, sources)
        message = explain(missing.get(key), problems, log_tails.get(key, []))
        versions[version.name] = _version_status(version, key, sources, message, problems)
    status = StatusAnswer(
        ready=not missing,
        scoring_uri=f"{base}/score",
        swagger_uri=f"{base}/swagger.json",
        auth=endpoint.auth,
        notes=sources.notes(endpoint),
        degraded=sources.degraded(endpoint.name),
        versions=versions,
    )
    return {**to_document(declared.manifest), "status": status.document()}


def problems_of(
    key: VersionKey, sources: ViewSources, counts: Mapping[ReplicaState, int] | None = None
) -> dict[Problem, str]:
    """Problems of a version, the most severe first: word -> reason.

    Also while enough replicas are ready: a new model that does not start while the previous one serves, or a scale-up
    that there is no room for.

    key: of the version.
    sources: of its status.
    counts: its replicas by state; None: out of `sources`.
    """
    found = dict(sources.problems(key))
    if trouble := sources.version_trouble(key):
        found[Problem.REFUSED] = trouble
    counts = counts if counts is not None else sources.view.counts(key)
    if counts[ReplicaState.FAILED] or counts[ReplicaState.STARTING]:  # others are placed, and do not fail
        facts, message = sources.view.facts(key), sources.view.message(key)
        if facts.unplaced:
            found.setdefault(Problem.LIMITED, message)
        if facts.failing or counts[ReplicaState.FAILED]:
            found[Problem.FAILING] = message
    return {word: found[word] for word in Problem if word in found}


def explain(shortfall: Shortfall | None, problems: Mapping[Problem, str], log_tail: list[str]) -> str:
    """The reason why a version is not as declared, as text for people; '' if it is.

    shortfall: None if enough replicas are ready.
    problems: of `problems_of`.
    log_tail: last log lines of a replica.
    """
    reason = shortfall.message if shortfall is not None else ""
    texts = [text for text in dict.fromkeys(problems.values()) if text and text not in reason]
    # The reason of a provider may already quote the log.
    tail = log_tail if shortfall is not None and "\n" not in reason else []
    if shortfall is not None and not reason and not texts:
        reason = "starting; its last log lines:" if tail else "starting"
    return "\n".join(part for part in (*texts, reason, *tail) if part)


def _version_status(
    version: Version, key: VersionKey, sources: ViewSources, message: str, problems: Mapping[Problem, str]
) -> VersionStatusAnswer:
    """The status of one version.

    version: as declared, with its `key`.
    sources: of its status.
    message: of `explain`.
    problems: of `problems_of`.
    """
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
        problems={word.value: reason for word, reason in problems.items()},
    )
