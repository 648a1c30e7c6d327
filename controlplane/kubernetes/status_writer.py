"""Writer of the status of every ScoringEndpoint, and of Events about its changes.

Conditions and numbers of replicas are written within two seconds, requests in flight and waiting less often, because
every router receives each write.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound
from cluster.kubernetes.client.paths import ENDPOINTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects, is_leaving, title_of
from cluster.kubernetes.event_recorder import EventRecorder
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.kubernetes_provider import KubernetesProvider
from cluster.kubernetes.objects import endpoint_status as shape
from cluster.kubernetes.objects.endpoint_status import EndpointStatus, Trouble, VersionStatus, status_of
from cluster.kubernetes.objects.keys import digests_of
from cluster.provider import Problem, ProviderError
from controlplane.cluster_view import Shortfall, needed, shortfalls
from controlplane.endpoint_view import explain, problems_of
from controlplane.kubernetes.cluster_store import ClusterStore
from controlplane.kubernetes.endpoint_follower import EndpointFollower
from controlplane.plane import ControlPlane
from serving.clock import Clock
from serving.endpoint import Auth, Version, VersionKey
from serving.replica import ReplicaState

PERIOD_S = 1.0
ROUND_S = 10.0
"""Time within which every endpoint is examined, changed or not."""
COUNTS_EVERY_S = 10.0
"""Interval of writes that change only requests in flight and waiting."""
WRITES_PER_PERIOD = 20
"""The rest of the write budget of a second is for scaling."""
AT_ONCE = 4

COUNTS = ("busy", "waiting")

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class StatusWriter:
    """Writes the status of endpoints; runs in the leader only."""

    def __init__(
        self,
        api: Api,
        objects: EndpointObjects,
        fence: Fence,
        reporter: EventRecorder,
        facts: "StatusFacts",
        clock: Clock,
        rfc3339: Callable[[], str],
        touched: set[str],
    ) -> None:
        """A status writer.

        api: client of the API server.
        objects: existing ScoringEndpoints.
        fence: checked before every write.
        reporter: records Events.
        facts: status of an object.
        clock: event-loop clock.
        rfc3339: current UTC time.
        touched: names of changed endpoints; emptied here.
        """
        self._api = api
        self._objects = objects
        self._fence = fence
        self._reporter = reporter
        self._facts = facts
        self._clock = clock
        self._rfc3339 = rfc3339
        self._touched = touched
        self._written_at: dict[str, float] = {}
        """Uid of an object -> time of the last write."""

    async def run(self) -> None:
        """Write changed statuses until cancelled."""
        names: list[str] = []
        share = 0
        while True:
            if not names:
                names = self._objects.names()
                share = math.ceil(len(names) * PERIOD_S / ROUND_S)
            turn, names = names[:share], names[share:]
            due = self._due({*self._touched, *turn})
            self._touched |= {found["metadata"]["name"] for found, _ in due[WRITES_PER_PERIOD:]}
            for batch in range(0, min(len(due), WRITES_PER_PERIOD), AT_ONCE):
                await asyncio.gather(*(self._write(*each) for each in due[batch : batch + AT_ONCE]))
            await self._clock.sleep(PERIOD_S)

    def _due(self, names: set[str]) -> list[tuple[Object, Object]]:
        """Objects with a status to write; those without any first, because routers wait for their keys."""
        self._touched.clear()
        found = [(each, status) for name in names for each in self._reported(name) if (status := self._judged(each))]
        return sorted(found, key=lambda pair: "status" in pair[0])

    def _reported(self, name: str) -> Iterator[Object]:
        owner = self._objects.owner(name)
        if owner is not None:
            yield from (each for each in (owner, *self._objects.rivals(name)) if not is_leaving(each))

    def _judged(self, found: Object) -> Object | None:
        try:
            return self._new(found)
        except Exception:  # a defect with one endpoint must not affect the others
            _log.exception("status of %s: unknown", title_of(found))
            return None

    def _new(self, found: Object) -> Object | None:
        """The status to write now; None: unchanged or not due."""
        before = found.get("status") or {}
        status = status_of(before, self._facts.of(found), self._rfc3339())
        if status == before:
            return None
        since_s = self._clock.now() - self._written_at.get(found["metadata"]["uid"], -COUNTS_EVERY_S)
        if since_s < COUNTS_EVERY_S and _without_counts(status) == _without_counts(before):
            self._touched.add(found["metadata"]["name"])
            return None
        return status

    async def _write(self, found: Object, status: Object) -> None:
        metadata, before = found["metadata"], found.get("status") or {}
        patch = {**{name: None for name in before if name not in status}, **status}
        try:
            self._fence.check()
            where = path(ENDPOINTS, metadata["namespace"], metadata["name"], "status")
            written = await self._api.merge(where, {"status": patch})
        except NotFound:
            return
        except (ApiError, ProviderError) as error:
            _log.warning("status of %s: write failed: %s", title_of(found), error)
            self._touched.add(metadata["name"])
            return
        self._written_at[metadata["uid"]] = self._clock.now()
        self._objects.put(written)
        for reason, note, warning in status_events(before, status):
            self._reporter.record(found, reason, note, warning)


class StatusFacts:
    """Collects the status of an endpoint from its sources."""

    def __init__(
        self,
        objects: EndpointObjects,
        plane: ControlPlane,
        provider: KubernetesProvider,
        store: ClusterStore,
        follower: EndpointFollower,
    ) -> None:
        self._objects = objects
        self._plane = plane
        self._provider = provider
        self._store = store
        self._follower = follower

    def of(self, found: Object) -> EndpointStatus:
        """Status of one object, also of one that does not own its name."""
        name, generation = found["metadata"]["name"], found["metadata"].get("generation", 0)
        owner = self._objects.owner(name)
        if owner is None or owner["metadata"]["uid"] != found["metadata"]["uid"]:
            taken = Trouble("NameTaken", f"name is taken by {title_of(owner) if owner else name}")
            return EndpointStatus(name, generation, trouble=taken)
        declared = self._plane.declared(name)
        trouble = self._trouble(name)
        if declared is None:
            return EndpointStatus(name, self._store.generation(name), trouble=trouble)
        sources = self._plane.sources
        keys = declared.endpoint.auth is Auth.KEY
        missing = {each.key: each for each in shortfalls((declared.endpoint,), sources.view)}
        return EndpointStatus(
            endpoint=name,
            generation=self._store.generation(name),
            versions=tuple(self._version(name, version, missing) for version in declared.endpoint.versions),
            default_version=declared.endpoint.default.name,
            scoring_uri=f"{sources.scoring_url}/api/v1/service/{name}/score",
            keys=digests_of(declared.keys.primary, declared.keys.secondary) if keys else {},
            incarnation=declared.keys.incarnation,
            trouble=trouble or self._failing(name, declared.endpoint.versions),
        )

    def degraded(self, name: str) -> str:
        """Reason and message of the condition Degraded of a declared endpoint; "" if it does not hold."""
        declared = self._plane.declared(name)
        trouble = self._trouble(name) or (self._failing(name, declared.endpoint.versions) if declared else None)
        return f"{trouble.reason}: {trouble.message}" if trouble else ""

    def _trouble(self, name: str) -> Trouble | None:
        if why := self._follower.refused.get(name):
            return Trouble("Invalid", why)
        if skipped := self._plane.endpoints.skipped().get(name):
            return Trouble("NotReconciled" if skipped.is_retried else "Invalid", skipped.why)
        if withheld := self._provider.status.withheld(name):
            return Trouble(withheld.reason, withheld.message)
        if why := self._provider.status.conflicts(name):
            return Trouble("FieldConflict", f"{why}; left as it is")
        if why := self._plane.sources.trouble(name) or self._provider.status.refusals(name):
            return Trouble("NotReconciled", why)
        return None

    def _failing(self, name: str, versions: tuple[Version, ...]) -> Trouble | None:
        """The versions with replicas that do not start, or end."""
        view, texts = self._plane.sources.view, []
        for version in versions:
            facts = view.facts(key := VersionKey(name, version.name))
            if facts.failing:
                count = sum(view.counts(key).values())
                texts.append(f"{version.name}: {facts.failing} of {count} replicas failing: {facts.hindrance}")
        return Trouble(FAILING, "; ".join(texts)) if texts else None

    def _version(self, endpoint: str, version: Version, missing: Mapping[VersionKey, Shortfall]) -> VersionStatus:
        key, sources = VersionKey(endpoint, version.name), self._plane.sources
        seen, facts = sources.observe(version, key), self._provider.status.facts(key)
        problems = problems_of(key, sources)
        return VersionStatus(
            name=version.name,
            ready=sources.view.counts(key)[ReplicaState.READY],
            desired=sources.desired(version, key),
            busy=seen.busy,
            waiting=seen.waiting,
            needed=needed(version),
            selector=facts.selector,
            message="; ".join(explain(missing.get(key), problems, []).splitlines()),
            updating=facts.updating,
            limited=facts.limit.message if facts.limit is not None else "",
            limited_reason=facts.limit.reason if facts.limit is not None else "",
            conflict=facts.conflict,
            dropping=problems.get(Problem.DROPPING, ""),
        )


FAILING = "ReplicasFailing"
"""Reason of the condition Degraded. Its message, with the times of the kubelet's back-off, changes all the time."""
RESUMED = {shape.SCALING_LIMITED: "ScalingUnlimited", shape.SCALING_CONFLICT: "ScalingResumed"}
"""Condition -> reason of the Event of its end; the note has its last message."""
WARNINGS = (shape.SCALING_LIMITED, shape.SCALING_CONFLICT, shape.PAYLOADS_DROPPED, shape.DEGRADED)


def status_events(before: Object, after: Object) -> Iterator[tuple[str, str, bool]]:
    """Events for a change of status: (reason, note, True for a warning)."""
    known = {each["type"]: each for each in before.get("conditions") or ()}
    for condition in after.get("conditions") or ():
        type_, holds = condition["type"], condition["status"] == "True"
        held = known.get(type_, {}).get("status") == "True"
        before_it = known.get(type_, {})
        same = before_it.get("reason") == condition["reason"] and condition["reason"] == FAILING
        if type_ in WARNINGS and holds and not (held and (same or before_it.get("message") == condition["message"])):
            reason = condition["reason"] if type_ == shape.DEGRADED else type_
            yield reason, condition["message"], True
        elif type_ in RESUMED and held and not holds:
            yield RESUMED[type_], before_it.get("message", ""), False
        elif type_ == shape.READY and holds and not held:
            yield "Ready", f"{after.get('ready')} replicas are ready", False
        elif type_ == shape.READY and held and not holds:
            yield "NotReady", condition["message"], True


def _without_counts(status: Object) -> Object:
    versions = [
        {name: value for name, value in version.items() if name not in COUNTS}
        for version in status.get("versions") or ()
    ]
    return {**status, "versions": versions}
