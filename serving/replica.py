"""What runs: one replica of a version, as a provider reports it."""

from dataclasses import dataclass
from enum import StrEnum

from serving.endpoint import VersionKey


class ReplicaState(StrEnum):
    """Only READY takes new requests. DRAINING ends what it has; FAILED waits for its backoff to be started again."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Replica:
    """One running copy of a version. `id` is unique for ever: a replica that is replaced gets a new one."""

    id: str
    endpoint: str
    version: str
    host: str
    port: int
    state: ReplicaState
    slots: int = 1
    """Requests it may have in flight."""
    reason: str = ""
    """Why it is FAILED (or not READY yet), for people."""
    static: bool = False
    """Its address was declared: before it is connected to, it is judged (`serving.destinations`)."""

    @property
    def key(self) -> VersionKey:
        """The version it belongs to."""
        return VersionKey(self.endpoint, self.version)
