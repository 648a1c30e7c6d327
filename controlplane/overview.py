"""Health of all endpoints at a glance: one short row each, chosen by search, health, order and page. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from cluster.provider import Problem
from controlplane.cluster_view import headline, needed
from controlplane.endpoint_view import ViewSources, problems_of
from serving.endpoint import Endpoint, Version, VersionKey
from serving.replica import ReplicaState
from serving.usage import RecentTraffic

TROUBLED_SHARE: Final = 0.01
"""Share of requests of the last minute that the server has failed, from which a ready endpoint is degraded."""


class EndpointHealth(StrEnum):
    """Health of an endpoint, the worst first."""

    FAILING = "failing"
    """Not ready, and replicas fail or are refused."""
    STARTING = "starting"
    """Not ready yet."""
    DEGRADED = "degraded"
    """Ready, but with a problem, or with requests that the server has failed in the last minute."""
    HEALTHY = "healthy"


class OverviewOrder(StrEnum):
    """Order of the rows; equal ones are by name."""

    HEALTH = "health"
    NAME = "name"
    REQUESTS = "requests"
    FAILURES = "failures"
    LATENCY = "latency"


class TrafficSource(Protocol):
    """Source of the requests of versions."""

    def recent(self, key: VersionKey) -> RecentTraffic | None:
        """Requests over the last minute; None: unknown."""

    def rates(self, key: VersionKey) -> Sequence[float]:
        """Requests a second in each of the last intervals, oldest first; equally many for every version."""


@dataclass(frozen=True, slots=True)
class VersionGlance:
    """One version in a row."""

    version: Version
    counts: Mapping[ReplicaState, int]
    desired: int
    busy: int
    total: int
    waiting: int
    problems: Mapping[Problem, str]
    message: str
    """Reason of replicas that are not ready; "" if there is none."""
    traffic: RecentTraffic | None

    @property
    def is_short(self) -> bool:
        """True if it has fewer ready replicas than it needs."""
        return self.counts[ReplicaState.READY] < needed(self.version)


@dataclass(frozen=True, slots=True)
class EndpointGlance:
    """One row."""

    endpoint: Endpoint
    versions: tuple[VersionGlance, ...]
    health: EndpointHealth
    reason: str
    """Why it is not healthy, in one line."""

    def count(self, state: ReplicaState) -> int:
        """Replicas in a state."""
        return sum(version.counts[state] for version in self.versions)

    @property
    def requests_per_s(self) -> float | None:
        """Over the last minute; None: unknown."""
        rates = [each.requests / each.seconds for each in self._traffic() if each.seconds]
        return sum(rates) if rates else None

    @property
    def failure_share(self) -> float | None:
        """Failures / requests of the last minute; None without requests."""
        requests = sum(each.requests for each in self._traffic())
        return sum(each.failures for each in self._traffic()) / requests if requests else None

    @property
    def p95_s(self) -> float | None:
        """The longest of its versions; None without requests."""
        return max((each.p95_s for each in self._traffic() if each.p95_s is not None), default=None)

    def _traffic(self) -> list[RecentTraffic]:
        return [version.traffic for version in self.versions if version.traffic is not None]


@dataclass(frozen=True, slots=True)
class OverviewChoice:
    """The rows that are wanted."""

    name: str = ""
    """Whole name of one endpoint; "": any."""
    search: str = ""
    """Part of a name or description; case does not matter."""
    health: Collection[EndpointHealth] = field(default_factory=tuple)
    """Empty: any."""
    order: OverviewOrder = OverviewOrder.HEALTH

    def of(self, rows: Iterable[EndpointGlance]) -> list[EndpointGlance]:
        """The chosen rows in order. `rows`: by name."""
        text = self.search.casefold()
        found = [
            row
            for row in rows
            if self.name in ("", row.endpoint.name)
            and (not self.health or row.health in self.health)
            and (not text or text in row.endpoint.name or text in row.endpoint.description.casefold())
        ]
        return sorted(found, key=_RANK[self.order])  # stable: equal ones stay by name


_SEVERITY: Final = {health: place for place, health in enumerate(EndpointHealth)}
_RANK: Final[Mapping[OverviewOrder, Callable[[EndpointGlance], float]]] = {
    OverviewOrder.HEALTH: lambda row: _SEVERITY[row.health],
    OverviewOrder.NAME: lambda row: 0,
    OverviewOrder.REQUESTS: lambda row: -(row.requests_per_s or 0.0),
    OverviewOrder.FAILURES: lambda row: -(row.failure_share or 0.0),
    OverviewOrder.LATENCY: lambda row: -(row.p95_s or 0.0),
}


def glance(
    endpoint: Endpoint, sources: ViewSources, recent: Callable[[VersionKey], RecentTraffic | None]
) -> EndpointGlance:
    """The row of one endpoint.

    endpoint: as declared.
    sources: of its status.
    recent: requests of a version over the last minute; None: unknown.
    """
    versions = tuple(
        _version(version, VersionKey(endpoint.name, version.name), sources, recent) for version in endpoint.versions
    )
    health = health_of(versions)
    return EndpointGlance(endpoint, versions, health, "" if health is EndpointHealth.HEALTHY else reason_of(versions))


def _version(
    version: Version, key: VersionKey, sources: ViewSources, recent: Callable[[VersionKey], RecentTraffic | None]
) -> VersionGlance:
    """One version of a row.

    version: as declared, with its `key`.
    sources: of its status.
    recent: as in `glance`.
    """
    usage, counts = sources.observe(version, key), sources.view.counts(key)
    is_short = counts[ReplicaState.READY] < needed(version)
    return VersionGlance(
        version=version,
        counts=counts,
        desired=sources.desired(version, key),
        busy=usage.busy,
        total=sources.view.ready_slots(key),
        waiting=usage.waiting,
        problems=problems_of(key, sources, counts),
        message=sources.view.message(key) if is_short else "",
        traffic=recent(key),
    )


def health_of(versions: Sequence[VersionGlance]) -> EndpointHealth:
    """Health of an endpoint by its versions."""
    hard = (Problem.FAILING, Problem.REFUSED)
    short = [version for version in versions if version.is_short]
    if any(version.counts[ReplicaState.FAILED] or any(word in version.problems for word in hard) for version in short):
        return EndpointHealth.FAILING
    if short:
        return EndpointHealth.STARTING
    if any(version.problems for version in versions) or failed_share(versions) >= TROUBLED_SHARE:
        return EndpointHealth.DEGRADED
    return EndpointHealth.HEALTHY


def failed_share(versions: Iterable[VersionGlance]) -> float:
    """Share of the requests of the last minute that the server has failed; 0.0 without requests."""
    traffic = [version.traffic for version in versions if version.traffic is not None]
    requests = sum(each.requests for each in traffic)
    return sum(each.server_failures for each in traffic) / requests if requests else 0.0


def reason_of(versions: Sequence[VersionGlance]) -> str:
    """Why an endpoint is not healthy, in one line."""
    for version in versions:
        for word, text in version.problems.items():
            return f"{version.version.name}: {headline(text) or word}"
    for version in versions:
        if version.is_short:
            ready = f"{version.counts[ReplicaState.READY]} of {needed(version.version)} replicas ready"
            message = headline(version.message)
            return f"{version.version.name}: {ready}{f': {message}' if message else ''}"
    return f"{100 * failed_share(versions):.1f} % of the requests of the last minute failed (status 500 and above)"
