"""All ScoringEndpoints of the watched namespaces as routers read them. Pure.

An object that is not valid is skipped; one that was valid before keeps its last valid endpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.client.selectors import SelectorError
from cluster.kubernetes.cluster_index import (
    NameOwnership,
    Place,
    ReplicaRule,
    Seniority,
    place_of,
    rule_of,
    seniority_of,
)
from cluster.kubernetes.objects.endpoint_status import digests_of, selectors_of
from cluster.kubernetes.objects.scoring_endpoint import endpoint_of, static_replicas
from serving.credentials import KeyDigests
from serving.endpoint import Endpoint, VersionKey
from serving.faults import InvalidManifest
from serving.replica import Replica


@dataclass(frozen=True, slots=True)
class Declaration:
    """One ScoringEndpoint."""

    namespace: str
    name: str
    age: Seniority
    generation: int
    leaving: bool
    endpoint: Endpoint | None
    """None: no valid state is known."""
    problem: str
    keys: KeyDigests
    selectors: Mapping[str, str]
    """Version -> selector of its pods, from the status."""
    rules: Mapping[VersionKey, ReplicaRule] = field(default_factory=dict)
    """Rules of the versions with pods."""
    static: tuple[Replica, ...] = ()


class Declarations:
    """The declarations by name and namespace."""

    def __init__(self) -> None:
        self._all: NameOwnership[Declaration] = NameOwnership(lambda each: each.age)
        self.revision = 0
        """Increases with every change."""

    def put(self, cr: Mapping[str, Any]) -> bool:
        """Add or change an object; True if that changed its declaration."""
        place = place_of(cr)
        before = self._all.get(place)
        after = _declaration(cr, before)
        if after == before:
            return False
        self.revision += 1
        self._all.put(place, after)
        return True

    def drop(self, place: Place) -> None:
        """Remove an object; one that is not known is no change."""
        self.revision += self._all.drop(place)

    def within(self, namespace: str | None) -> list[Place]:
        """The objects of a namespace; None: of all."""
        return [place for place, _ in self._all.items() if namespace in (None, place[0])]

    def current(self, name: str) -> Declaration | None:
        """The declaration to serve under a name; None if its owner has no valid state or is being deleted."""
        owner = self._all.owner(name)
        return owner if owner is not None and owner.endpoint is not None and not owner.leaving else None

    def problems(self) -> dict[str, str]:
        """`namespace/name` of an object -> the reason for not serving its current state."""
        found = {}
        for (namespace, name), declaration in self._all.items():
            owner = self._all.owner(name)
            assert owner is not None, "the declaration itself has this name"
            taken = f"name is taken by {owner.namespace}/{name}" if owner is not declaration else ""
            if problem := taken or declaration.problem:
                found[f"{namespace}/{name}"] = problem
        return found


def _declaration(cr: Mapping[str, Any], before: Declaration | None) -> Declaration:
    """Parses the spec only if its generation is new: status changes come many times a second."""
    metadata = cr["metadata"]
    age, generation = seniority_of(cr), metadata.get("generation", 0)
    same_object = before is not None and before.age == age
    if before is not None and same_object and before.generation == generation and generation:
        endpoint, problem, static = before.endpoint, before.problem, before.static
    else:
        endpoint, problem = _parsed_endpoint(cr, before.endpoint if before is not None and same_object else None)
        static = static_replicas(endpoint) if endpoint is not None else ()
    selectors = selectors_of(cr)
    namespace = metadata.get("namespace", "")
    if before is not None and selectors == before.selectors and endpoint is before.endpoint:
        rules = before.rules
    else:
        rules = _rules(endpoint, namespace, selectors)
    return Declaration(
        namespace=namespace,
        name=metadata["name"],
        age=age,
        generation=generation,
        leaving=metadata.get("deletionTimestamp") is not None,
        endpoint=endpoint,
        problem=problem,
        keys=digests_of(cr) or KeyDigests(metadata["name"], ()),
        selectors=selectors,
        rules=rules,
        static=static,
    )


def _parsed_endpoint(cr: Mapping[str, Any], before: Endpoint | None) -> tuple[Endpoint | None, str]:
    """The endpoint and "", or the one before and the faults."""
    try:
        return endpoint_of(cr), ""
    except InvalidManifest as error:
        faults = "; ".join(map(str, error.faults))
        return before, f"what is declared cannot be used: {faults}"


def _rules(endpoint: Endpoint | None, namespace: str, selectors: Mapping[str, str]) -> dict[VersionKey, ReplicaRule]:
    rules: dict[VersionKey, ReplicaRule] = {}
    if endpoint is None:
        return rules
    for version in endpoint.versions:
        try:
            rule = rule_of(version, namespace, selectors.get(version.name))
        except SelectorError:
            continue  # until the leader publishes another selector
        if rule is not None:
            rules[VersionKey(endpoint.name, version.name)] = rule
    return rules
