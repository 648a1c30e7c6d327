"""Declared and running things in short, for tests of the router."""

from router.core.dispatcher import Grant, VersionQueue
from router.core.ledger import ReplicaSlots
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Endpoint,
    ForeignIssuer,
    ReplicaKind,
    ReplicaSource,
    RetryRule,
    SplitBy,
    Version,
    VersionType,
)
from serving.replica import Replica, ReplicaState


def version(name: str = "blue", share: float = 1.0, *, default: bool = True, score_path: str = "/score") -> Version:
    return Version(
        name=name,
        share=share,
        is_default=default,
        type=VersionType.TREATMENT,
        replica=ReplicaSource(ReplicaKind.STATIC, static=("127.0.0.1:9400",), score_path=score_path),
        autoscale=AutoscalePolicy(),
    )


def endpoint(
    name: str = "iris",
    *versions: Version,
    auth: Auth = Auth.KEY,
    retry: RetryRule = RetryRule.NEVER_BEGUN,
    split_by: SplitBy | None = None,
    token_issuers: tuple[ForeignIssuer, ...] = (),
) -> Endpoint:
    return Endpoint(name, auth, versions or (version(),), retry=retry, split_by=split_by, token_issuers=token_issuers)


def replica(
    replica_id: str, state: ReplicaState = ReplicaState.READY, slots: int = 1, version: str = "blue", port: int = 9400
) -> Replica:
    return Replica(replica_id, "iris", version, "127.0.0.1", port, state, slots)


def readmitted(queue: VersionQueue, slots: ReplicaSlots, now: float) -> list[Grant]:
    """What a replica that is used again is used for."""
    queue.ledger.readmit(slots)
    return queue.match_all(now)
