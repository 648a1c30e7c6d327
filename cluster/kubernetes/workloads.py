"""Reading and writing Deployments and StatefulSets: those that are ours, under the fence of this leadership."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound, RequestRefused, WriteConflict
from cluster.kubernetes.client.conflict_retry import update
from cluster.kubernetes.client.paths import DEPLOYMENTS, STATEFULSETS, path
from cluster.kubernetes.client.reflector import ObjectGone, ObjectPut
from cluster.kubernetes.client.watched import ResourceWatch
from cluster.kubernetes.conflicts import field_conflict
from cluster.kubernetes.failed_calls import failed
from cluster.kubernetes.fence import Fence
from cluster.kubernetes.objects.labels import CLAIM, FENCE, MANAGER, RESTARTED
from cluster.kubernetes.ownership import WorkloadClaim, check, is_claimed, may_release, may_write
from cluster.provider import ProviderError
from serving.endpoint import WorkloadRef

ABSENT = "1"
"""A resourceVersion that no object has: an apply with it creates, or conflicts with an existing object."""

Object = dict[str, Any]


class FieldConflict(ProviderError):
    """Others own fields that we declare; the text names both."""


class Workloads:
    """The newest known state of every workload, from a watch or from the answer to an own write."""

    def __init__(self, api: Api, fence: Fence, deployments: ResourceWatch, statefulsets: ResourceWatch) -> None:
        self._api = api
        self._fence = fence
        self._newest: dict[tuple[str, str, str], Object] = {}
        """(kind, namespace, name)."""
        self._written: dict[tuple[str, str, str], str] = {}
        """resourceVersion of the last own write of a number."""
        deployments.listen(lambda change: self._note("Deployment", change))
        statefulsets.listen(lambda change: self._note("StatefulSet", change))

    def find(self, namespace: str, workload: WorkloadRef) -> Object | None:
        """The last known state; None if there is none."""
        return self._newest.get((workload.kind, namespace, workload.name))

    def of(self, claim: WorkloadClaim) -> Object | None:
        """The last known state of the workload of `claim`, None unless it may be written for the claim."""
        found = self.find(claim.namespace, claim.workload)
        return found if found is not None and may_write(found, claim) else None

    def has_written_after(self, place: tuple[str, str, str], found: Object) -> bool:
        """True if the last own write of this workload's number is newer than `found`."""
        try:
            return int(self._written[place]) > int(found["metadata"]["resourceVersion"])
        except (KeyError, ValueError):
            return False

    def all(self) -> Iterator[tuple[str, Object]]:
        """Every Deployment and StatefulSet that is known, with its kind."""
        return ((kind, found) for (kind, _, _), found in self._newest.items())

    async def current(self, claim: WorkloadClaim) -> Object:
        """The workload, marked with our fence and our claim: no former leader can write it from then on.

        Raises ProviderError; NotWritable, with nothing written, if it is not ours.
        """

        async def write(found: Object) -> Object:
            await self._admit(found, claim)
            if self._fence.is_on(found) and is_claimed(found, claim):
                return found
            notes = {FENCE: self._fence.mark} | ({CLAIM: claim.owner.uid} if claim.adopts else {})
            with _failing(f"write {claim.title}"):
                found = await self._api.merge(_path(claim), _annotating(found, notes))
            self._keep(claim, found)
            return found

        found = self.find(claim.namespace, claim.workload) or await self.read(claim)
        return await update(found, write, lambda: self.read(claim), _exhausted(claim, "written"))

    async def read(self, claim: WorkloadClaim) -> Object:
        """It, as the API has it now. Raises ProviderError."""
        found = await self._reread(claim)
        if found is None:
            raise ProviderError(f"there is no {claim.title}")
        return found

    async def confirm(self, claim: WorkloadClaim) -> Object:
        """It, as the API has it now, if it may be written. Raises ProviderError, NotWritable."""
        found = await self.read(claim)
        await self._admit(found, claim)
        return found

    async def apply(self, claim: WorkloadClaim, body: Object) -> Object:
        """Server-side apply of `body`. Raises FieldConflict if others own a field; never forces."""
        absent: Object = {"resourceVersion": ABSENT}

        async def write(found: Object | None) -> Object:
            if found is not None:
                await self._admit(found, claim)
            self._fence.check()
            # Once the new leader has written, the write of a former leader conflicts. An absent workload is created,
            # never changed: a foreign object may have taken its name meanwhile.
            precondition = {"resourceVersion": found["metadata"]["resourceVersion"]} if found is not None else absent
            versioned = {**body, "metadata": {**_without_version(body), **precondition}}
            try:
                with _failing(f"apply {claim.title}"):
                    made = await self._api.apply(_path(claim), versioned, MANAGER)
            except WriteConflict as error:
                if message := field_conflict(error):
                    # Ownership errors take precedence over field errors.
                    check(await self._reread(claim), claim)
                    raise FieldConflict(f"{claim.title}: {message}") from error
                raise
            except ProviderError as error:
                if isinstance(error.__cause__, RequestRefused):
                    check(await self._reread(claim), claim)
                raise
            self._keep(claim, made)
            return await self.current(claim)

        async def reread() -> Object | None:
            nonlocal absent
            found = await self._reread(claim)
            check(found, claim)
            if found is None:
                absent = {}  # the server takes the version for one of a deleted object
            return found

        known = self.find(claim.namespace, claim.workload)
        return await update(known, write, reread, _exhausted(claim, "written"))

    async def restart(self, claim: WorkloadClaim) -> Object:
        """Change its pod template by a mark, so that its controller replaces the pods. Raises ProviderError."""

        async def write(found: Object) -> Object:
            await self._admit(found, claim)
            metadata = found["metadata"]
            mark = {RESTARTED: str(metadata.get("generation", metadata["resourceVersion"]))}
            patch = {
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "spec": {"template": {"metadata": {"annotations": mark}}},
            }
            with _failing(f"restart {claim.title}"):
                found = await self._api.merge(_path(claim), patch)
            self._keep(claim, found)
            return found

        return await update(await self.current(claim), write, lambda: self.read(claim), _exhausted(claim, "restarted"))

    async def set_number(self, claim: WorkloadClaim, replicas: int) -> int:
        """Set the number of replicas by the scale subresource; returns the one before. Raises ProviderError."""

        async def write(found: Object) -> int:
            before = number_of(found)
            if before == replicas:
                return before
            version = found["metadata"]["resourceVersion"]
            metadata = {"name": claim.workload.name, "namespace": claim.namespace, "resourceVersion": version}
            body = {
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": metadata,
                "spec": {"replicas": replicas},
            }
            with _failing(f"scale {claim.title}"):
                scale = await self._api.replace(_path(claim, "scale"), body)
            metadata = {**found["metadata"], "resourceVersion": scale["metadata"]["resourceVersion"]}
            self._keep(claim, {**found, "metadata": metadata, "spec": {**found["spec"], "replicas": replicas}})
            self._written[claim.place] = metadata["resourceVersion"]
            return before

        async def reread() -> Object:
            await self._reread(claim)
            return await self.current(claim)

        return await update(await self.current(claim), write, reread, _exhausted(claim, "scaled"))

    async def delete(self, claim: WorkloadClaim) -> None:
        """Delete the workload and its pods; one that is not ours is left alone. Raises ProviderError."""

        async def write(found: Object | None) -> None:
            if found is None:
                return
            await self._fence.admit(found)
            metadata = found["metadata"]
            with _failing(f"delete {claim.title}"):
                await self._api.delete(_path(claim), metadata["uid"], metadata["resourceVersion"])

        async def reread() -> Object | None:
            await self._reread(claim)
            return self.of(claim)

        await update(self.of(claim), write, reread, _exhausted(claim, "deleted"))

    async def release(self, claim: WorkloadClaim) -> None:
        """Remove our claim from an adopted workload; the fence stays, against former leaders. Raises ProviderError."""

        async def write(found: Object | None) -> None:
            if found is None or not may_release(found, claim):
                return
            await self._fence.admit(found)
            with _failing(f"write {claim.title}"), contextlib.suppress(NotFound):
                self._keep(claim, await self._api.merge(_path(claim), _annotating(found, {CLAIM: None})))

        known = self.find(claim.namespace, claim.workload)
        await update(known, write, lambda: self._reread(claim), _exhausted(claim, "written"))

    async def _admit(self, found: Object, claim: WorkloadClaim) -> None:
        """Raises NotWritable if it is not ours, and the errors of `Fence.admit`."""
        check(found, claim)
        await self._fence.admit(found)

    async def _reread(self, claim: WorkloadClaim) -> Object | None:
        """Read the workload from the API; None if it does not exist. Raises ProviderError."""
        try:
            found = await self._api.get(_path(claim))
        except NotFound:
            self._newest.pop((claim.workload.kind, claim.namespace, claim.workload.name), None)
            return None
        except ApiError as error:
            raise failed(f"read {claim.title}", error) from error
        self._keep(claim, found)
        return found

    def _keep(self, claim: WorkloadClaim, found: Object) -> None:
        self._newest[claim.workload.kind, claim.namespace, claim.workload.name] = found

    def _note(self, kind: str, change: ObjectPut | ObjectGone) -> None:
        metadata = change.object["metadata"]
        place = (kind, metadata["namespace"], metadata["name"])
        if isinstance(change, ObjectPut):
            self._newest[place] = change.object
        elif self._newest.get(place, change.object)["metadata"]["uid"] == metadata["uid"]:
            self._newest.pop(place, None)
            self._written.pop(place, None)


