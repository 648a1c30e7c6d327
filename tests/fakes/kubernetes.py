"""A Kubernetes API server in memory: versions, preconditions, field owners, finalizers, pages, watches.

The only fake of the API: over HTTP it is `tests.fakes.kubernetes_http`, with callers and rights `tests.fakes.people`.
Its controllers create and delete the pods of workloads; there is no kubelet: pods become ready on demand.
"""

import asyncio
import copy
import itertools
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from cluster.kubernetes.client import paths
from cluster.kubernetes.client.api_errors import (
    ApiError,
    ApiUnreachable,
    NotFound,
    RequestRefused,
    ResourceExpired,
    WriteConflict,
)
from cluster.kubernetes.client.paths import PODS, SECRETS, Resource
from tests.fakes.object_rules import (
    Object,
    Place,
    add_owners,
    check_invariants,
    check_preconditions,
    collection_of,
    deletion_rank,
    field_conflict,
    is_owned,
    is_same,
    is_selected,
    leaves_of,
    merged,
    number_in,
    number_manager,
    ordinal,
    place_of,
    plural_of,
    reference_to,
    remove_value,
    scale_of,
    server_metadata,
    set_value,
    split,
    status_of,
    value_at,
)

WITH_STATUS = frozenset({"deployments", "statefulsets", "scoringendpoints", "pods"})
WORKLOADS = frozenset({"deployments", "statefulsets"})
SHIPPED_SECRETS = tuple(f"scorefront-{name}" for name in ("keys", "signing", "control-token", "peers", "peers-ca"))
"""As deploy/base/secrets.yaml: without data."""
REPLICA_SETS = "apps/replicasets"
REVISION = "5d4f6"
"""Hash of the pod template in names of ReplicaSets and labels of pods; the same for every template."""
OWNER_REFERENCES = ("metadata", "ownerReferences")
KINDS = {collection_of(each): each for each in vars(paths).values() if isinstance(each, Resource)}


