"""The index of a cluster that routers and the leader share: owners of endpoint names, and pod to replica. Pure.

Objects go in, in any order and each kind at its own pace. Changes of replicas (`cluster.changes`) come out.

Name     unique over all watched namespaces; the oldest object owns it, of two created in the same second the one
         with the lower uid.
Replica  a pod is a replica of the version that its labels name, if scorefront makes the pods of that version. Else it
         is a replica of the version whose selector matches it (adopted workload); of several, the lowest key.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from cluster.changes import Remove, Upsert
from cluster.kubernetes.client.selectors import Selector, parsed
from cluster.kubernetes.objects.deployment import MADE
from cluster.kubernetes.objects.labels import key_of
from cluster.kubernetes.objects.pod import replica_of
from serving.endpoint import ReplicaKind, Version, VersionKey
from serving.replica import Replica, ReplicaState

Pod = dict[str, Any]
Step = Upsert | Remove
Place = tuple[str, str]
"""(namespace, name)."""
Seniority = tuple[str, str]
"""(creation time, uid); the lowest is the oldest."""
Entry = TypeVar("Entry")


def place_of(found: Mapping[str, Any]) -> Place:
    """Namespace and name of an object; the namespace is "" where it has none."""
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def seniority_of(found: Mapping[str, Any]) -> Seniority:
    """Sort key of an object among those of its name."""
    return found["metadata"].get("creationTimestamp") or "", found["metadata"].get("uid", "")


class NameOwnership(Generic[Entry]):
    """One entry per object; the oldest object of a name owns it."""

    def __init__(self, seniority: Callable[[Entry], Seniority]) -> None:
        self._seniority = seniority
        self._by_name: dict[str, dict[str, Entry]] = {}
        """Name -> namespace -> entry."""

    def put(self, place: Place, entry: Entry) -> None:
        """Add or replace the entry of an object."""
        self._by_name.setdefault(place[1], {})[place[0]] = entry

    def drop(self, place: Place) -> bool:
        """Remove an object; False if it is not known."""
        same_name = self._by_name.get(place[1], {})
        if same_name.pop(place[0], None) is None:
            return False
        if not same_name:
            del self._by_name[place[1]]
        return True

    def get(self, place: Place) -> Entry | None:
        """The entry of an object, None if it is not known."""
        return self._by_name.get(place[1], {}).get(place[0])

    def owner(self, name: str) -> Entry | None:
        """The entry of the object that owns a name, None if there is none."""
        return min(self._by_name.get(name, {}).values(), key=self._seniority, default=None)

    def rivals(self, name: str) -> list[Entry]:
        """The entries of the other objects of a name, oldest first."""
        return sorted(self._by_name.get(name, {}).values(), key=self._seniority)[1:]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._by_name)

    def items(self) -> Iterator[tuple[Place, Entry]]:
        """All objects with their entries."""
        for name, same_name in self._by_name.items():
            yield from (((namespace, name), entry) for namespace, entry in same_name.items())


@dataclass(frozen=True, slots=True)
class ReplicaRule:
    """The rule by which pods are replicas of a version."""

    namespace: str
    port: int
    slots: int
    selector: Selector | None = None
    """Selector of the pods of an adopted workload; None: the pods have the version's labels."""


def rule_of(version: Version, namespace: str, pod_selector: str | None) -> ReplicaRule | None:
    """The rule of a declared version; None if it has no pods.

    `pod_selector`: selector of an adopted workload's pods, None as long as it is not known. Raises SelectorError.
    """
    port, slots = version.replica.port, version.slots_per_replica
    if version.replica.kind in MADE:
        return ReplicaRule(namespace, port, slots)
    if version.replica.kind is ReplicaKind.WORKLOAD_REF and pod_selector is not None:
        return ReplicaRule(namespace, port, slots, parsed(pod_selector))
    return None


