"""The rule for writing a workload of a version. Pure: objects as read go in, refusals come out.

Made workload       absent, or its controller owner is the uid of the version's ScoringEndpoint.
Adopted workload    no controller owner, no claim of another uid, no labels of another version, no part of scorefront.
Pod                 its controller owner is the workload, or the ReplicaSet of the workload.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.objects.deployment import MADE, workload_of
from cluster.kubernetes.objects.labels import CLAIM, COMPONENT, ENDPOINT, GROUP, VERSION, OwnerRef, key_of
from cluster.kubernetes.objects.scoring_endpoint import owner_of
from cluster.provider import ProviderError
from serving.endpoint import Version, VersionKey, WorkloadRef
from serving.rules import RESERVED_WORKLOADS

TAKEN = "WorkloadTaken"
CLAIMED = "AlreadyClaimed"

_HASH = "pod-template-hash"

Object = Mapping[str, Any]


class NotWritable(ProviderError):
    """An object that must not be written. `reason` is one CamelCase word, for a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class WorkloadClaim:
    """A version's claim to one workload."""

    key: VersionKey
    owner: OwnerRef
    """The ScoringEndpoint object that declares the version."""
    namespace: str
    workload: WorkloadRef
    adopts: bool
    """The workload exists without scorefront (`workloadRef`)."""

    @property
    def title(self) -> str:
        """Kind, namespace and name of the workload."""
        return f"{self.workload.kind} {self.namespace}/{self.workload.name}"

    @property
    def place(self) -> tuple[str, str, str]:
        """Kind, namespace and name of the workload."""
        return self.workload.kind, self.namespace, self.workload.name

    def same_hold(self, other: "WorkloadClaim") -> bool:
        """True if the other claim of this endpoint holds the same workload in the same way, for any version."""
        ours = self.owner.uid, self.namespace, self.workload, self.adopts
        return ours == (other.owner.uid, other.namespace, other.workload, other.adopts)


def claim_of(endpoint: str, version: Version, owner: Object | None) -> WorkloadClaim | None:
    """The claim of a version; None if it has no workload, or `owner`, the object that declares it, is None."""
    workload = workload_of(endpoint, version)
    if workload is None or owner is None:
        return None
    adopts = version.replica.kind not in MADE
    namespace = owner["metadata"]["namespace"]
    return WorkloadClaim(VersionKey(endpoint, version.name), owner_of(owner), namespace, workload, adopts)


def held_by(owner: Object, workloads: Iterable[tuple[str, Object]]) -> Iterator[tuple[WorkloadClaim, float]]:
    """Workloads, each with its kind, that were made for `owner` or claimed by it, and the grace period of their pods
    in seconds.
    """
    reference, namespace = owner_of(owner), owner["metadata"]["namespace"]
    for kind, found in workloads:
        metadata = found["metadata"]
        if metadata["namespace"] != namespace:
            continue
        workload = WorkloadRef(kind, metadata["name"])
        if claim_on(found) == reference.uid:
            # The workload does not carry the version; claims are compared by workload, so any name will do.
            yield WorkloadClaim(VersionKey(reference.name, workload.name), reference, namespace, workload, True), 0.0
        key = key_of(metadata)
        if key is not None and key.endpoint == reference.name and controls(reference.uid, found):
            grace_s = float(found["spec"]["template"]["spec"].get("terminationGracePeriodSeconds") or 0)
            yield WorkloadClaim(key, reference, namespace, workload, False), grace_s


def check(found: Object | None, claim: WorkloadClaim) -> None:
    """Raises NotWritable if the workload as read must not be written for `claim`; None means absent."""
    if found is None:
        return
    refusal = _of_adopted(found, claim) if claim.adopts else _of_made(found, claim)
    if refusal is not None:
        raise NotWritable(refusal[0], f"{claim.title} {refusal[1]}")


def may_write(found: Object | None, claim: WorkloadClaim) -> bool:
    """True if `check` passes."""
    try:
        check(found, claim)
    except NotWritable:
        return False
    return True


def controller_of(found: Object) -> Object | None:
    """The owner reference of the controller, None without a controller."""
    references = found["metadata"].get("ownerReferences") or ()
    return next((each for each in references if each.get("controller") is True), None)


