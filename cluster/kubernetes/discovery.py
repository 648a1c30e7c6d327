"""What a cluster's API tells, as what router workers are told: endpoints, digests of keys, trust, replicas. Pure.

The kinds of objects come in any order and each at its own pace, so whatever depends on two of them is worked out from
what is known of both, whichever came last. Objects are kept, not copied: nobody may change them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from cluster.kubernetes.client.cache import Change, ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.client.selectors import Selector
from cluster.kubernetes.declarations import Declaration, Declarations, Place
from cluster.kubernetes.objects.pod import key_of, replica_of
from cluster.link import (
    RemoveEndpoint,
    RemoveReplica,
    ResetAll,
    SetKeys,
    SetOwnPods,
    SetTrust,
    ToWorker,
    UpsertEndpoint,
    UpsertReplica,
)
from serving.credentials import TokenTrust
from serving.endpoint import VersionKey
from serving.replica import Replica, ReplicaState

TRUST = "scorefront-trust"
"""The ConfigMap with the public keys that tokens are signed with."""
TRUST_FILE = "trust.json"
_trust = msgspec.json.Decoder(TokenTrust)


class Discovery:
    """Changes in, messages to every worker out. `scope` of a list: the namespace that it is of; None: all."""

    def __init__(self) -> None:
        self._declarations = Declarations()
        self._told: dict[str, Declaration] = {}
        """What the workers know, by name."""
        self._trust = TokenTrust("")
        self._trust_problem = ""
        self._own_pods: dict[Place, str] = {}
        """Pods of the installation itself, and where they are."""
        self._pods: dict[Place, Mapping[str, Any]] = {}
        self._labelled: dict[Place, set[Place]] = {}
        """Namespace and endpoint -> pods with that label."""
        self._indexed: dict[tuple[str, tuple[str, str] | None], dict[VersionKey, Selector]] = {}
        """Versions whose replicas are pods of others, by namespace and a label with the value that it must have: of
        thousands, few need to be tried."""
        self._replicas: dict[str, Replica] = {}
        """By id, as the workers know them."""
        self._replica_ids: dict[Place, str] = {}
        """Pod -> replica."""
        self._homes: dict[str, dict[str, Place | None]] = {}
        """Endpoint -> replica id -> its pod, None for one that is given by address."""

    # ---- what happens

    def endpoint_changes(self, change: Change, scope: str | None = None) -> list[ToWorker]:
        """ScoringEndpoints."""
        match change:
            case ObjectsListed(objects):
                listed = {_place(cr) for cr in objects}
                names = [self._drop(place) for place in self._declarations.within(scope) if place not in listed]
                names += [cr["metadata"]["name"] for cr in objects if self._declarations.put(cr)]
            case ObjectPut(cr):
                names = [cr["metadata"]["name"]] if self._declarations.put(cr) else []
            case ObjectGone(cr):
                names = [self._drop(_place(cr))]
        return [message for name in dict.fromkeys(names) for message in self._update(name)]

    def pod_changes(self, change: Change, scope: str | None = None) -> list[ToWorker]:
        """Pods, whosever they are."""
        match change:
            case ObjectsListed(objects):
                listed = {_place(pod): pod for pod in objects}
                known = [place for place in self._pods if scope is None or place[0] == scope]
                messages = [each for place in known if place not in listed for each in self._forget_pod(place)]
                return messages + [each for place, pod in listed.items() for each in self._keep_pod(place, pod)]
            case ObjectPut(pod):
                return self._keep_pod(_place(pod), pod)
            case ObjectGone(pod):
                return self._forget_pod(_place(pod))

    def own_changes(self, change: Change) -> list[ToWorker]:
        """Pods of the installation itself."""
        before = self._own_addresses()
        match change:
            case ObjectsListed(objects):
                self._own_pods = {_place(pod): _address(pod) for pod in objects}
            case ObjectPut(pod):
                self._own_pods[_place(pod)] = _address(pod)
            case ObjectGone(pod):
                self._own_pods.pop(_place(pod), None)
        after = self._own_addresses()
        return [SetOwnPods(after)] if after != before else []

    def trust_changes(self, change: Change) -> list[ToWorker]:
        """The ConfigMap TRUST. Without it, or with one that cannot be read, those who were trusted still are."""
        match change:
            case ObjectsListed(objects):
                found = next((each for each in objects if each["metadata"]["name"] == TRUST), None)
            case ObjectPut(found):
                pass
            case ObjectGone(_):
                found = None
        if found is None:
            return []
        try:
            trust = _trust.decode((found.get("data") or {}).get(TRUST_FILE, ""))
        except msgspec.DecodeError as error:
            self._trust_problem = str(error)
            return []
        self._trust_problem = ""
        if trust == self._trust:
            return []
        self._trust = trust
        return [SetTrust(trust)]

    # ---- what is

    def snapshot(self) -> ResetAll:
        """Everything that a worker has to know."""
        told = self._told.values()
        endpoints = tuple(each.endpoint for each in told if each.endpoint is not None)
        keys, replicas = tuple(each.keys for each in told), tuple(self._replicas.values())
        return ResetAll(endpoints, keys, self._trust, replicas, self._own_addresses())

    def _own_addresses(self) -> tuple[str, ...]:
        return tuple(sorted(set(filter(None, self._own_pods.values()))))

    @property
    def revision(self) -> int:
        """Grows whenever something of what is declared has changed."""
        return self._declarations.revision

    def problems(self) -> Mapping[str, str]:
        """`namespace/name` of an object -> why it is not followed."""
        trust = {f"ConfigMap {TRUST}": self._trust_problem} if self._trust_problem else {}
        return {**self._declarations.problems(), **trust}

    def replicas(self) -> Iterable[Replica]:
        """As the workers know them."""
        return self._replicas.values()

    def versions(self) -> list[VersionKey]:
        """Every version that is served."""
        endpoints = [each.endpoint for each in self._told.values() if each.endpoint is not None]
        return [VersionKey(endpoint.name, version.name) for endpoint in endpoints for version in endpoint.versions]

    # ---- endpoints

    def _drop(self, place: Place) -> str:
        self._declarations.drop(place)
        return place[1]

    def _update(self, name: str) -> list[ToWorker]:
        """What follows from a change of what a name stands for."""
        before, after = self._told.get(name), self._declarations.current(name)
        if after == before:
            return []
        messages: list[ToWorker] = []
        if after is None or after.endpoint is None:
            del self._told[name]
            messages.append(RemoveEndpoint(name))
        else:
            self._told[name] = after
            if before is None or before.keys != after.keys:
                messages.append(SetKeys(after.keys))
            if before is None or before.endpoint != after.endpoint:
                messages.append(UpsertEndpoint(after.endpoint))
        touched = self._adopt(before, after)
        touched.update(place for place in self._homes.get(name, {}).values() if place is not None)
        for declaration in (before, after):
            touched.update(self._labelled.get((declaration.namespace, name), ()) if declaration is not None else ())
        messages += self._settle_static(name, after)
        return messages + [each for place in sorted(touched) for each in self._settle(place)]

    def _adopt(self, before: Declaration | None, after: Declaration | None) -> set[Place]:
        """Take over which pods of others are replicas; returns pods that this may concern."""
        was, now = (each and (each.namespace, each.adopted) for each in (before, after))
        if was == now:
            return set()
        touched: set[Place] = set()
        for declaration, added in ((before, False), (after, True)):
            if declaration is None:
                continue
            for version, selector in declaration.adopted.items():
                key = VersionKey(declaration.name, version)
                index = self._indexed.setdefault((declaration.namespace, selector.pair), {})
                if added:
                    index[key] = selector
                else:
                    index.pop(key, None)
                if not index:
                    del self._indexed[declaration.namespace, selector.pair]
            if declaration.adopted:
                touched.update(place for place in self._pods if place[0] == declaration.namespace)
        return touched

    def _settle_static(self, name: str, declaration: Declaration | None) -> list[ToWorker]:
        wanted = {replica.id: replica for replica in declaration.static} if declaration is not None else {}
        known = [replica_id for replica_id, place in self._homes.get(name, {}).items() if place is None]
        messages: list[ToWorker] = [self._remove(each) for each in known if each not in wanted]
        return messages + [each for replica in wanted.values() for each in self._upsert(replica, None)]

    # ---- pods

    def _keep_pod(self, place: Place, pod: Mapping[str, Any]) -> list[ToWorker]:
        before = self._pods.get(place)
        replaced: list[ToWorker] = []
        if before is not None and before["metadata"]["uid"] != pod["metadata"]["uid"]:
            replaced = self._forget_pod(place)  # its end was not seen: between two lists, it came again
        elif before is not None and (old := key_of(before)) is not None and old != key_of(pod):
            self._labelled.get((place[0], old.endpoint), set()).discard(place)
        self._pods[place] = pod
        if (key := key_of(pod)) is not None:
            self._labelled.setdefault((place[0], key.endpoint), set()).add(place)
        return replaced + self._settle(place)

    def _forget_pod(self, place: Place) -> list[ToWorker]:
        pod = self._pods.pop(place, None)
        if pod is not None and (key := key_of(pod)) is not None:
            labelled = self._labelled.get((place[0], key.endpoint), set())
            labelled.discard(place)
            if not labelled:
                self._labelled.pop((place[0], key.endpoint), None)
        replica_id = self._replica_ids.pop(place, None)
        return [self._remove(replica_id)] if replica_id is not None else []

    def _settle(self, place: Place) -> list[ToWorker]:
        """What follows from how a pod and what is declared are now."""
        replica = self._replica(place)
        told = self._replica_ids.get(place)
        if replica is None:
            self._replica_ids.pop(place, None)
            return [self._remove(told)] if told is not None else []
        self._replica_ids[place] = replica.id
        return self._upsert(replica, place)

    def _replica(self, place: Place) -> Replica | None:
        pod = self._pods[place]
        for key in self._keys(place, pod):
            declaration = self._told.get(key.endpoint)
            if declaration is None or declaration.endpoint is None or declaration.namespace != place[0]:
                continue
            version = declaration.endpoint.version(key.version)
            if version is not None:
                return replica_of(pod, key, version.replica.port, version.slots_per_replica)
        told = self._replicas.get(self._replica_ids.get(place, ""))
        if told is None or key_of(pod) is None:
            return None
        # Of a version that is not declared any more: it ends what it has, and somebody wants to know when.
        ending = replica_of(pod, told.key, told.port, told.slots)
        return None if ending is None else replace(ending, state=ReplicaState.DRAINING)

    def _keys(self, place: Place, pod: Mapping[str, Any]) -> Iterator[VersionKey]:
        """Versions whose replica it may be."""
        if (key := key_of(pod)) is not None:
            yield key
        labels = pod["metadata"].get("labels") or {}
        for pair in (*labels.items(), None):
            for adopting, selector in self._indexed.get((place[0], pair), {}).items():
                if selector.fits(labels):
                    yield adopting

    def _upsert(self, replica: Replica, place: Place | None) -> list[ToWorker]:
        before = self._replicas.get(replica.id)
        if before == replica:
            return []
        messages: list[ToWorker] = []
        if before is not None and before.key != replica.key:
            messages.append(self._remove(before.id))
        self._replicas[replica.id] = replica
        self._homes.setdefault(replica.endpoint, {})[replica.id] = place
        return [*messages, UpsertReplica(replica)]

    def _remove(self, replica_id: str) -> ToWorker:
        replica = self._replicas.pop(replica_id)
        homes = self._homes[replica.endpoint]
        del homes[replica_id]
        if not homes:
            del self._homes[replica.endpoint]
        return RemoveReplica(replica_id)


def _address(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _place(object_: Mapping[str, Any]) -> Place:
    return object_["metadata"].get("namespace", ""), object_["metadata"]["name"]
