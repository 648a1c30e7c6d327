"""Membership views and the owner of each version. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class Member:
    """A live worker process. A restarted worker has another name."""

    name: str
    address: str
    """Address for its peers: `unix:PATH` or `HOST:PORT`."""
    eligible: bool = True
    """True if it may own versions: serving and not leaving."""


@dataclass(frozen=True, slots=True)
class Departed:
    """A member that has ended."""

    name: str
    held: Mapping[str, int] | None
    """Requests in flight at its end, by replica id; None: unknown."""
    age_s: float = 0.0
    """Least time since its end; shortens the quarantine in workers that start later."""


@dataclass(frozen=True, slots=True)
class View:
    """The members at one moment. All workers see a growing subsequence of one history, in the order of `epoch`.

    A member missing from a view has ended. The source of views guarantees that; taking over its slots is safe only so.
    """

    epoch: int
    members: tuple[Member, ...]
    departed: tuple[Departed, ...] = ()
    """Recently ended members; each is listed for longer than any worker may lag behind."""

    def names(self) -> tuple[str, ...]:
        """Names of all members."""
        return tuple(member.name for member in self.members)

    def owner(self, key: VersionKey) -> str:
        """Name of the member that owns the version; "" if none is eligible."""
        return owner_of(key, (member.name for member in self.members if member.eligible))


def owner_of(key: VersionKey, names: Iterable[str]) -> str:
    """Rendezvous hashing (Thaler and Ravishankar 1998): a change of members moves only the versions they own."""
    text = f"{key.endpoint}/{key.version}/".encode()
    return max(names, key=lambda name: blake2b(text + name.encode(), digest_size=8).digest(), default="")