def controls(uid: str, found: Object) -> bool:
    """True if the object with this uid is the controller owner of `found`."""
    controller = controller_of(found)
    return controller is not None and bool(uid) and controller.get("uid") == uid


def claim_on(found: Object) -> str | None:
    """The uid of the claim on an adopted workload, None without a claim."""
    text = (found["metadata"].get("annotations") or {}).get(CLAIM)
    return None if text is None else str(text)


def is_claimed(found: Object, claim: WorkloadClaim) -> bool:
    """True if the claim is on the workload. A made workload is claimed by its owner reference."""
    return not claim.adopts or claim_on(found) == claim.owner.uid


def may_release(found: Object | None, claim: WorkloadClaim) -> bool:
    """True if our claim is on the workload and can be removed: it has no controller owner."""
    return found is not None and claim_on(found) == claim.owner.uid and controller_of(found) is None


def is_pod_of(pod: Object, workload: Object) -> bool:
    """True if the workload's controller made the pod, by the pod's owner reference."""
    controller = controller_of(pod)
    if controller is None:
        return False
    if controller.get("uid") == workload["metadata"]["uid"]:
        return True
    # ReplicaSets are not read: a Deployment names its own so, and no other object may have that name in the namespace.
    revision = (pod["metadata"].get("labels") or {}).get(_HASH)
    name = workload["metadata"]["name"]
    return controller.get("kind") == "ReplicaSet" and bool(revision) and controller.get("name") == f"{name}-{revision}"


def _of_made(found: Object, claim: WorkloadClaim) -> tuple[str, str] | None:
    if controls(claim.owner.uid, found):
        return None
    if (refusal := _of_controller(found, claim)) is not None:
        return refusal
    if (uid := claim_on(found)) is not None:
        return CLAIMED, f"is claimed by {_claimant(uid, claim)}; name the version otherwise"
    return TAKEN, (
        f"exists, and ScoringEndpoint {claim.key.endpoint} does not own it; it is left as it is. Name the version"
        " otherwise, or delete it"
    )


def _of_adopted(found: Object, claim: WorkloadClaim) -> tuple[str, str] | None:
    labels = found["metadata"].get("labels") or {}
    if found["metadata"]["name"] in RESERVED_WORKLOADS or COMPONENT in labels:
        return TAKEN, "is a part of scorefront itself and cannot be adopted"
    if (refusal := _of_controller(found, claim)) is not None:
        return refusal
    uid = claim_on(found)
    if uid is not None and uid != claim.owner.uid:
        return CLAIMED, f"is claimed by {_claimant(uid, claim)}; if that is no more, remove the annotation {CLAIM}"
    template = ((found.get("spec") or {}).get("template") or {}).get("metadata") or {}
    for marks in (labels, template.get("labels") or {}):
        if (other := _other_version(marks, claim.key)) is not None:
            return CLAIMED, f"has the labels of {other}; adopt it there, or remove the labels {ENDPOINT} and {VERSION}"
    return None


def _of_controller(found: Object, claim: WorkloadClaim) -> tuple[str, str] | None:
    controller = controller_of(found)
    if controller is None:
        return None
    kind, name = controller.get("kind", "?"), controller.get("name", "?")
    if kind != "ScoringEndpoint" or not str(controller.get("apiVersion") or GROUP).startswith(GROUP):
        return TAKEN, f"is controlled by {kind} {name}; it is left as it is"
    if controller.get("uid") == claim.owner.uid:
        return CLAIMED, f"was made for another version of ScoringEndpoint {name}; it cannot be adopted"
    return CLAIMED, f"is owned by ScoringEndpoint {name} (uid {controller.get('uid')}); it is left as it is"


def _claimant(uid: str, claim: WorkloadClaim) -> str:
    return "another version of this endpoint" if uid == claim.owner.uid else f"another ScoringEndpoint (uid {uid})"


def _other_version(labels: Mapping[str, Any], key: VersionKey) -> str | None:
    """The version that these labels name in full or in part, unless it is `key`."""
    endpoint, version = labels.get(ENDPOINT), labels.get(VERSION)
    if endpoint in (None, key.endpoint) and version in (None, key.version):
        return None
    return f"{endpoint or key.endpoint}/{version or '?'}"
