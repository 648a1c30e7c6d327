"""Reading and writing Deployments and StatefulSets, under the fence of this leadership."""

import logging
from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.api import Api
from cluster.kubernetes.conflicts import field_conflict
from cluster.kubernetes.errors import ApiError, Conflict, NotFound
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.objects.labels import FENCE, MANAGER
from cluster.kubernetes.paths import DEPLOYMENTS, STATEFULSETS, path
from cluster.kubernetes.reflector import Gone, Put
from cluster.kubernetes.watched import Watched
from cluster.provider import ProviderError
from serving.endpoint import WorkloadRef

ATTEMPTS = 5
"""A write that meets a newer object is made again on that one, so often."""

Object = dict[str, Any]

_log = logging.getLogger(__name__)


class FieldConflict(ProviderError):
    """Others own fields that we declare; the text names both."""


class Workloads:
    """The newest that is known of every workload, be it from a watch or from the answer to a write of ours."""

    def __init__(self, api: Api, fence: Fence, deployments: Watched, statefulsets: Watched) -> None:
        self._api = api
        self._fence = fence
        self._newest: dict[tuple[str, str, str], Object] = {}
        deployments.listen(lambda change: self._note("Deployment", change))
        statefulsets.listen(lambda change: self._note("StatefulSet", change))

    def find(self, namespace: str, workload: WorkloadRef) -> Object | None:
        """What is known of it; None: there is none, as far as is known."""
        return self._newest.get((workload.kind, namespace, workload.name))

    def deployments(self) -> list[Object]:
        """Every Deployment that is known."""
        return [found for (kind, _, _), found in self._newest.items() if kind == "Deployment"]

    async def current(self, namespace: str, workload: WorkloadRef) -> Object:
        """It, with our fence on it: nobody whose leadership is over can write it any more. Raises ProviderError."""
        found = self.find(namespace, workload) or await self.read(namespace, workload)
        for _ in range(ATTEMPTS):
            self._fence.admit(found)
            if self._fence.is_on(found):
                return found
            body = {
                "metadata": {
                    "resourceVersion": found["metadata"]["resourceVersion"],
                    "annotations": {FENCE: str(self._fence.number)},
                }
            }
            try:
                found = await self._api.merge(_path(namespace, workload), body)
            except Conflict:
                found = await self.read(namespace, workload)
            except ApiError as error:
                raise ProviderError(f"cannot write {_named(namespace, workload)}: {error}") from error
            else:
                self._keep(namespace, workload, found)
        raise ProviderError(f"{_named(namespace, workload)} changes too fast to be written; trying again")

    async def read(self, namespace: str, workload: WorkloadRef) -> Object:
        """It, as the API has it now. Raises ProviderError."""
        try:
            found = await self._api.get(_path(namespace, workload))
        except NotFound as error:
            self._newest.pop((workload.kind, namespace, workload.name), None)
            raise ProviderError(f"there is no {_named(namespace, workload)}") from error
        except ApiError as error:
            raise ProviderError(f"cannot read {_named(namespace, workload)}: {error}") from error
        self._keep(namespace, workload, found)
        return found

    async def apply(self, namespace: str, workload: WorkloadRef, body: Object) -> Object:
        """Have our fields as in `body`. Raises FieldConflict where others own them; never takes a field by force."""
        for _ in range(ATTEMPTS):
            found = self.find(namespace, workload)
            if found is not None:
                self._fence.admit(found)
                # What a leader whose time is over meant to write fails, once the new one has written anything.
                version = {"resourceVersion": found["metadata"]["resourceVersion"]}
                body = {**body, "metadata": {**body["metadata"], **version}}
            self._fence.check()
            try:
                made = await self._api.apply(_path(namespace, workload), body, MANAGER)
            except Conflict as error:
                if told := field_conflict(error):
                    raise FieldConflict(f"{_named(namespace, workload)}: {told}") from error
                await self._reread(namespace, workload)
            except ApiError as error:
                raise ProviderError(f"cannot apply {_named(namespace, workload)}: {error}") from error
            else:
                self._keep(namespace, workload, made)
                return await self.current(namespace, workload)
        raise ProviderError(f"{_named(namespace, workload)} changes too fast to be written; trying again")

    async def set_number(self, namespace: str, workload: WorkloadRef, replicas: int) -> int:
        """Have this number of replicas, by the scale subresource: the number before. Raises ProviderError."""
        for _ in range(ATTEMPTS):
            found = await self.current(namespace, workload)
            before = number_of(found)
            if before == replicas:
                return before
            body = {
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {
                    "name": workload.name,
                    "namespace": namespace,
                    "resourceVersion": found["metadata"]["resourceVersion"],
                },
                "spec": {"replicas": replicas},
            }
            try:
                scale = await self._api.replace(_path(namespace, workload, "scale"), body)
            except Conflict:
                await self._reread(namespace, workload)
            except ApiError as error:
                raise ProviderError(f"cannot scale {_named(namespace, workload)}: {error}") from error
            else:
                metadata = {**found["metadata"], "resourceVersion": scale["metadata"]["resourceVersion"]}
                spec = {**found["spec"], "replicas": replicas}
                self._keep(namespace, workload, {**found, "metadata": metadata, "spec": spec})
                return before
        raise ProviderError(f"{_named(namespace, workload)} changes too fast to be scaled; trying again")

    async def delete(self, namespace: str, workload: WorkloadRef) -> None:
        """Delete it, and its pods with it. Raises ProviderError."""
        found = self.find(namespace, workload)
        if found is None:
            return
        self._fence.admit(found)
        try:
            await self._api.delete(_path(namespace, workload), uid=found["metadata"]["uid"])
        except Conflict:
            await self._reread(namespace, workload)
        except ApiError as error:
            raise ProviderError(f"cannot delete {_named(namespace, workload)}: {error}") from error

    async def _reread(self, namespace: str, workload: WorkloadRef) -> None:
        try:
            self._keep(namespace, workload, await self._api.get(_path(namespace, workload)))
        except NotFound:
            self._newest.pop((workload.kind, namespace, workload.name), None)
        except ApiError as error:
            raise ProviderError(f"cannot read {_named(namespace, workload)}: {error}") from error

    def _keep(self, namespace: str, workload: WorkloadRef, found: Object) -> None:
        self._newest[workload.kind, namespace, workload.name] = found

    def _note(self, kind: str, change: Put | Gone) -> None:
        metadata = change.object["metadata"]
        place = (kind, metadata["namespace"], metadata["name"])
        if isinstance(change, Put):
            self._newest[place] = change.object
        elif self._newest.get(place, change.object)["metadata"]["uid"] == metadata["uid"]:
            self._newest.pop(place, None)


def number_of(workload: Mapping[str, Any]) -> int:
    """How many replicas it is to have."""
    replicas = (workload.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def is_rolling(deployment: Mapping[str, Any]) -> bool:
    """Pods of an older template are being replaced, and it is not stuck: who is removed now is a matter of chance."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if deployment["metadata"].get("generation", 0) != status.get("observedGeneration", 0):
        return False  # most often a number that was just written: what it says of pods is old
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return False
    updated = status.get("updatedReplicas", 0)
    return bool(status.get("replicas", 0) > updated and spec.get("replicas", 1) > 0)


def refused_pods(deployment: Mapping[str, Any]) -> str:
    """Why its controller may not make the pods that it should, e.g. a quota; "" if it may."""
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    return next(
        (
            str(condition.get("message") or condition.get("reason"))
            for condition in conditions
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        ),
        "",
    )


def _path(namespace: str, workload: WorkloadRef, sub: str = "") -> str:
    if workload.kind == "StatefulSet":
        return path(STATEFULSETS, namespace, workload.name, sub)
    return path(DEPLOYMENTS, namespace, workload.name, sub)


def _named(namespace: str, workload: WorkloadRef) -> str:
    return f"{workload.kind} {namespace}/{workload.name}"
