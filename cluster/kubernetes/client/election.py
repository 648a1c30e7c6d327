"""Leader election: the rules of a Lease for one candidate. Pure: objects and times go in, objects to write come out.

Safe without a common clock. A leader stops `renew_deadline_s` after it *sent* its last successful renewal. A standby
takes over after it has *seen* no change of the record for `lease_s`, and never uses a time from the record. Since
`lease_s` > `renew_deadline_s`, the old leadership ends before the new one begins. The *fence* (`leaseTransitions`)
grows with every leader of one Lease. A recreated Lease has another uid, and its fences are not comparable.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

LINK = "scorefront.io/link"
REST = "scorefront.io/rest"


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """lease_s > renew_deadline_s > 2 retry_s, or there would be no room for a lost request."""

    lease_s: float = 8.0
    """A standby takes over when the leader has not renewed for this long."""
    renew_deadline_s: float = 5.0
    """A leader without a renewal for this long stops leading."""
    retry_s: float = 1.0
    """Between two renewals, and between two looks of a standby."""

    def __post_init__(self) -> None:
        assert self.lease_s > self.renew_deadline_s > 2 * self.retry_s > 0, self

    @property
    def request_s(self) -> float:
        """Limit of one request, so that a hung one leaves time for another."""
        return self.renew_deadline_s / 2


@dataclass(frozen=True, slots=True)
class LeaderInfo:
    """The leader and its addresses."""

    identity: str
    link: str = ""
    """host:port for routers; "" if unknown."""
    rest: str = ""
    """`https://host:port` of its REST interface, `http://` without TLS; "" if unknown."""
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease that is held."""

    fence: int
    renewed_at: float
    """Time at which the last successful renewal was sent."""
    lease_uid: str = ""

    def ends_at(self, settings: ElectionSettings) -> float:
        """From this moment on nothing may be done in the leader's name."""
        return self.renewed_at + settings.renew_deadline_s


class Election:
    """State of one candidate. Times are seconds on its own monotonic clock; `stamp` is wall-clock time, for display."""

    def __init__(
        self, name: str, namespace: str, identity: str, annotations: Mapping[str, str], settings: ElectionSettings
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._annotations = dict(annotations)
        self._settings = settings
        self._lease: Object | None = None  # as last seen
        self._record: object = None
        self._changed_at = -math.inf
        self._highest = 0
        self.identity = identity
        self.tenure: Tenure | None = None

    # ---- observation

    def seen(self, lease: Object | None, now: float) -> None:
        """Record the Lease as just read; None: there is none."""
        record = record_of(lease)
        if record != self._record:
            self._record, self._changed_at = record, now
        self._lease = lease
        self._highest = max(self._highest, transitions_of(lease))

    @property
    def leader(self) -> LeaderInfo | None:
        """The leader named last, alive or not; None before the first, and after it has stepped down."""
        if self._lease is None or not holder_of(self._lease):
            return None
        notes = self._lease["metadata"].get("annotations") or {}
        return LeaderInfo(holder_of(self._lease), notes.get(LINK, ""), notes.get(REST, ""), transitions_of(self._lease))

    def is_mine(self) -> bool:
        """True if the last Lease seen names this candidate, with the fence of its tenure if it has one."""
        return self.names_me(self._lease)

    def names_me(self, lease: Object | None) -> bool:
        """True if `lease` names this candidate, with the fence of its tenure if it has one."""
        if holder_of(lease) != self.identity:
            return False
        tenure = self.tenure
        return tenure is None or (uid_of(lease), transitions_of(lease)) == (tenure.lease_uid, tenure.fence)

    def free_at(self) -> float:
        """From when on the lease may be taken: stepped down from, run out by this candidate's own clock, or its own."""
        if self._lease is None and self._highest == 0:
            return -math.inf  # never seen one: the first leader of this installation
        if self._lease is not None and holder_of(self._lease) in ("", self.identity):
            return -math.inf
        return self._changed_at + max(self._settings.lease_s, length_of(self._lease))

    # ---- writes

    def bid(self, stamp: str) -> Object:
        """The Lease to write to acquire it; without `metadata.resourceVersion` it must be created."""
        lease = copy.deepcopy(self._lease) or blank(self._name, self._namespace)
        annotations = {**(lease["metadata"].get("annotations") or {}), **self._annotations}
        lease["metadata"]["annotations"] = annotations
        lease["spec"] = {
            **(lease.get("spec") or {}),
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._settings.lease_s),
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": self._highest + 1,
        }
        return lease

    def won(self, lease: Object, asked_at: float, now: float) -> Tenure:
        """The bid was accepted; `lease` is the answer."""
        self.seen(lease, now)
        self.tenure = Tenure(transitions_of(lease), asked_at, uid_of(lease))
        return self.tenure

    def renewal(self, stamp: str) -> Object:
        """The Lease to write to renew it."""
        assert self._lease is not None, "nothing is held"
        return {**self._lease, "spec": {**self._lease["spec"], "renewTime": stamp}}

    def renewed(self, lease: Object, asked_at: float, now: float) -> None:
        """The renewal was accepted."""
        assert self.tenure is not None, "nothing is held"
        self.seen(lease, now)
        self.tenure = dataclasses.replace(self.tenure, renewed_at=max(asked_at, self.tenure.renewed_at))

    def release(self, stamp: str) -> Object:
        """The Lease to write so that another candidate takes it at its next look."""
        lease = self.renewal(stamp)
        lease["spec"]["holderIdentity"] = ""
        return lease

    def leads(self, now: float) -> bool:
        """True if this candidate may still act as leader. Check before every action."""
        return self.tenure is not None and now < self.tenure.ends_at(self._settings)


def blank(name: str, namespace: str) -> Object:
    """A new Lease."""
    metadata: Object = {"name": name, "namespace": namespace}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}


def record_of(lease: Object | None) -> object:
    """The part that changes with each renewal and each leader; compared for equality only."""
    if lease is None:
        return None
    spec = lease.get("spec") or {}
    fields = ("holderIdentity", "leaseTransitions", "acquireTime", "renewTime")
    return lease["metadata"].get("uid"), *(spec.get(name) for name in fields)


def holder_of(lease: Object | None) -> str:
    """Identity of the holder, "" for none."""
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def transitions_of(lease: Object | None) -> int:
    """The fence of the record, 0 before the first leader."""
    return int(((lease or {}).get("spec") or {}).get("leaseTransitions") or 0)


def uid_of(lease: Object | None) -> str:
    """The uid of the Lease, "" for none."""
    return str(((lease or {}).get("metadata") or {}).get("uid") or "")


def length_of(lease: Object | None) -> float:
    """The lease duration in the record, 0 without one: its leader may have other settings."""
    return float(((lease or {}).get("spec") or {}).get("leaseDurationSeconds") or 0)
