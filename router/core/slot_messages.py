"""What workers say to each other about slots: shapes only. Ages are durations: no absolute time travels."""

import msgspec

from serving.endpoint import VersionKey


class Ask(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """A ticket of the sender waits for a slot; answered by `SlotGranted` when its turn has come."""

    key: VersionKey
    ask: int
    """The sender's number for it, never used twice."""
    age_s: float
    """How long it has waited already."""
    retry: bool = False
    """It had a slot whose replica could not be reached: it keeps its place before everybody else."""


class Forget(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """These asks are void: served with a slot that was at hand, given up, or expired."""

    asks: tuple[int, ...]


class SlotGranted(msgspec.Struct, tag="Grant", frozen=True, array_like=True):
    """The sender lends a slot."""

    key: VersionKey
    ask: int
    lease: int
    replica: str
    host: str
    port: int
    others_age_s: float | None
    """How long the oldest ticket of others waits; None: nobody waits, and the slot may be used again."""


class Return(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """These slots are not used any more. A second time, or for an unknown lease, is harmless and counted."""

    leases: tuple[int, ...]


class Failed(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """A borrower could not use a replica; follows the rule of passive health at the owner."""

    key: VersionKey
    replica: str
    failure: str
    """A `router.core.health.Failure` value; "" after an answer, which ends a row of failures."""


class Recall(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Give back what is idle now, and the rest when its request ends, unless a ticket older than the others' waits."""

    key: VersionKey
    replica: str
    """Only slots of this replica, which is taken out of service; "" for all."""
    others_age_s: float | None


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """What the sender has of one version that the receiver owns."""

    key: VersionKey
    leases: tuple[tuple[int, str], ...]
    """Lease and replica of every slot in use."""
    asks: tuple[Ask, ...]
    retired: tuple[str, ...] = ()
    """Replicas that the sender has withdrawn for good: an owner's word, which its successor keeps."""


class Declare(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """The whole truth about what the sender has of everything that the receiver owns.

    Sent first on every session, and to everybody with every new view. By sending it, the sender promises to grant
    nothing of these versions, and to take grants of them from nobody else, as long as its view has not moved past
    `epoch`. It counts only for a receiver in the very same view (two workers that have skipped different views may
    disagree about who owned what between), which replaces what it believed.

    All asks in it are numbered anew: grants that were under way to older ones are void, for both sides.
    """

    epoch: int
    holdings: tuple[Holding, ...]


class Ping(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """Answer me."""

    number: int


class Pong(msgspec.Struct, tag=True, frozen=True, array_like=True):
    """The answer to `Ping`."""

    number: int


PeerMessage = Ask | Forget | SlotGranted | Return | Failed | Recall | Declare | Ping | Pong