class FakeKubernetes:
    """Satisfies `cluster.kubernetes.client.api.Api`. Without `room`, every pod finds a node."""

    def __init__(self, home: str = "home", starts_ready: bool = True, controllers: bool = True) -> None:
        """
        home          namespace of the client
        starts_ready  new pods are ready at once
        controllers   create and delete the pods of workloads
        """
        self.home = home
        self._has_controllers = controllers
        self.starts_ready = starts_ready
        self.room: int | None = None
        """Number of pods that fit on nodes; None: unlimited."""
        self.is_away = False
        self.is_silent = False
        """Watches stay open without events."""
        self.refusal: Callable[[str, str], ApiError | None] = lambda verb, where: None
        """(verb, path) of a call -> its error."""
        self.delay: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        """Time on the way of a request."""
        self.failures: dict[str, ApiError] = {}
        """End of a path -> error of every request for it."""
        self.on_version: Callable[[Place, Object | None], None] = lambda place, found: None
        """Called with every new version of an object; None: its deletion."""
        self.calls: list[tuple[str, str, Object]] = []
        """(verb, path, body) of every attempted write."""
        self.reads: list[str] = []
        self.logs: dict[tuple[str, bool], str] = {}
        """(pod, previous) -> log of its container."""
        self._objects: dict[Place, Object] = {}
        self._owners: dict[Place, dict[tuple[str, ...], str]] = {}
        """Object -> field -> its last writer."""
        # No object has the first resourceVersion, as in a cluster: its store begins with an entry of its own.
        self._history: list[tuple[str, Place, Object]] = [("BOOKMARK", ("", "", ""), {})]
        self._forgotten = 0
        """Watches from older versions are refused."""
        self._rests: dict[str, tuple[int, list[Object]]] = {}
        """Continue token -> version of the list, objects of the further pages."""
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._controls = self._control_again = False
        for name in SHIPPED_SECRETS:
            self.put(SECRETS, {"metadata": {"name": name}, "type": "Opaque"})

    # ---- actions of a test

    def put(self, resource: Resource, found: Object, by: str = "test") -> Object:
        """Create or replace an object, its status included, without any check."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(found)}
        metadata = full["metadata"]
        place = place_of(resource, metadata.setdefault("namespace", self.home), metadata["name"])
        if place in self._objects:
            full["metadata"] = {**server_metadata(self._objects[place]), **metadata}
        return copy.deepcopy(self._write(place, full, by))

    def find(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """An object, or None."""
        found = self._objects.get(place_of(resource, namespace or self.home, name))
        return copy.deepcopy(found)

    def must_find(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """An object. Fails the test if there is none."""
        found = self.find(resource, name, namespace)
        assert found is not None, f"no {resource.plural} {name}"
        return found

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a kind, oldest first."""
        collection = collection_of(resource)
        return [copy.deepcopy(each) for place, each in self._objects.items() if place[0] == collection]

    def edit(
        self, resource: Resource, name: str, patch: Object, by: str = "kubectl-edit", namespace: str = ""
    ) -> Object:
        """Change an object by the merge patch of another client."""
        place = place_of(resource, namespace or self.home, name)
        return copy.deepcopy(self._write(place, merged(self._objects[place], patch), by))

    def take_away(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Remove an object at once, despite finalizers."""
        self._drop(place_of(resource, namespace or self.home, name))

    def pods(self, *, leaving: bool = False) -> list[str]:
        """Names of the pods that are (not) marked for deletion, oldest first."""
        found = [pod["metadata"] for pod in self.all(PODS)]
        return [each["name"] for each in found if ("deletionTimestamp" in each) is leaving]

    def ready(self, name: str, address: str = "127.0.0.1", namespace: str = "") -> None:
        """Report a pod as started and ready, like its kubelet."""
        status = {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "model", "state": {"running": {}}, "restartCount": 0}],
        }
        self.edit(PODS, name, {"spec": {"nodeName": "node-1"}, "status": status}, "kubelet", namespace)

    def end(self, name: str) -> None:
        """Remove a pod marked for deletion, like its kubelet after the exit of the containers."""
        self.take_away(PODS, name)
        self._control()

    def end_all(self) -> None:
        """Remove all pods marked for deletion."""
        for name in self.pods(leaving=True):
            self.end(name)

    def go_away(self) -> None:
        """Refuse every connection and break every watch, until `come_back`."""
        self.is_away = True
        self._wake()

    def come_back(self) -> None:
        """Accept connections again."""
        self.is_away = False

    @property
    def newest_version(self) -> int:
        """The resourceVersion of the last change."""
        return len(self._history)

    def has_expired(self, version: int) -> bool:
        """True if the history since `version` is lost."""
        return version < self._forgotten

    def forget_history(self) -> None:
        """Compaction: clients with an older version must list again."""
        self._forgotten = len(self._history)

    def bookmark(self, resource: Resource) -> None:
        """Send the newest version to the watches of a kind."""
        found = {"kind": resource.kind, "metadata": {"resourceVersion": str(self.newest_version + 1)}}
        self._history.append(("BOOKMARK", (collection_of(resource), "", ""), found))
        self._wake()

    def events(self, resource: Resource, after: int = 0) -> list[tuple[str, Object]]:
        """(type, object) of all changes of a kind after a version."""
        changes = self._history[after:]
        return [(kind, found) for kind, place, found in changes if place[0] == collection_of(resource)]

    def writes(self, verb: str, end: str = "") -> list[Object]:
        """Bodies of the attempted writes with this verb on paths with this end."""
        return [body for each, where, body in self.calls if each == verb and where.endswith(end)]

    def verbs(self, end: str) -> list[str]:
        """Verbs of the attempted writes on paths with this end."""
        return [verb for verb, where, _ in self.calls if where.endswith(end)]

    # ---- the rules, without a network

    def get_now(self, where: str, query: Mapping[str, str] | None = None) -> Object:
        """`get`, at once."""
        collection, namespace, name, sub = split(where)
        if name:
            found = self._found((collection, namespace or "", name), where)
            return scale_of(found) if sub == "scale" else copy.deepcopy(found)
        return self._page(collection, namespace, query or {})

    def create_now(self, where: str, body: Object) -> Object:
        """`create`, at once."""
        collection, namespace, _, _ = split(where)
        place = (collection, namespace or "", body["metadata"]["name"])
        if place in self._objects:
            raise WriteConflict(f"{where}: {place[2]} already exists", 409, "AlreadyExists")
        found = copy.deepcopy(body)
        found["metadata"]["namespace"] = place[1]
        if plural_of(collection) in WITH_STATUS:
            found.pop("status", None)
        return copy.deepcopy(self._write(place, found, "scorefront-update"))

    def replace_now(self, where: str, body: Object) -> Object:
        """`replace`, at once."""
        collection, namespace, name, sub = split(where)
        place = (collection, namespace or "", name)
        known = self._found(place, where)
        check_preconditions(known, body, where)
        if sub == "scale":
            scaled = merged(known, {"spec": {"replicas": body["spec"]["replicas"]}})
            return scale_of(self._write(place, scaled, "scale"))
        found = copy.deepcopy(body)
        found["metadata"] = {**found["metadata"], **server_metadata(known)}
        if sub == "status":
            found = {**copy.deepcopy(known), "status": found.get("status")}
        elif plural_of(collection) in WITH_STATUS:
            found = {**{key: value for key, value in found.items() if key != "status"}, **status_of(known)}
        return copy.deepcopy(self._write(place, found, "scorefront-update"))

    # ---- cluster.kubernetes.client.api.Api

    async def get(self, where: str, query: Mapping[str, str] | None = None) -> Object:
        self.reads.append(where)
        await self._ask("get", where)
        return self.get_now(where, query)

    async def create(self, where: str, body: Object, query: Any = None, urgent: bool = False) -> Object:
        await self._ask("create", where, body)
        return self.create_now(where, body)

    async def replace(self, where: str, body: Object, urgent: bool = False) -> Object:
        await self._ask("replace", where, body)
        return self.replace_now(where, body)

    async def merge(self, where: str, body: Object) -> Object:
        await self._ask("merge", where, body)
        collection, namespace, name, sub = split(where)
        place = (collection, namespace or "", name)
        known = self._found(place, where)
        if (body.get("metadata") or {}).get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            raise RequestRefused(f"{where}: metadata.uid: Invalid value: field is immutable", 422, "Invalid")
        check_preconditions(known, body, where)
        patch = copy.deepcopy(body)
        patch.get("metadata", {}).pop("resourceVersion", None)
        if sub == "status":
            patch = {"status": patch.get("status")}
        after = merged(known, patch)
        check_invariants(known, after, where)
        written = self._write(place, after, "scorefront-update")
        return scale_of(written) if sub == "scale" else copy.deepcopy(written)

    async def apply(self, where: str, body: Object, manager: str = "scorefront", force: bool = False) -> Object:
        await self._ask("apply", where, body)
        collection, namespace, name, _ = split(where)
        place = (collection, namespace or "", name)
        known = self._objects.get(place)
        if known is not None:
            check_preconditions(known, body, where)
        before = known or {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": name}}
        owners, leaves = self._owners.setdefault(place, {}), dict(leaves_of(body))
        references = leaves.pop(OWNER_REFERENCES, [])
        theirs = [
            (field, owners[field])
            for field, value in leaves.items()
            if owners.get(field, manager) != manager and value_at(before, field) != value
        ]
        if theirs and not force:
            raise field_conflict(where, theirs)
        after = copy.deepcopy(before)
        for field in [field for field, owner in owners.items() if owner == manager and field not in leaves]:
            del owners[field]
            remove_value(after, field)
        for field, value in leaves.items():
            set_value(after, field, value)
        add_owners(after, references)
        check_invariants(known, after, where)
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
        check_preconditions(known, {"metadata": {"uid": uid, "resourceVersion": resource_version}}, where)
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
        if self.has_expired(at):
            raise ResourceExpired(f"{where}: too old", 410, "Expired")
        while True:
            while at < len(self._history) and not self.is_silent:
                kind, place, found = self._history[at]
                at += 1
                if place[0] != collection:
                    continue
                if kind == "BOOKMARK" or (namespace in (None, place[1]) and is_selected(found, query)):
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
        await self.delay()
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

    def _page(self, collection: str, namespace: str | None, query: Mapping[str, str]) -> Object:
        """One page of a list; `continue` leads to the further pages of the same version."""
        resource = KINDS.get(collection)
        version, found = self._rests.get(query.get("continue", ""), (self.newest_version, []))
        if "continue" not in query:
            found = list(self._listed(collection, namespace, query))
        limit = int(query.get("limit", 0)) or len(found)
        metadata: Object = {"resourceVersion": str(version)}
        if found[limit:]:
            metadata["continue"] = f"{version}:{next(self._numbers)}"
            self._rests[metadata["continue"]] = (version, found[limit:])
        # As in a real list, the kind is stated once, and not in the items.
        items = [
            {name: value for name, value in copy.deepcopy(each).items() if name not in ("apiVersion", "kind")}
            for each in found[:limit]
        ]
        kind, api_version = (resource.kind, resource.api_version) if resource is not None else ("", "v1")
        return {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items}

    def _listed(self, collection: str, namespace: str | None, query: Mapping[str, str]) -> Iterator[Object]:
        for place, found in self._objects.items():
            if place[0] == collection and namespace in (None, place[1]) and is_selected(found, query):
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
            if plural_of(place[0]) in WORKLOADS:
                found["spec"].setdefault("replicas", 1)
        else:
            if plural_of(place[0]) in WORKLOADS:
                found["spec"].setdefault("replicas", 1)
            if "managedFields" in known["metadata"]:
                metadata["managedFields"] = known["metadata"]["managedFields"]
            if is_same(known, found):
                return known
            changed = found.get("spec") != known.get("spec")
            metadata["generation"] = known["metadata"].get("generation", 1) + changed
        if by and plural_of(place[0]) in WORKLOADS and number_in(known) != number_in(found):
            metadata["managedFields"] = [number_manager(by)]
        if by:
            owners = self._owners.setdefault(place, {})
            before = dict(leaves_of(known)) if known is not None else {}
            owners |= {field: by for field, value in leaves_of(found) if before.get(field) != value}
        metadata["resourceVersion"] = str(len(self._history) + 1)
        self._objects[place] = found
        self._record("MODIFIED" if known is not None else "ADDED", place, found)
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and plural_of(place[0]) != "pods":
            self._drop(place)
        self._control()
        return found

    def _delete(self, place: Place) -> None:
        known = self._objects[place]
        if known["metadata"].get("finalizers") or plural_of(place[0]) == "pods":
            if "deletionTimestamp" not in known["metadata"]:
                self._write(place, merged(known, {"metadata": {"deletionTimestamp": "2026-01-01T01:00:00Z"}}), "")
            return
        self._drop(place)
        self._control()

    def _drop(self, place: Place) -> None:
        found = self._objects.pop(place)
        self._owners.pop(place, None)
        last = merged(found, {"metadata": {"resourceVersion": str(len(self._history) + 1)}})
        self._record("DELETED", place, last)
        for owned in [each for each, other in self._objects.items() if is_owned(other, found["metadata"]["uid"])]:
            if owned in self._objects:
                self._delete(owned)

    def _record(self, kind: str, place: Place, found: Object) -> None:
        self._history.append((kind, place, copy.deepcopy(found)))
        self.on_version(place, None if kind == "DELETED" else self._history[-1][2])
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
            for place in [place for place in self._objects if plural_of(place[0]) in WORKLOADS]:
                if place in self._objects:
                    self._have_pods(self._objects[place], place[1])
        self._controls = False

    def _have_pods(self, workload: Object, namespace: str) -> None:
        spec, collection = workload["spec"], collection_of(PODS)
        owner = self._maker_of_pods(workload, namespace)
        uid = owner["metadata"]["uid"]
        owned = [
            (place, pod)
            for place, pod in self._objects.items()
            if place[0] == collection and place[1] == namespace and is_owned(pod, uid)
        ]
        active = [(place, pod) for place, pod in owned if "deletionTimestamp" not in pod["metadata"]]
        in_order = workload["kind"] == "StatefulSet"
        if len(active) > spec["replicas"]:
            rank = (lambda pair: -ordinal(pair[1])) if in_order else (lambda pair: deletion_rank(pair[1]))
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
        """The direct owner of the pods: a StatefulSet itself; for a Deployment its only ReplicaSet."""
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
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": [reference_to(workload)]},
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
                "ownerReferences": [reference_to(workload)],
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
        self._write((collection_of(PODS), namespace, name), pod, "controller")
        if self.starts_ready and pod["spec"].get("nodeName"):
            self.ready(name, namespace=namespace)
