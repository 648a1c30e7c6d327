"""Which pods belong to which version, and which replicas they are. Pure: pods come in, changes of replicas out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.changes import Remove, Upsert
from cluster.kubernetes.client.selectors import Selector
from cluster.kubernetes.objects.labels import key_of
from cluster.kubernetes.objects.pod import replica_of
from cluster.kubernetes.ownership import controller_of
from serving.endpoint import VersionKey

Pod = dict[str, Any]
Step = Upsert | Remove


@dataclass(frozen=True, slots=True)
class ReplicaRule:
    """What is known of the pods of one version."""

    namespace: str
    port: int
    slots: int
    selector: Selector | None = None
    """Of an adopted workload; None: they carry the version's labels."""

    def means(self, key: VersionKey, pod: Pod) -> bool:
        """Whether this pod is one of them."""
        metadata = pod["metadata"]
        if metadata["namespace"] != self.namespace:
            return False
        if self.selector is not None:
            return self.selector.fits(metadata.get("labels") or {})
        return key_of(metadata) == key


class ReplicaIndex:
    """Every pod of the watched namespaces, and the versions that have declared themselves."""

    def __init__(self) -> None:
        self._pods: dict[tuple[str, str], Pod] = {}
        self._kinds: dict[VersionKey, ReplicaRule] = {}
        self._adopted: dict[VersionKey, ReplicaRule] = {}
        self._labelled: dict[VersionKey, set[tuple[str, str]]] = {}
        self._of: dict[VersionKey, dict[tuple[str, str], str]] = {}
        """Version -> its pods -> the replica that each is."""
        self._keys: dict[tuple[str, str], set[VersionKey]] = {}
        """Pod -> the versions that it is a replica of: one, unless selectors of adopted workloads overlap."""
        self._by_replica: dict[str, VersionKey] = {}

    def declare(self, key: VersionKey, kind: ReplicaRule) -> list[Step]:
        """The pods of this version are such; what follows for replicas."""
        if self._kinds.get(key) == kind:
            return []
        steps = self.forget(key)
        self._kinds[key] = kind
        if kind.selector is not None:
            self._adopted[key] = kind
        if kind.selector is None:
            pods = self.labelled(kind.namespace, key)
        else:
            pods = self.selected(kind.namespace, kind.selector)
        steps += [step for pod in pods for step in self._take(key, pod)]
        back = {step.replica.id for step in steps if isinstance(step, Upsert)}
        return [step for step in steps if isinstance(step, Upsert) or step.replica_id not in back]

    def forget(self, key: VersionKey) -> list[Step]:
        """The version is no more."""
        self._kinds.pop(key, None)
        self._adopted.pop(key, None)
        return [step for place in list(self._of.get(key, {})) for step in self._drop(key, place)]

    def put(self, pod: Pod) -> list[Step]:
        """A pod is new or has changed."""
        place = _place(pod)
        before = self._pods.get(place)
        steps: list[Step] = []
        if before is not None and before["metadata"]["uid"] != pod["metadata"]["uid"]:
            steps += self.gone(before)  # of a StatefulSet, come back under its name
        elif before is not None:
            self._unlabel(before)
        self._pods[place] = pod
        if (label := key_of(pod["metadata"])) is not None:
            self._labelled.setdefault(label, set()).add(place)
        keys = set(self._keys_of(pod))
        for key in self._keys.get(place, set()) - keys:
            steps += self._drop(key, place)
        for key in keys:
            steps += self._take(key, pod)
        return steps

    def gone(self, pod: Pod) -> list[Step]:
        """A pod does not exist any more."""
        place = _place(pod)
        known = self._pods.get(place)
        if known is None or known["metadata"]["uid"] != pod["metadata"]["uid"]:
            return []
        del self._pods[place]
        self._unlabel(known)
        return [step for key in list(self._keys.get(place, ())) for step in self._drop(key, place)]

    def of(self, key: VersionKey) -> list[Pod]:
        """The pods of a version that has declared itself."""
        return [self._pods[place] for place in self._of.get(key, {})]

    def labelled(self, namespace: str, key: VersionKey) -> list[Pod]:
        """The pods that carry a version's labels, whether or not it has declared itself."""
        return [self._pods[place] for place in self._labelled.get(key, ()) if place[0] == namespace]

    def selected(self, namespace: str, selector: Selector) -> list[Pod]:
        """The pods that a selector means, whether or not a version has declared them."""
        found = (pod for place, pod in self._pods.items() if place[0] == namespace)
        return [pod for pod in found if selector.fits(pod["metadata"].get("labels") or {})]

    def key_of(self, replica: str) -> VersionKey | None:
        """The version of a replica, by its id."""
        return self._by_replica.get(replica)

    def _unlabel(self, pod: Pod) -> None:
        label = key_of(pod["metadata"])
        if label is not None and label in self._labelled:
            self._labelled[label].discard(_place(pod))
            if not self._labelled[label]:
                del self._labelled[label]

    def _keys_of(self, pod: Pod) -> Iterator[VersionKey]:
        own = key_of(pod["metadata"])
        kind = self._kinds.get(own) if own is not None else None
        if own is not None and kind is not None and kind.selector is None and kind.means(own, pod):
            yield own
        yield from (key for key, adopted in self._adopted.items() if adopted.means(key, pod))

    def _take(self, key: VersionKey, pod: Pod) -> list[Step]:
        kind, place = self._kinds[key], _place(pod)
        replica = replica_of(pod, key, kind.port, kind.slots)
        if replica is None:
            return self._drop(key, place)
        self._of.setdefault(key, {})[place] = replica.id
        self._keys.setdefault(place, set()).add(key)
        self._by_replica[replica.id] = key
        return [Upsert(replica)]

    def _drop(self, key: VersionKey, place: tuple[str, str]) -> list[Step]:
        replica = self._of.get(key, {}).pop(place, None)
        if replica is None:
            return []
        if not self._of[key]:
            del self._of[key]
        self._keys[place].discard(key)
        if not self._keys[place]:
            del self._keys[place]
        if self._by_replica.get(replica) == key:
            del self._by_replica[replica]
        return [Remove(replica)]


def kept_of(pod: Pod) -> Pod:
    """What of a pod is worth its memory here: thousands of them are held."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    if (controller := controller_of(pod)) is not None:
        kept["ownerReferences"] = [{name: controller[name] for name in _OWNER if name in controller}]
    return {
        "metadata": kept,
        "spec": {
            "nodeName": spec.get("nodeName", ""),
            "containers": [{"name": container["name"]} for container in spec.get("containers") or ()],
        },
        "status": {name: status[name] for name in _STATUS if name in status},
    }


_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "labels", "annotations"),
    *("creationTimestamp", "deletionTimestamp"),
)
_OWNER = ("kind", "name", "uid", "controller")
_STATUS = ("phase", "reason", "message", "podIP", "conditions", "containerStatuses", "initContainerStatuses")


def _place(pod: Pod) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
