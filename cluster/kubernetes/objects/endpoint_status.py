"""The status of a ScoringEndpoint: counts, and conditions that keep their time until their status changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.objects.keys import incarnation_of, part_of
from cluster.kubernetes.objects.labels import selector
from serving.credentials import KeyDigests
from serving.endpoint import VersionKey

READY, PROGRESSING, DEGRADED = "Ready", "Progressing", "Degraded"
SCALING_LIMITED, SCALING_CONFLICT = "ScalingLimited", "ScalingConflict"
PAYLOADS_DROPPED = "PayloadsDropped"
CONDITIONS = (READY, PROGRESSING, SCALING_LIMITED, SCALING_CONFLICT, PAYLOADS_DROPPED, DEGRADED)
LONGEST_MESSAGE = 2048
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """State of one version. Texts are for people; "" means none."""

    name: str
    ready: int = 0
    desired: int = 0
    busy: int = 0
    """Slots in use now, over all routers."""
    waiting: int = 0
    """Requests that wait for a slot now."""
    needed: int = 1
    """Ready replicas required for a ready endpoint."""
    selector: str | None = None
    """Label selector of its pods; None stands for the labels of a Deployment that scorefront makes."""
    message: str = ""
    """Why fewer are ready than desired."""
    updating: bool = False
    """Replicas of an older template are being replaced."""
    limited: str = ""
    """Why replicas that are wanted find no room, or are refused."""
    limited_reason: str = "NoRoom"
    """One CamelCase word for it: NoRoom or PodsRefused."""
    conflict: str = ""
    """The other client that sets the number of its workload."""
    dropping: str = ""
    """Loss of collected payloads."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason for not running the declared state."""

    reason: str
    """One CamelCase word."""
    message: str


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Everything in a status, at one time."""

    endpoint: str
    generation: int
    """`metadata.generation` of the object that was looked at."""
    versions: tuple[VersionStatus, ...] = ()
    default_version: str = ""
    scoring_uri: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    """`keys.digests_of`; empty if no key is required."""
    trouble: Trouble | None = None
    incarnation: str = ""
    """`keys.incarnation_of`: named by every valid token."""


def status_of(previous: Mapping[str, Any] | None, seen: EndpointStatus, now: str) -> dict[str, Any]:
    """The new `status`; equal to `previous` if nothing has changed. `now` is RFC 3339 in UTC."""
    ready = sum(version.ready for version in seen.versions)
    desired = sum(version.desired for version in seen.versions)
    before = {condition["type"]: condition for condition in (previous or {}).get("conditions") or ()}
    status = {
        "observedGeneration": seen.generation,
        "conditions": [
            _condition(type_, finding, before.get(type_), seen.generation, now)
            for type_, finding in _findings(seen).items()
        ],
        "ready": f"{ready}/{desired}",
        "replicas": ready,
        "defaultVersion": seen.default_version,
        "scoringUri": seen.scoring_uri,
        "versions": [_version(seen.endpoint, version) for version in seen.versions],
        "keys": dict(seen.keys),
        "incarnation": seen.incarnation,
    }
    return {name: value for name, value in status.items() if value not in ("", {})}


def digests_of(cr: Mapping[str, Any]) -> KeyDigests | None:
    """The digests of the keys that open the endpoint of `cr`, and its incarnation; None until the leader writes them.

    A text that is no SHA-256, and an incarnation of another uid (a status copied from another object), are ignored.
    """
    metadata, status = cr["metadata"], cr.get("status") or {}
    written = status.get("keys") or {}
    digests = tuple(_digests(written.get(name) for name in ("primarySha256", "secondarySha256")))
    incarnation = str(status.get("incarnation") or "")
    if not part_of(incarnation) or incarnation != incarnation_of(metadata.get("uid", ""), part_of(incarnation)):
        incarnation = ""
    return KeyDigests(metadata["name"], digests, incarnation) if digests or incarnation else None


def selectors_of(cr: Mapping[str, Any]) -> dict[str, str]:
    """Version name -> label selector of its pods, from the status."""
    versions = (cr.get("status") or {}).get("versions") or ()
    return {version["name"]: version["selector"] for version in versions if version.get("selector")}


def _digests(texts: Iterable[Any]) -> Iterable[bytes]:
    for text in texts:
        try:
            digest = bytes.fromhex(text or "")
        except (TypeError, ValueError):
            continue
        if len(digest) == DIGEST_BYTES:
            yield digest


def _version(endpoint: str, version: VersionStatus) -> dict[str, Any]:
    of_pods = version.selector
    if of_pods is None:
        of_pods = selector(VersionKey(endpoint, version.name))
    return {
        "name": version.name,
        "ready": version.ready,
        "desired": version.desired,
        "busy": version.busy,
        "waiting": version.waiting,
        "selector": of_pods,
    }


@dataclass(frozen=True, slots=True)
class _Finding:
    """Status, reason and message of one condition."""

    holds: bool
    reason: str
    message: str = ""


def _findings(seen: EndpointStatus) -> dict[str, _Finding]:
    """All conditions, in display order."""
    return {
        READY: _ready(seen),
        PROGRESSING: _progressing(seen),
        SCALING_LIMITED: _listed(
            {version.name: version.limited for version in seen.versions},
            next((version.limited_reason for version in seen.versions if version.limited), ""),
            "RoomForAll",
        ),
        SCALING_CONFLICT: _listed(
            {version.name: version.conflict for version in seen.versions}, "ScaledByAnother", "ScaledByScorefront"
        ),
        PAYLOADS_DROPPED: _listed(
            {version.name: version.dropping for version in seen.versions}, "StoreFails", "AllStored"
        ),
        DEGRADED: _degraded(seen.trouble),
    }


def _ready(seen: EndpointStatus) -> _Finding:
    missing = [version for version in seen.versions if version.ready < version.needed]
    if missing:
        texts = (
            f"{version.name}: {version.ready} of {version.needed} ready: {version.message or 'starting'}"
            for version in missing
        )
        return _Finding(False, "ReplicasMissing", "; ".join(texts))
    if not seen.versions:
        return _Finding(False, seen.trouble.reason if seen.trouble else "NotReconciled", "nothing of it runs yet")
    return _Finding(True, "ReplicasReady")


def _progressing(seen: EndpointStatus) -> _Finding:
    moving = [version for version in seen.versions if version.updating or version.ready != version.desired]
    if not moving:
        return _Finding(False, "AsDesired")
    texts = (f"{version.name}: {version.ready} ready, {version.desired} desired" for version in moving)
    reason = "Updating" if any(version.updating for version in moving) else "Scaling"
    return _Finding(True, reason, "; ".join(texts))


def _listed(by_version: Mapping[str, str], bad: str, good: str) -> _Finding:
    texts = [f"{name}: {text}" for name, text in by_version.items() if text]
    return _Finding(True, bad, "; ".join(texts)) if texts else _Finding(False, good)


def _degraded(trouble: Trouble | None) -> _Finding:
    return _Finding(True, trouble.reason, trouble.message) if trouble else _Finding(False, "AsDeclared")


def _condition(
    type_: str, finding: _Finding, before: Mapping[str, Any] | None, generation: int, now: str
) -> dict[str, Any]:
    status = "True" if finding.holds else "False"
    unmoved = before is not None and before.get("status") == status
    return {
        "type": type_,
        "status": status,
        "reason": finding.reason,
        "message": finding.message[:LONGEST_MESSAGE],
        "lastTransitionTime": before.get("lastTransitionTime", now) if before and unmoved else now,
        "observedGeneration": generation,
    }