class ReplicaIndex:
    """All pods of the watched namespaces, and the rules of the declared versions.

    A step may repeat a state that is known already.
    """

    def __init__(self, drain_undeclared: bool = False) -> None:
        """`drain_undeclared`: keep labelled pods of a version without a rule as draining replicas until they are gone
        (routers); default: remove them with the rule (the leader drops the rule once the pods are drained).
        """
        self._drain_undeclared = drain_undeclared
        self._rules: dict[VersionKey, ReplicaRule] = {}
        self._adopting: dict[tuple[str, tuple[str, str] | None], dict[VersionKey, Selector]] = {}
        """Adopting versions by namespace and one required label (key, value): few of thousands are tried per pod."""
        self._pods: dict[Place, Pod] = {}
        self._labelled: dict[VersionKey, dict[Place, None]] = {}
        self._matching: dict[VersionKey, dict[Place, None]] = {}
        self._keys: dict[Place, tuple[VersionKey, ...]] = {}
        """Pod -> versions that it matches; more than one only if selectors overlap."""
        self._replicas: dict[Place, Replica] = {}
        self._versions: dict[str, VersionKey] = {}
        """Replica id -> version."""

    def declare(self, rules: Mapping[VersionKey, ReplicaRule | None]) -> list[Step]:
        """Set rules of versions, or drop them (None); other versions keep theirs."""
        touched: set[Place] = set()
        for key, rule in rules.items():
            before = self._rules.get(key)
            if before == rule:
                continue
            touched.update(place for each in (before, rule) for place in self._candidates(key, each))
            self._set_rule(key, before, rule)
        return [step for place in sorted(touched) for step in self._update(place)]

    def listed(self, pods: Iterable[Pod], namespace: str | None) -> list[Step]:
        """Replace all pods of a namespace (None: of all)."""
        there = {place_of(pod): pod for pod in pods}
        left = [place for place in self._pods if namespace in (None, place[0]) and place not in there]
        steps = [step for place in left for step in self.gone(self._pods[place])]
        return steps + [step for pod in there.values() for step in self.put(pod)]

    def put(self, pod: Pod) -> list[Step]:
        """Add or change a pod."""
        place = place_of(pod)
        before = self._pods.get(place)
        steps: list[Step] = []
        if before is not None and before["metadata"]["uid"] != pod["metadata"]["uid"]:
            steps = self.gone(before)  # recreated under its name (StatefulSet); its end was not seen
        elif before is not None:
            self._unlabel(place, before)
        self._pods[place] = pod
        if (label := key_of(pod["metadata"])) is not None:
            self._labelled.setdefault(label, {})[place] = None
        return steps + self._update(place)

    def gone(self, pod: Pod) -> list[Step]:
        """Remove a pod; one that is not known, or was recreated since, is no change."""
        place = place_of(pod)
        known = self._pods.get(place)
        if known is None or known["metadata"]["uid"] != pod["metadata"]["uid"]:
            return []
        del self._pods[place]
        self._unlabel(place, known)
        return self._store(place, None, ())

    # ---- queries

    def of(self, key: VersionKey) -> list[Pod]:
        """The pods that match the rule of a version."""
        return [self._pods[place] for place in self._matching.get(key, ())]

    def labelled(self, namespace: str, key: VersionKey) -> list[Pod]:
        """The pods with the labels of a version, whether it has a rule or not."""
        return [self._pods[place] for place in self._labelled.get(key, ()) if place[0] == namespace]

    def selected(self, namespace: str, selector: Selector) -> list[Pod]:
        """The pods that a selector matches, whether a version has a rule with it or not."""
        found = (pod for place, pod in self._pods.items() if place[0] == namespace)
        return [pod for pod in found if selector.fits(_labels(pod))]

    def key_of(self, replica_id: str) -> VersionKey | None:
        """The version of a replica, None if it is not known."""
        return self._versions.get(replica_id)

    # ---- rules and pods

    def _candidates(self, key: VersionKey, rule: ReplicaRule | None) -> list[Place]:
        if rule is None:
            return []
        if rule.selector is None:
            return [place for place in self._labelled.get(key, ()) if place[0] == rule.namespace]
        return [place_of(pod) for pod in self.selected(rule.namespace, rule.selector)]

    def _set_rule(self, key: VersionKey, before: ReplicaRule | None, rule: ReplicaRule | None) -> None:
        if before is not None and before.selector is not None:
            index = before.namespace, before.selector.pair
            del self._adopting[index][key]
            if not self._adopting[index]:
                del self._adopting[index]
        if rule is None:
            self._rules.pop(key, None)
            return
        self._rules[key] = rule
        if rule.selector is not None:
            self._adopting.setdefault((rule.namespace, rule.selector.pair), {})[key] = rule.selector

    def _matches(self, place: Place, pod: Pod) -> tuple[VersionKey, ...]:
        """Versions that a pod matches, its own by label first."""
        labels, own = _labels(pod), key_of(pod["metadata"])
        rule = self._rules.get(own) if own is not None else None
        made = [own] if own and rule and rule.selector is None and rule.namespace == place[0] else []
        adopting = [
            key
            for pair in (*labels.items(), None)
            for key, selector in self._adopting.get((place[0], pair), {}).items()
            if selector.fits(labels)
        ]
        return (*made, *sorted(adopting))

    def _update(self, place: Place) -> list[Step]:
        pod = self._pods[place]
        keys, replica = self._matches(place, pod), None
        if keys:
            rule = self._rules[keys[0]]
            replica = replica_of(pod, keys[0], rule.port, rule.slots)
        elif self._drain_undeclared and place in self._replicas and key_of(pod["metadata"]) is not None:
            last = self._replicas[place]
            ending = replica_of(pod, last.key, last.port, last.slots)
            replica = replace(ending, state=ReplicaState.DRAINING) if ending is not None else None
        return self._store(place, replica, keys if replica is not None else ())

    def _store(self, place: Place, replica: Replica | None, keys: tuple[VersionKey, ...]) -> list[Step]:
        for key in self._keys.pop(place, ()):
            if key not in keys:
                _discard(self._matching, key, place)
        for key in keys:
            self._matching.setdefault(key, {})[place] = None
        if keys:
            self._keys[place] = keys
        before = self._replicas.pop(place, None)
        steps: list[Step] = []
        if before is not None and (replica is None or replica.key != before.key):
            del self._versions[before.id]
            steps.append(Remove(before.id))
        if replica is not None:
            self._replicas[place], self._versions[replica.id] = replica, replica.key
            steps.append(Upsert(replica))
        return steps

    def _unlabel(self, place: Place, pod: Pod) -> None:
        if (label := key_of(pod["metadata"])) is not None:
            _discard(self._labelled, label, place)


def _labels(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _discard(index: dict[VersionKey, dict[Place, None]], key: VersionKey, place: Place) -> None:
    places = index.get(key, {})
    places.pop(place, None)
    if not places:
        index.pop(key, None)
