"""Liveness of pods by the knowledge of routers: a pod that is not ready and has no request for too long is replaced.

A probe of the kubelet cannot tell a hung replica from one whose health path is silent, or answers 503, while it scores;
routers hold its requests, so they can.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, WriteConflict
from cluster.kubernetes.client.paths import PODS, path
from cluster.kubernetes.objects.deployment import has_our_liveness
from cluster.kubernetes.objects.pod import is_ready, is_running, replica_id
from cluster.kubernetes.pod_cache import PodCache
from cluster.kubernetes.scaled_version import ScaledVersion
from serving.clock import Clock
from serving.endpoint import LivenessProbe, VersionKey

EVERY_S = 5.0

Pod = Mapping[str, Any]

_log = logging.getLogger(__name__)


class SilentPods:
    """Times without a sign of life: readiness, or a request in flight. Pure."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        """Uid of a running pod -> time since when it shows none."""
        self._lived: set[str] = set()
        """Uids of pods that have shown one."""

    def hung(self, pods: Iterable[Pod], busy: Collection[str], liveness: LivenessProbe, now: float) -> list[Pod]:
        """The pods that were silent for too long.

        pods: running pods.
        busy: ids of replicas with a request in flight.
        liveness: the limits. A pod may be silent for as long as all failing probes take, and before its first
        readiness for the initial delay, too.
        now: seconds on a monotonic clock.
        """
        found = []
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if is_ready(pod) or replica_id(pod) in busy:
                self._since.pop(uid, None)
                self._lived.add(uid)
                continue
            silent_s = now - self._since.setdefault(uid, now)
            if silent_s >= _longest_s(liveness) + (0.0 if uid in self._lived else liveness.initial_delay_s):
                found.append(pod)
        return found

    def keep(self, uids: Collection[str]) -> None:
        """Forget all other pods."""
        self._since = {uid: since_s for uid, since_s in self._since.items() if uid in uids}
        self._lived &= set(uids)


def _longest_s(liveness: LivenessProbe) -> float:
    return liveness.failure_threshold * max(liveness.period_s, liveness.timeout_s)


class HungPodRemoval:
    """Deletes hung pods of the Deployments made here; their controller replaces them."""

    def __init__(
        self,
        api: Api,
        scaled: Mapping[VersionKey, ScaledVersion],
        pod_cache: PodCache,
        clock: Clock,
        record_event: Callable[[str, str, str, bool], None],
    ) -> None:
        """`scaled`: the versions with a workload. `record_event`: endpoint, reason, note, True for a warning."""
        self._api = api
        self._scaled = scaled
        self._pod_cache = pod_cache
        self._clock = clock
        self._record_event = record_event
        self._silent = SilentPods()

    async def run(self, busy: Callable[[VersionKey], Collection[str] | None]) -> None:
        """For ever. `busy`: the replicas of a version with a request in flight; None while routers do not report."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self._sweep(busy)

    async def _sweep(self, busy: Callable[[VersionKey], Collection[str] | None]) -> None:
        seen: set[str] = set()
        for key, scaled in [*self._scaled.items()]:
            in_flight = busy(key)
            if not has_our_liveness(scaled.version):
                continue
            pods = [pod for pod in self._pod_cache.pods_of(key) if is_running(pod)]
            seen |= {pod["metadata"]["uid"] for pod in pods}
            if in_flight is None:
                continue
            for pod in self._silent.hung(pods, in_flight, scaled.version.liveness, self._clock.now()):
                await self._delete(key, pod)
        self._silent.keep(seen)

    async def _delete(self, key: VersionKey, pod: Pod) -> None:
        metadata = pod["metadata"]
        note = f"{key.version}: pod {metadata['name']} is replaced: no readiness and no request in flight for too long"
        try:
            # With the version that was judged: the watch may be late.
            where = path(PODS, metadata["namespace"], metadata["name"])
            await self._api.delete(where, metadata["uid"], metadata["resourceVersion"])
        except WriteConflict:
            return
        except ApiError as error:
            _log.warning("%s: cannot delete hung pod %s: %s", key, metadata["name"], error)
            return
        _log.warning("%s: %s", key.endpoint, note)
        self._record_event(key.endpoint, "Hung", note, True)