def number_of(workload: Mapping[str, Any]) -> int:
    """The number of replicas in the spec, default 1."""
    replicas = (workload.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def is_observed(deployment: Mapping[str, Any]) -> bool:
    """True if its status is about the present declaration."""
    status = deployment.get("status") or {}
    return bool(deployment["metadata"].get("generation", 0) == status.get("observedGeneration", 0))


def is_rolling(deployment: Mapping[str, Any]) -> bool:
    """True while pods of an older template are replaced; the pods that a lower number removes are then arbitrary."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if not is_observed(deployment):
        return False  # most often right after a change of the number: the status is stale
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return False
    updated = status.get("updatedReplicas", 0)
    return bool(status.get("replicas", 0) > updated and spec.get("replicas", 1) > 0)


QUOTA = "exceeded quota"
"""In the text of the quota controller, the only admission that means no room."""


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


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turns ApiError into ProviderError; a WriteConflict passes, for `update`."""
    try:
        yield
    except WriteConflict:
        raise
    except ApiError as error:
        raise failed(what, error) from error


def _exhausted(claim: WorkloadClaim, done: str) -> ProviderError:
    return ProviderError(f"{claim.title} changes too fast to be {done}; trying again")


def _without_version(body: Object) -> Object:
    return {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}


def _annotating(found: Object, notes: Mapping[str, str | None]) -> Object:
    """The merge patch that sets annotations (None removes one) of the very object that was read."""
    metadata = found["metadata"]
    return {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": dict(notes)}}


def _path(claim: WorkloadClaim, sub: str = "") -> str:
    if claim.workload.kind == "StatefulSet":
        return path(STATEFULSETS, claim.namespace, claim.workload.name, sub)
    return path(DEPLOYMENTS, claim.namespace, claim.workload.name, sub)
