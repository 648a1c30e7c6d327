"""Who takes part in the one truth about slots, and who owns which version. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from serving.endpoint import VersionKey


@dataclass(frozen=True, slots=True)
class Member:
    """One live worker process. A restarted one has another name."""

    name: str
    address: str
    """Where its peers reach it: `unix:PATH` or `HOST:PORT`."""
    eligible: bool = True
    """Whether it may own versions: it serves, and is not leaving."""


@dataclass(frozen=True, slots=True)
class Departed:
    """A member that does not run any more."""

    name: str
    held: Mapping[str, int] | None
    """Replica id -> requests in flight at its end; None: nobody knows."""
    age_s: float = 0.0
    """For how long at least it has been gone already; spares those who start later a part of the embargo."""


@dataclass(frozen=True, slots=True)
class View:
    """The members at one moment. All workers see a growing subsequence of one history, in the order of `epoch`.

    Whoever is missing has ended: the source of views promises that, and nothing else would make taking over safe.
    """

    epoch: int
    members: tuple[Member, ...]
    departed: tuple[Departed, ...] = ()
    """Members that have left lately; each is listed for longer than any worker may lag behind."""

    def names(self) -> tuple[str, ...]:
        """Of all members."""
        return tuple(member.name for member in self.members)

    def owner(self, key: VersionKey) -> str:
        """The member that grants the slots of a version; "" when none is eligible."""
        return owner_of(key, (member.name for member in self.members if member.eligible))


def owner_of(key: VersionKey, names: Iterable[str]) -> str:
    """Rendezvous hashing (Thaler and Ravishankar 1998): who comes or goes moves only the keys that it owns."""
    text = f"{key.endpoint}/{key.version}/".encode()
    return max(names, key=lambda name: blake2b(text + name.encode(), digest_size=8).digest(), default="")
