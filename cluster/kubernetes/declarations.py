"""Which endpoint a name stands for, out of all ScoringEndpoints of all watched namespaces. Pure.

A name is unique over them: the oldest object has it, the others are told so. An object that cannot be understood is
skipped; one that could be before stays what it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.client.selectors import Selector, SelectorError, parsed
from cluster.kubernetes.objects.endpoint_status import digests_of, selectors_of
from cluster.kubernetes.objects.scoring_endpoint import endpoint_of, static_replicas
from serving.credentials import KeyDigests
from serving.endpoint import Endpoint, ReplicaKind
from serving.faults import InvalidManifest
from serving.replica import Replica

Place = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One ScoringEndpoint."""

    namespace: str
    name: str
    age: tuple[str, str]
    """Grows from older to younger: when it was created, and its uid."""
    generation: int
    leaving: bool
    endpoint: Endpoint | None
    """None: it cannot be understood."""
    problem: str
    keys: KeyDigests
    told_selectors: Mapping[str, str]
    adopted: Mapping[str, Selector] = field(default_factory=dict)
    """Version -> which pods are its replicas, where scorefront does not make them."""
    static: tuple[Replica, ...] = ()


class Declarations:
    """All of them."""

    def __init__(self) -> None:
        self._all: dict[Place, Declaration] = {}
        self._named: dict[str, dict[Place, Declaration]] = {}
        self.revision = 0
        """Grows with every change."""

    def put(self, cr: Mapping[str, Any]) -> bool:
        """An object is new or has changed; whether that changes anything of what is kept here."""
        place = _place(cr)
        before = self._all.get(place)
        after = _declaration(cr, before)
        if after == before:
            return False
        self.revision += 1
        self._all[place] = after
        self._named.setdefault(after.name, {})[place] = after
        return True

    def drop(self, place: Place) -> None:
        """An object is gone; an unknown one is harmless."""
        if self._all.pop(place, None) is None:
            return
        self.revision += 1
        others = self._named[place[1]]
        del others[place]
        if not others:
            del self._named[place[1]]

    def within(self, namespace: str | None) -> list[Place]:
        """Objects of this namespace; None: of all."""
        return [place for place in self._all if namespace is None or place[0] == namespace]

    def current(self, name: str) -> Declaration | None:
        """What the name stands for; None while that is nothing that could be served."""
        holder = self._holder(name)
        return holder if holder is not None and holder.endpoint is not None and not holder.leaving else None

    def names(self) -> Iterable[str]:
        """Every name that anything has."""
        return self._named

    def problems(self) -> dict[str, str]:
        """`namespace/name` -> why it is not what it should be, for those of which there is something to say."""
        found = {}
        for (namespace, name), declaration in self._all.items():
            holder = self._holder(name)
            assert holder is not None, "whoever has a name is among those who want it"
            taken = f"name is taken by {holder.namespace}/{name}" if holder is not declaration else ""
            if problem := taken or declaration.problem:
                found[f"{namespace}/{name}"] = problem
        return found

    def _holder(self, name: str) -> Declaration | None:
        return min(self._named.get(name, {}).values(), key=lambda each: each.age, default=None)


def _place(cr: Mapping[str, Any]) -> Place:
    return cr["metadata"].get("namespace", ""), cr["metadata"]["name"]


def _declaration(cr: Mapping[str, Any], before: Declaration | None) -> Declaration:
    """Status changes come many times a second, and cost no reading of the spec: its generation tells that it is the
    same.
    """
    metadata = cr["metadata"]
    age = metadata.get("creationTimestamp") or "", metadata.get("uid", "")
    generation = metadata.get("generation", 0)
    same_object = before is not None and before.age == age
    if before is not None and same_object and before.generation == generation and generation:
        endpoint, problem, static = before.endpoint, before.problem, before.static
    else:
        endpoint, problem = _understood(cr, before.endpoint if before is not None and same_object else None)
        static = static_replicas(endpoint) if endpoint is not None else ()
    told = selectors_of(cr)
    if before is not None and told == before.told_selectors and endpoint is before.endpoint:
        told, adopted = dict(before.told_selectors), before.adopted
    else:
        adopted = _adopted(endpoint, told)
    return Declaration(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        age=age,
        generation=generation,
        leaving=metadata.get("deletionTimestamp") is not None,
        endpoint=endpoint,
        problem=problem,
        keys=digests_of(cr) or KeyDigests(metadata["name"], ()),
        told_selectors=told,
        adopted=adopted,
        static=static,
    )


def _understood(cr: Mapping[str, Any], before: Endpoint | None) -> tuple[Endpoint | None, str]:
    try:
        return endpoint_of(cr), ""
    except InvalidManifest as error:
        faults = "; ".join(map(str, error.faults))
        return before, f"what is declared cannot be used: {faults}"


def _adopted(endpoint: Endpoint | None, told: Mapping[str, str]) -> dict[str, Selector]:
    found = {}
    for version in endpoint.versions if endpoint is not None else ():
        if version.replica.kind is ReplicaKind.WORKLOAD_REF and version.name in told:
            try:
                found[version.name] = parsed(told[version.name])
            except SelectorError:
                continue  # until the leader has looked at the workload again
    return found
