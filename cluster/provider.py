"""What the control plane asks of a place where replicas run."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from cluster.changes import Change
from serving.endpoint import Endpoint, VersionKey
from serving.faults import Fault


class ProviderError(Exception):
    """The provider cannot do what was asked; the text is for people and names what to mend."""


class Provider(Protocol):
    """A place where replicas run. Every call is idempotent and absolute; none waits for a replica to become ready."""

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """What of this endpoint cannot run here: a kind of replica not supported, a file that does not exist."""

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Make the workloads of `endpoint` match. `replicas`: version name -> wanted number.

        A version whose replica template is unchanged keeps its replicas; a changed one is replaced without a gap (the
        new replica is READY before an old one becomes DRAINING); versions no longer declared are drained and stopped.
        """

    async def remove(self, endpoint: str) -> None:
        """Drain and stop every replica of the endpoint."""

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Have this many replicas (absolute). When fewer: `victims` go first, then those not READY, then the youngest.

        A victim becomes DRAINING at once and is stopped when `drained` was called for it or its version's scoring
        timeout has passed, whichever is first.
        """

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """Why the number of this version cannot be changed now, up or (`fewer`) down; '' if it can.

        Asked before any replica is withdrawn, for one that is can never serve again.
        """

    async def drained(self, replica_id: str) -> None:
        """The routers say: nothing is in flight on this replica and nothing will be. Unknown ids are ignored."""

    def watch(self) -> AsyncIterator[Change]:
        """First a Reset with what is known, then every change, for ever."""

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[str]]:
        """Replica id -> its last `tail` lines (stdout and stderr), including replicas that failed lately."""

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, str]]:
        """(replica id, line) as they are written, from now on, for ever."""
