"""Messages between workers about slots: types only. Ages are durations; no absolute time is sent."""

import msgspec

from serving.endpoint import VersionKey


class Ask(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Borrower to owner: a ticket waits for a slot. Answered by `SlotGranted` in its turn."""

    key: VersionKey
    ask: int
    """Number chosen by the sender, never reused."""
    age_s: float
    """Time waited so far."""
    retry: bool = False
    """The ticket had a slot of an unreachable replica: it is served before all others."""


class Forget(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Borrower to owner: cancel asks that were served otherwise, abandoned or expired."""

    asks: tuple[int, ...]


class SlotGranted(msgspec.Struct, tag="Grant", frozen=True, array_like=True):
    """Owner to borrower: loan of a slot."""

    key: VersionKey
    ask: int
    lease: int
    replica: str
    host: str
    port: int
    others_age_s: float | None
    """Age of the oldest ticket of other workers; None: none waits, and the slot may be reused."""


class Return(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Borrower to owner: end of loans. A second return, or one of an unknown lease, is counted and has no effect."""

    leases: tuple[int, ...]


class Failed(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Borrower to owner: failure of a replica, for passive health at the owner."""

    key: VersionKey
    replica: str
    failure: str
    """A `router.core.health.Failure` value; "" after a success, which ends a row of failures."""


class Recall(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Owner to borrower: return idle slots now and others when their request ends, unless an older ticket waits.

    From any worker, with a replica: close idle connections to it, others may need its threads.
    """

    key: VersionKey
    replica: str
    """Id of a replica that goes out of service: only its slots; "" for all."""
    others_age_s: float | None


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """Leases and asks of the sender for one version that the receiver owns."""

    key: VersionKey
    leases: tuple[tuple[int, str], ...]
    """Lease and replica id of every slot in use."""
    asks: tuple[Ask, ...]
    retired: tuple[str, ...] = ()
    """Replicas that the sender has retired; a new owner keeps them retired."""
    suspects: tuple[str, ...] = ()
    """Replicas in need of an answer of their health path, as far as the sender knows."""


class Declare(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """All leases and asks of the sender for the versions that the receiver owns.

    Sent first on every session, and to all peers with every new view. While its view has not moved past `epoch`, the
    sender grants no slot of these versions and accepts grants only from the receiver. Valid only for a receiver in the
    same view (workers that skipped different views may disagree about earlier owners); it replaces all older state.

    All asks in it have new numbers: grants under way to older asks are void on both sides.
    """

    epoch: int
    holdings: tuple[Holding, ...]


class Ping(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Request for a `Pong` with the same number."""

    number: int


class Pong(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Answer to `Ping`."""

    number: int


PeerMessage = Ask | Forget | SlotGranted | Return | Failed | Recall | Declare | Ping | Pong
