"""The record of a running replica of a version, as a provider reports it."""

from dataclasses import dataclass
from enum import StrEnum

from serving.endpoint import VersionKey


class ReplicaState(StrEnum):
    """State of a replica. Only READY gets new requests; DRAINING completes its requests; FAILED awaits a restart."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a version. `id` is unique for ever: a replacement gets a new one."""

    id: str
    endpoint: str
    version: str
    host: str
    port: int
    state: ReplicaState
    slots: int = 1
    """Most requests in flight."""
    reason: str = ""
    """Reason for FAILED or for not being READY yet, for people."""
    static: bool = False
    """The address was declared: it is checked before each connection (`serving.destinations`)."""
    template: str = ""
    """Digest of the replica template; equal for interchangeable replicas. "": unknown."""
    failures: int = 0
    """Starts in a row that failed before this one got ready."""
    placed: bool = True
    """False while no machine has room for it."""

    @property
    def key(self) -> VersionKey:
        """The version of this replica."""
        return VersionKey(self.endpoint, self.version)
