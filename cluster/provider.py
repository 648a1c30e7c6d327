"""The provider interface: operations of the control plane on replicas."""

from collections.abc import AsyncIterator, Collection, Mapping
from enum import StrEnum
from typing import Protocol

from cluster.changes import Change
from cluster.timed_line import TimedLine
from serving.endpoint import Endpoint, VersionKey
from serving.faults import Fault


class Problem(StrEnum):
    """Trouble of a version, in one word: with its replicas, or with its collected payloads."""

    CONFLICT = "conflict"
    """Another client sets the number."""
    REFUSED = "refused"
    """A call, or the making of replicas, is not permitted or not valid."""
    LIMITED = "limited"
    """There is no room."""
    FAILING = "failing"
    """Replicas do not start, or end."""
    DROPPING = "dropping"
    """Collected payloads are lost."""


class ProviderError(Exception):
    """A request that the provider cannot carry out; the text names the remedy, for people."""

    problem: Problem | None = None


class ProviderRefused(ProviderError):
    """The same request will be refused again until something else changes: a right, a rule, the declaration."""

    problem = Problem.REFUSED


class VersionErrors(ProviderError):
    """Errors of single versions of one endpoint."""

    def __init__(self, errors: Mapping[str, ProviderError]) -> None:
        """`errors`: version name -> its error."""
        super().__init__("; ".join(f"{version}: {error}" for version, error in errors.items()))
        self.by_version = {version: str(error) for version, error in errors.items()}
        self.are_refusals = all(isinstance(error, ProviderRefused) for error in errors.values())


class Provider(Protocol):
    """A place that runs replicas. Every call is idempotent and absolute; none waits for a replica to become ready."""

    def check(self, endpoint: Endpoint) -> list[Fault]:
        """The faults of this endpoint here: an unsupported kind of replica, a missing file."""

    def notes(self, endpoint: Endpoint) -> list[str]:
        """Declared fields that have no effect here, one line for each version that has such."""

    def problems(self, key: VersionKey) -> Mapping[Problem, str]:
        """Problems of a version besides the states of its replicas: word -> reason; empty without any."""

    async def refresh(self, endpoint: Endpoint) -> frozenset[str]:
        """Read the files that replicas start from; the names of running versions that changed files replace with the
        next `apply`."""

    async def restart(self, endpoint: Endpoint, versions: Collection[str]) -> None:
        """Replace the replicas of these versions as for a changed template: where there is room, a new one is READY
        before an old one drains. Raises ProviderError."""

    async def apply(self, endpoint: Endpoint, replicas: dict[str, int]) -> None:
        """Make the workloads of `endpoint` match its declaration. `replicas`: version name -> desired number.

        A version with an unchanged replica template keeps its replicas; a changed one is replaced without a gap (the
        new replica is READY before an old one becomes DRAINING); undeclared versions are drained and stopped.
        """

    async def remove(self, endpoint: str) -> None:
        """Drain and stop all replicas of the endpoint."""

    async def scale(self, key: VersionKey, replicas: int, victims: Collection[str] = ()) -> None:
        """Set the number of replicas (absolute). Order of removal: `victims`, then those not READY, then the youngest.

        A victim becomes DRAINING at once and is stopped after `drained`, or after the scoring timeout of its version.
        """

    async def hindrance(self, key: VersionKey, fewer: bool) -> str:
        """The reason that prevents a change of this version's number now, up or (`fewer`) down; "" if there is none.

        Asked before any replica is retired, because a retired one never serves again.
        """

    async def drained(self, replica_id: str) -> None:
        """Notice of the routers: nothing is in flight on this replica, and nothing will be. Unknown ids are ignored."""

    def watch(self) -> AsyncIterator[Change]:
        """Yield a Reset with the known replicas, then every change, without end."""

    async def logs(self, key: VersionKey, tail: int) -> dict[str, list[TimedLine]]:
        """Replica id -> its last `tail` lines (stdout and stderr), including recently failed replicas."""

    def follow_logs(self, key: VersionKey) -> AsyncIterator[tuple[str, TimedLine]]:
        """Yield (replica id, line) as written, from now on, without end."""
