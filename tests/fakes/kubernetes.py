"""A Kubernetes API in memory that keeps its rules: versions, preconditions, owners of fields, finalizers, watches; and
controllers that make and remove pods as those of a cluster do, where no kubelet is: pods become ready when a test says.
"""

import asyncio
import copy
import itertools
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

from cluster.kubernetes.client.api_errors import (
    ApiError,
    ApiUnreachable,
    NotFound,
    RequestRefused,
    ResourceExpired,
    WriteConflict,
)
from cluster.kubernetes.client.paths import PODS, SECRETS, Resource
from cluster.kubernetes.client.selectors import parsed

Object = dict[str, Any]
Place = tuple[str, str, str]
"""(collection such as "apps/deployments", namespace, name)."""

WITH_STATUS = frozenset({"deployments", "statefulsets", "scoringendpoints", "pods"})
WORKLOADS = frozenset({"deployments", "statefulsets"})
SHIPPED_SECRETS = tuple(f"scorefront-{name}" for name in ("keys", "signing", "control-token", "peers", "peers-ca"))
"""As deploy/base/secrets.yaml: without data."""
REPLICA_SETS = "apps/replicasets"
REVISION = "5d4f6"
"""The hash of a pod template, in names of ReplicaSets and labels of pods."""
OWNER_REFERENCES = ("metadata", "ownerReferences")
OF_METADATA = frozenset({"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"})


