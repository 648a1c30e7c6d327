"""Rules of a Kubernetes API server as functions of objects: paths, merges, field owners, preconditions, ranks. Pure."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.kubernetes.client.api_errors import RequestRefused, WriteConflict
from cluster.kubernetes.client.paths import Resource
from cluster.kubernetes.client.selectors import parsed

Object = dict[str, Any]
Place = tuple[str, str, str]
"""(collection such as "apps/deployments", namespace, name)."""

OF_METADATA = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}
)


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
    """Value of a field, or None."""
    for name in field:
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def set_value(found: Object, field: tuple[str, ...], value: Any) -> None:
    for name in field[:-1]:
        found = found.setdefault(name, {})
    found[field[-1]] = copy.deepcopy(value)


def remove_value(found: Object, field: tuple[str, ...]) -> None:
    for name in field[:-1]:
        found = found.get(name, {})
    found.pop(field[-1], None)


def check_preconditions(known: Object, body: Object, where: str) -> None:
    """Raises WriteConflict if a precondition in `body` does not hold."""
    metadata = body.get("metadata") or {}
    for field in ("resourceVersion", "uid"):
        if metadata.get(field) and metadata[field] != known["metadata"][field]:
            raise WriteConflict(f"{where}: the object has been modified", 409, "Conflict")


def add_owners(found: Object, references: list[Object]) -> None:
    """Owner references are told apart by their uid."""
    if references:
        added = {each["uid"] for each in references}
        kept = [each for each in found["metadata"].get("ownerReferences") or () if each["uid"] not in added]
        found["metadata"]["ownerReferences"] = [*kept, *copy.deepcopy(references)]


def check_invariants(known: Object | None, after: Object, where: str) -> None:
    """Raises RequestRefused for objects that every API server refuses."""
    controllers = [each for each in after["metadata"].get("ownerReferences") or () if each.get("controller") is True]
    if len(controllers) > 1:
        raise RequestRefused(f"{where}: Only one reference can have Controller set to true", 422, "Invalid")
    if known is not None and known["kind"] in ("Deployment", "StatefulSet"):
        before = known["spec"].get("selector")
        if before is not None and before != after["spec"].get("selector"):
            raise RequestRefused(f"{where}: spec.selector: Invalid value: field is immutable", 422, "Invalid")


def reference_to(owner: Object) -> Object:
    metadata = owner["metadata"]
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    return {**named, "controller": True}


def field_conflict(where: str, theirs: list[tuple[tuple[str, ...], str]]) -> WriteConflict:
    reason = "FieldManagerConflict"
    causes = [
        {"reason": reason, "message": f'conflict with "{owner}" using apps/v1', "field": "." + ".".join(field)}
        for field, owner in theirs
    ]
    return WriteConflict(f"{where}: conflicts", 409, "Conflict", body={"details": {"causes": causes}})


def server_metadata(found: Object) -> Object:
    """The metadata that the server sets."""
    return {name: found["metadata"][name] for name in OF_METADATA if name in found["metadata"]}


def scale_of(found: Object) -> Object:
    metadata = {name: found["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {"kind": "Scale", "metadata": metadata, "spec": {"replicas": found["spec"]["replicas"]}}


def status_of(found: Object) -> Object:
    return {"status": copy.deepcopy(found["status"])} if "status" in found else {}


def number_in(workload: Object | None) -> int | None:
    """`spec.replicas`, or None."""
    return None if workload is None else value_at(workload, ("spec", "replicas"))


def number_manager(by: str) -> Object:
    """The entry of `managedFields` of the last writer of the number; "scale": scorefront, by the subresource."""
    ours = {"manager": "scorefront", "operation": "Update", "subresource": "scale"}
    writer = ours if by == "scale" else {"manager": by, "operation": "Update"}
    return {**writer, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def is_same(known: Object, found: Object) -> bool:
    def bare(each: Object) -> Object:
        moving = ("resourceVersion", "generation")
        return {**each, "metadata": {name: value for name, value in each["metadata"].items() if name not in moving}}

    return bare(known) == bare(found)


def is_selected(found: Object, query: Mapping[str, str]) -> bool:
    if text := query.get("fieldSelector"):
        name, _, value = text.partition("=")
        if str(value_at(found, tuple(name.split(".")))) != value:
            return False
    text = query.get("labelSelector", "")
    return not text or parsed(text).fits(found["metadata"].get("labels") or {})


def is_owned(found: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in found["metadata"].get("ownerReferences") or ())


def is_ready(pod: Object) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())


def deletion_rank(pod: Object) -> tuple[Any, ...]:
    """As the ReplicaSet controller ranks pods: the least goes first."""
    cost = int((pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0"))
    age = [-ord(character) for character in pod["metadata"]["creationTimestamp"]]
    return bool(pod["spec"].get("nodeName")), pod["status"]["phase"] == "Running", is_ready(pod), cost, age


def ordinal(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def collection_of(resource: Resource) -> str:
    return f"{resource.group}/{resource.plural}"


def plural_of(collection: str) -> str:
    return collection.rpartition("/")[2]


def place_of(resource: Resource, namespace: str, name: str) -> Place:
    return collection_of(resource), namespace, name