class FakeKubernetes:
    """Fits `cluster.kubernetes.client.api.Api`. `starts_ready`: pods are ready as soon as they are made; none is
    ever full.
    """

    def __init__(self, home: str = "home", starts_ready: bool = True, controllers: bool = True) -> None:
        """`controllers`: workloads get the pods that they ask for."""
        self.home = home
        self._has_controllers = controllers
        self.starts_ready = starts_ready
        self.room: int | None = None
        """How many pods there is room for; None: for all."""
        self.is_away = False
        self.refusal: Callable[[str, str], ApiError | None] = lambda verb, where: None
        """Asked before every call, with its verb and path: what it fails with."""
        self.failures: dict[str, ApiError] = {}
        """The end of a path -> the error of every request for it."""
        self.calls: list[tuple[str, str, Object]] = []
        """(verb, path, body) of every write that was tried."""
        self.reads: list[str] = []
        self.logs: dict[tuple[str, bool], str] = {}
        """(pod, previous) -> what it wrote."""
        self._objects: dict[Place, Object] = {}
        self._owners: dict[Place, dict[tuple[str, ...], str]] = {}
        """Object -> field -> who wrote it last."""
        # No object has the first resourceVersion, as in a cluster, whose store begins with one of its own.
        self._history: list[tuple[str, Place, Object]] = [("BOOKMARK", ("", "", ""), {})]
        self._forgotten = 0
        """Versions up to this one cannot be watched from any more."""
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._controls = self._control_again = False
        for name in SHIPPED_SECRETS:
            self.put(SECRETS, {"metadata": {"name": name}, "type": "Opaque"})

    # ---- what a test does

    def put(self, resource: Resource, found: Object, by: str = "test") -> Object:
        """An object is there, new or changed, whatever the rules say; its status too."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(found)}
        metadata = full["metadata"]
        place = _place_of(resource, metadata.setdefault("namespace", self.home), metadata["name"])
        if place in self._objects:
            full["metadata"] = {**_of_server(self._objects[place]), **metadata}
        return copy.deepcopy(self._write(place, full, by))

    def find(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """An object, or None."""
        found = self._objects.get(_place_of(resource, namespace or self.home, name))
        return copy.deepcopy(found)

    def must_find(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """An object. Fails the test where there is none."""
        found = self.find(resource, name, namespace)
        assert found is not None, f"no {resource.plural} {name}"
        return found

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a kind, oldest first."""
        collection = _collection_of(resource)
        return [copy.deepcopy(each) for place, each in self._objects.items() if place[0] == collection]

    def edit(
        self, resource: Resource, name: str, patch: Object, by: str = "kubectl-edit", namespace: str = ""
    ) -> Object:
        """Somebody else changes an object, by a merge patch."""
        place = _place_of(resource, namespace or self.home, name)
        return copy.deepcopy(self._write(place, merged(self._objects[place], patch), by))

    def take_away(self, resource: Resource, name: str, namespace: str = "") -> None:
        """An object is gone at once, finalizers or not."""
        self._drop(_place_of(resource, namespace or self.home, name))

    def pods(self, *, leaving: bool = False) -> list[str]:
        """Names of pods that are not about to go (or of those that are), oldest first."""
        found = [pod["metadata"] for pod in self.all(PODS)]
        return [each["name"] for each in found if ("deletionTimestamp" in each) is leaving]

    def ready(self, name: str, address: str = "127.0.0.1", namespace: str = "") -> None:
        """A pod has started, and is ready."""
        status = {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "model", "state": {"running": {}}, "restartCount": 0}],
        }
        self.edit(PODS, name, {"spec": {"nodeName": "node-1"}, "status": status}, "kubelet", namespace)

    def end(self, name: str) -> None:
        """A pod that was about to go has ended."""
        self.take_away(PODS, name)
        self._control()

    def end_all(self) -> None:
        """All that were about to go have ended."""
        for name in self.pods(leaving=True):
            self.end(name)

    def go_away(self) -> None:
        """Nothing is answered from now on, and every watch breaks, until `come_back`."""
        self.is_away = True
        self._wake()

    def come_back(self) -> None:
        """It answers again."""
        self.is_away = False

    def forget_history(self) -> None:
        """Whoever watches from before now has to list again."""
        self._forgotten = len(self._history)

    def writes(self, verb: str, end: str = "") -> list[Object]:
        """What was written so, to paths that end so."""
        return [body for each, where, body in self.calls if each == verb and where.endswith(end)]

    def verbs(self, end: str) -> list[str]:
        """The verbs of the writes that were tried on paths that end so."""
        return [verb for verb, where, _ in self.calls if where.endswith(end)]

    # ---- cluster.kubernetes.client.api.Api

    async def get(self, where: str, query: Mapping[str, str] | None = None) -> Object:
        self.reads.append(where)
        await self._ask("get", where)
        collection, namespace, name, sub = split(where)
        if name:
            found = self._found((collection, namespace or "", name), where)
            return _scale_of(found) if sub == "scale" else copy.deepcopy(found)
        items = [copy.deepcopy(each) for each in self._listed(collection, namespace, query or {})]
        return {"kind": "List", "metadata": {"resourceVersion": str(len(self._history))}, "items": items}

    async def create(self, where: str, body: Object, query: Any = None, urgent: bool = False) -> Object:
        await self._ask("create", where, body)
        collection, namespace, _, _ = split(where)
        place = (collection, namespace or "", body["metadata"]["name"])
        if place in self._objects:
            raise WriteConflict(f"{where}: {place[2]} already exists", 409, "AlreadyExists")
        found = copy.deepcopy(body)
        found["metadata"]["namespace"] = place[1]
        if _plural(collection) in WITH_STATUS:
            found.pop("status", None)
        return copy.deepcopy(self._write(place, found, "scorefront-update"))

    async def replace(self, where: str, body: Object, urgent: bool = False) -> Object:
        await self._ask("replace", where, body)
        collection, namespace, name, sub = split(where)
        place = (collection, namespace or "", name)
        known = self._found(place, where)
        _check(known, body, where)
        if sub == "scale":
            scaled = merged(known, {"spec": {"replicas": body["spec"]["replicas"]}})
            return _scale_of(self._write(place, scaled, "scale"))
        found = copy.deepcopy(body)
        found["metadata"] = {**found["metadata"], **_of_server(known)}
        if sub == "status":
            found = {**copy.deepcopy(known), "status": found.get("status")}
        elif _plural(collection) in WITH_STATUS:
            found = {**{key: value for key, value in found.items() if key != "status"}, **_status_of(known)}
        return copy.deepcopy(self._write(place, found, "scorefront-update"))

    async def merge(self, where: str, body: Object) -> Object:
        await self._ask("merge", where, body)
        collection, namespace, name, sub = split(where)
        place = (collection, namespace or "", name)
        known = self._found(place, where)
        if (body.get("metadata") or {}).get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            raise RequestRefused(f"{where}: metadata.uid: Invalid value: field is immutable", 422, "Invalid")
        _check(known, body, where)
        patch = copy.deepcopy(body)
        patch.get("metadata", {}).pop("resourceVersion", None)
        if sub == "status":
            patch = {"status": patch.get("status")}
        after = merged(known, patch)
        _check_invariants(known, after, where)
        written = self._write(place, after, "scorefront-update")
        return _scale_of(written) if sub == "scale" else copy.deepcopy(written)

    async def apply(self, where: str, body: Object, manager: str = "scorefront", force: bool = False) -> Object:
        await self._ask("apply", where, body)
        collection, namespace, name, _ = split(where)
        place = (collection, namespace or "", name)
        known = self._objects.get(place)
        if known is not None:
            _check(known, body, where)
        before = known or {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": name}}
        owners, leaves = self._owners.setdefault(place, {}), dict(leaves_of(body))
        references = leaves.pop(OWNER_REFERENCES, [])
        theirs = [
            (field, owners[field])
            for field, value in leaves.items()
            if owners.get(field, manager) != manager and value_at(before, field) != value
        ]
        if theirs and not force:
            raise _field_conflict(where, theirs)
        after = copy.deepcopy(before)
        for field in [field for field, owner in owners.items() if owner == manager and field not in leaves]:
            del owners[field]
            _remove(after, field)
        for field, value in leaves.items():
            _set(after, field, value)
        _add_owners(after, references)
        _check_invariants(known, after, where)
        written = self._write(place, after, "")
        for field in leaves:
            if force or owners.get(field, manager) == manager:
                owners[field] = manager
        return copy.deepcopy(written)

    async def delete(self, where: str, uid: str = "", resource_version: str = "", grace_s: int | None = None) -> None:
        await self._ask("delete", where, {"uid": uid, "resourceVersion": resource_version})
        collection, namespace, name, _ = split(where)
        place = (collection, namespace or "", name)
        known = self._objects.get(place)
        if known is None:
            return
        _check(known, {"metadata": {"uid": uid, "resourceVersion": resource_version}}, where)
        self._delete(place)

    async def text(self, where: str, query: Mapping[str, str] | None = None) -> str:
        self.reads.append(where)
        await self._ask("text", where)
        query = query or {}
        pod = where.split("/")[-2]
        lines = self.logs.get((pod, query.get("previous") == "true"), "").splitlines(keepends=True)
        return "".join(lines[-int(query.get("tailLines", len(lines) or 1)) :])

    async def lines(
        self, where: str, query: Mapping[str, str], silent_s: float = 70.0, max_line_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        await self._ask("watch", where)
        collection, namespace, _, _ = split(where)
        at = int(query.get("resourceVersion") or len(self._history))
        if at < self._forgotten:
            raise ResourceExpired(f"{where}: too old", 410, "Expired")
        while True:
            while at < len(self._history):
                kind, place, found = self._history[at]
                at += 1
                if place[0] == collection and namespace in (None, place[1]) and _fits(found, query):
                    yield json.dumps({"type": kind, "object": found}).encode()
            if not self.is_away:
                await self._changed.wait()
            if self.is_away:
                raise ApiUnreachable(f"{where}: the connection is lost")

    async def version(self) -> str:
        return "v1.33.0"

    async def close(self) -> None:
        pass

    # ---- inside

    async def _ask(self, verb: str, where: str, body: Object | None = None) -> None:
        if body is not None:
            self.calls.append((verb, where, copy.deepcopy(body)))
        await asyncio.sleep(0)
        if self.is_away:
            raise ApiUnreachable(f"{where}: connection refused")
        if (error := self.refusal(verb, where)) is not None:
            raise error
        for end, failure in self.failures.items():
            if where.endswith(end):
                raise failure

    def _found(self, place: Place, where: str) -> Object:
        if place not in self._objects:
            raise NotFound(f"{where}: not found", 404, "NotFound")
        return self._objects[place]

    def _listed(self, collection: str, namespace: str | None, query: Mapping[str, str]) -> Iterator[Object]:
        for place, found in self._objects.items():
            if place[0] == collection and namespace in (None, place[1]) and _fits(found, query):
                yield found

    def _write(self, place: Place, found: Object, by: str) -> Object:
        known = self._objects.get(place)
        found = copy.deepcopy(found)
        metadata = found["metadata"]
        metadata.setdefault("name", place[2])
        metadata.setdefault("namespace", place[1])
        if known is None:
            metadata.setdefault("uid", str(uuid.UUID(int=next(self._numbers) << 96)))
            hours, seconds = divmod(len(self._history), 3600)
            made_at = f"2026-01-01T{hours:02}:{seconds // 60:02}:{seconds % 60:02}Z"
            metadata.setdefault("creationTimestamp", made_at)
            metadata["generation"] = 1
            if _plural(place[0]) in WORKLOADS:
                found["spec"].setdefault("replicas", 1)
        else:
            if _plural(place[0]) in WORKLOADS:
                found["spec"].setdefault("replicas", 1)
            if _same(known, found):
                return known
            changed = found.get("spec") != known.get("spec")
            metadata["generation"] = known["metadata"].get("generation", 1) + changed
        if by:
            owners = self._owners.setdefault(place, {})
            before = dict(leaves_of(known)) if known is not None else {}
            owners |= {field: by for field, value in leaves_of(found) if before.get(field) != value}
        metadata["resourceVersion"] = str(len(self._history) + 1)
        self._objects[place] = found
        self._tell("MODIFIED" if known is not None else "ADDED", place, found)
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and _plural(place[0]) != "pods":
            self._drop(place)
        self._control()
        return found

    def _delete(self, place: Place) -> None:
        known = self._objects[place]
        if known["metadata"].get("finalizers") or _plural(place[0]) == "pods":
            if "deletionTimestamp" not in known["metadata"]:
                self._write(place, merged(known, {"metadata": {"deletionTimestamp": "2026-01-01T01:00:00Z"}}), "")
            return
        self._drop(place)
        self._control()

    def _drop(self, place: Place) -> None:
        found = self._objects.pop(place)
        self._owners.pop(place, None)
        last = merged(found, {"metadata": {"resourceVersion": str(len(self._history) + 1)}})
        self._tell("DELETED", place, last)
        for owned in [each for each, other in self._objects.items() if _is_owned(other, found["metadata"]["uid"])]:
            if owned in self._objects:
                self._delete(owned)

    def _tell(self, kind: str, place: Place, found: Object) -> None:
        self._history.append((kind, place, copy.deepcopy(found)))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ---- controllers

    def _control(self) -> None:
        self._control_again = True
        if self._controls or not self._has_controllers:
            return
        self._controls = True
        while self._control_again:
            self._control_again = False
            for place in [place for place in self._objects if _plural(place[0]) in WORKLOADS]:
                if place in self._objects:
                    self._have_pods(self._objects[place], place[1])
        self._controls = False

    def _have_pods(self, workload: Object, namespace: str) -> None:
        spec, collection = workload["spec"], _collection_of(PODS)
        owner = self._maker_of_pods(workload, namespace)
        uid = owner["metadata"]["uid"]
        owned = [
            (place, pod)
            for place, pod in self._objects.items()
            if place[0] == collection and place[1] == namespace and _is_owned(pod, uid)
        ]
        active = [(place, pod) for place, pod in owned if "deletionTimestamp" not in pod["metadata"]]
        in_order = workload["kind"] == "StatefulSet"
        if len(active) > spec["replicas"]:
            rank = (lambda pair: -_ordinal(pair[1])) if in_order else (lambda pair: _rank(pair[1]))
            for place, _ in sorted(active, key=rank)[: len(active) - spec["replicas"]]:
                self._delete(place)
        taken = {pod["metadata"]["name"] for _, pod in owned}
        for _ in range(spec["replicas"] - len(active)):
            name = workload["metadata"]["name"]
            suffix = f"{next(self._numbers):05x}"
            if in_order:
                free = [each for each in range(spec["replicas"]) if f"{name}-{each}" not in taken]
                if not free:
                    return
                suffix = str(free[0])
            taken.add(f"{name}-{suffix}")
            self._make_pod(owner, namespace, f"{name}-{suffix}")

    def _maker_of_pods(self, workload: Object, namespace: str) -> Object:
        """A StatefulSet makes its own; a Deployment has a ReplicaSet, the same one whatever its template becomes."""
        if workload["kind"] == "StatefulSet":
            return workload
        name = f"{workload['metadata']['name']}-{REVISION}"
        place = (REPLICA_SETS, namespace, name)
        template = copy.deepcopy(workload["spec"]["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})["pod-template-hash"] = REVISION
        known = self._objects.get(place)
        if known is not None:
            known["spec"]["template"] = template
            return known
        made = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": [_reference(workload)]},
            "spec": {"template": template},
        }
        return self._write(place, made, "controller")

    def _make_pod(self, workload: Object, namespace: str, name: str) -> None:
        template = workload["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": dict(template["metadata"].get("labels") or {}),
                "ownerReferences": [_reference(workload)],
            },
            "spec": copy.deepcopy(template["spec"]),
            "status": {"phase": "Pending", "conditions": []},
        }
        placed = [each for each in self.all(PODS) if each["spec"].get("nodeName")]
        if self.room is not None and len(placed) >= self.room:
            message = "0/1 nodes are available: 1 Insufficient cpu."
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            pod["status"]["conditions"] = [scheduled]
        else:
            pod["spec"]["nodeName"] = "node-1"
        self._write((_collection_of(PODS), namespace, name), pod, "controller")
        if self.starts_ready and pod["spec"].get("nodeName"):
            self.ready(name, namespace=namespace)


# ---- rules


def split(where: str) -> tuple[str, str | None, str, str]:
    """A path: ("apps/deployments", namespace, name, subresource)."""
    parts = where.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name, sub = (*rest[1:], "", "")[:2]
    return f"{group}/{rest[0]}", namespace, name, sub


def merged(known: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(known) if isinstance(known, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def leaves_of(found: Object) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Fields with their values; a list is one value."""
    for top, value in found.items():
        if top in ("apiVersion", "kind", "status"):
            continue
        if top == "metadata":
            value = {name: each for name, each in value.items() if name not in OF_METADATA}
        yield from _leaves((top,), value)


def _leaves(at: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves((*at, name), each)
    elif not (isinstance(value, dict) and at == ("metadata",)):
        yield at, value


def value_at(found: Any, field: tuple[str, ...]) -> Any:
    """What stands there, or None."""
    for name in field:
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _set(found: Object, field: tuple[str, ...], value: Any) -> None:
    for name in field[:-1]:
        found = found.setdefault(name, {})
    found[field[-1]] = copy.deepcopy(value)


def _remove(found: Object, field: tuple[str, ...]) -> None:
    for name in field[:-1]:
        found = found.get(name, {})
    found.pop(field[-1], None)


def _check(known: Object, body: Object, where: str) -> None:
    """Raises WriteConflict where a precondition in `body` does not hold."""
    metadata = body.get("metadata") or {}
    for field in ("resourceVersion", "uid"):
        if metadata.get(field) and metadata[field] != known["metadata"][field]:
            raise WriteConflict(f"{where}: the object has been modified", 409, "Conflict")


def _add_owners(found: Object, references: list[Object]) -> None:
    """Owner references are told apart by their uid."""
    if references:
        added = {each["uid"] for each in references}
        kept = [each for each in found["metadata"].get("ownerReferences") or () if each["uid"] not in added]
        found["metadata"]["ownerReferences"] = [*kept, *copy.deepcopy(references)]


def _check_invariants(known: Object | None, after: Object, where: str) -> None:
    """Raises RequestRefused for what the API server does not take of any object."""
    controllers = [each for each in after["metadata"].get("ownerReferences") or () if each.get("controller") is True]
    if len(controllers) > 1:
        raise RequestRefused(f"{where}: Only one reference can have Controller set to true", 422, "Invalid")
    if known is not None and known["kind"] in ("Deployment", "StatefulSet"):
        before = known["spec"].get("selector")
        if before is not None and before != after["spec"].get("selector"):
            raise RequestRefused(f"{where}: spec.selector: Invalid value: field is immutable", 422, "Invalid")


def _reference(owner: Object) -> Object:
    metadata = owner["metadata"]
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {**named, "controller": True}


def _field_conflict(where: str, theirs: list[tuple[tuple[str, ...], str]]) -> WriteConflict:
    reason = "FieldManagerConflict"
    causes = [
        {"reason": reason, "message": f'conflict with "{owner}" using apps/v1', "field": "." + ".".join(field)}
        for field, owner in theirs
    ]
    return WriteConflict(f"{where}: conflicts", 409, "Conflict", body={"details": {"causes": causes}})


def _of_server(found: Object) -> Object:
    """The metadata that the server sets."""
    return {name: found["metadata"][name] for name in OF_METADATA if name in found["metadata"]}


def _scale_of(found: Object) -> Object:
    metadata = {name: found["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {"kind": "Scale", "metadata": metadata, "spec": {"replicas": found["spec"]["replicas"]}}


def _status_of(found: Object) -> Object:
    return {"status": copy.deepcopy(found["status"])} if "status" in found else {}


def _same(known: Object, found: Object) -> bool:
    def bare(each: Object) -> Object:
        moving = ("resourceVersion", "generation")
        return {**each, "metadata": {name: value for name, value in each["metadata"].items() if name not in moving}}

    return bare(known) == bare(found)


def _fits(found: Object, query: Mapping[str, str]) -> bool:
    if text := query.get("fieldSelector"):
        name, _, value = text.partition("=")
        if str(value_at(found, tuple(name.split(".")))) != value:
            return False
    text = query.get("labelSelector", "")
    return not text or parsed(text).fits(found["metadata"].get("labels") or {})


def _is_owned(found: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in found["metadata"].get("ownerReferences") or ())


def _is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())


def _rank(pod: Object) -> tuple[Any, ...]:
    """As the ReplicaSet controller ranks pods: the least goes first."""
    cost = int((pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0"))
    age = [-ord(character) for character in pod["metadata"]["creationTimestamp"]]
    return bool(pod["spec"].get("nodeName")), pod["status"]["phase"] == "Running", _is_ready(pod), cost, age


def _ordinal(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _collection_of(resource: Resource) -> str:
    return f"{resource.group}/{resource.plural}"


def _plural(collection: str) -> str:
    return collection.rpartition("/")[2]


def _place_of(resource: Resource, namespace: str, name: str) -> Place:
    return _collection_of(resource), namespace, name
