"""Translates changes of a cluster's objects into messages for router workers. Pure.

Objects may come in any order, each kind at its own pace. They are kept, not copied: callers must not change them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cluster.changes import Upsert
from cluster.kubernetes.client.cache import Change, ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.cluster_index import Place, ReplicaIndex, ReplicaRule, Step, place_of
from cluster.kubernetes.declarations import Declaration, Declarations
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
from serving.replica import Replica

TRUST = "scorefront-trust"
"""The ConfigMap with the public keys that tokens are signed with."""
TRUST_FILE = "trust.json"
_trust = msgspec.json.Decoder(TokenTrust)


class Discovery:
    """Changes in, messages for every worker out.

    `scope` of a list: the namespace it was made for; None: all.
    """

    def __init__(self) -> None:
        self._declarations = Declarations()
        self._index = ReplicaIndex(drain_undeclared=True)
        self._served: dict[str, Declaration] = {}
        """Declarations that the workers have, by name."""
        self._trust = TokenTrust("")
        self._trust_problem = ""
        self._own_pods: dict[Place, str] = {}
        """Pods of the installation itself -> address."""
        self._replicas: dict[str, Replica] = {}
        """Replicas that the workers have, by id."""

    # ---- changes

    def endpoint_changes(self, change: Change, scope: str | None = None) -> list[ToWorker]:
        """A change of ScoringEndpoints."""
        match change:
            case ObjectsListed(objects):
                listed = {place_of(cr) for cr in objects}
                names = [self._drop(place) for place in self._declarations.within(scope) if place not in listed]
                names += [cr["metadata"]["name"] for cr in objects if self._declarations.put(cr)]
            case ObjectPut(cr):
                names = [cr["metadata"]["name"]] if self._declarations.put(cr) else []
            case ObjectGone(cr):
                names = [self._drop(place_of(cr))]
        return [message for name in dict.fromkeys(names) for message in self._update(name)]

    def pod_changes(self, change: Change, scope: str | None = None) -> list[ToWorker]:
        """A change of pods of the watched namespaces."""
        match change:
            case ObjectsListed(objects):
                return self._replica_messages(self._index.listed(objects, scope))
            case ObjectPut(pod):
                return self._replica_messages(self._index.put(pod))
            case ObjectGone(pod):
                return self._replica_messages(self._index.gone(pod))

    def own_changes(self, change: Change) -> list[ToWorker]:
        """Pods of the installation itself."""
        before = self._own_addresses()
        match change:
            case ObjectsListed(objects):
                self._own_pods = {place_of(pod): _address(pod) for pod in objects}
            case ObjectPut(pod):
                self._own_pods[place_of(pod)] = _address(pod)
            case ObjectGone(pod):
                self._own_pods.pop(place_of(pod), None)
        after = self._own_addresses()
        return [SetOwnPods(after)] if after != before else []

    def trust_changes(self, change: Change) -> list[ToWorker]:
        """A change of the ConfigMap TRUST. If it is missing or unreadable, the previous keys stay trusted."""
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

    # ---- queries

    def snapshot(self) -> ResetAll:
        """Everything that a worker has to know."""
        served = self._served.values()
        endpoints = tuple(each.endpoint for each in served if each.endpoint is not None)
        keys, replicas = tuple(each.keys for each in served), tuple(self._replicas.values())
        return ResetAll(endpoints, keys, self._trust, replicas, self._own_addresses())

    def _own_addresses(self) -> tuple[str, ...]:
        return tuple(sorted(set(filter(None, self._own_pods.values()))))

    @property
    def revision(self) -> int:
        """Increases with every change of a declaration."""
        return self._declarations.revision

    def problems(self) -> Mapping[str, str]:
        """`namespace/name` of an object -> why it is not followed."""
        trust = {f"ConfigMap {TRUST}": self._trust_problem} if self._trust_problem else {}
        return {**self._declarations.problems(), **trust}

    def replicas(self) -> Iterable[Replica]:
        """As the workers know them."""
        return self._replicas.values()

    def served(self) -> Mapping[str, Declaration]:
        """The declarations that the workers have, by name."""
        return self._served

    def versions(self) -> list[VersionKey]:
        """Every version that is served."""
        endpoints = [each.endpoint for each in self._served.values() if each.endpoint is not None]
        return [VersionKey(endpoint.name, version.name) for endpoint in endpoints for version in endpoint.versions]

    # ---- endpoints and replicas

    def _drop(self, place: Place) -> str:
        self._declarations.drop(place)
        return place[1]

    def _update(self, name: str) -> list[ToWorker]:
        """Messages after a change of any declaration of a name."""
        before, after = self._served.get(name), self._declarations.current(name)
        if after == before:
            return []
        messages: list[ToWorker] = []
        if after is None or after.endpoint is None:
            del self._served[name]
            messages.append(RemoveEndpoint(name))
        else:
            self._served[name] = after
            if before is None or before.keys != after.keys:
                messages.append(SetKeys(after.keys))
            if before is None or before.endpoint != after.endpoint:
                messages.append(UpsertEndpoint(after.endpoint))
        messages += self._static_messages(before, after)
        rules: dict[VersionKey, ReplicaRule | None] = dict.fromkeys(before.rules if before is not None else ())
        rules.update(after.rules if after is not None else {})
        return messages + self._replica_messages(self._index.declare(rules))

    def _static_messages(self, before: Declaration | None, after: Declaration | None) -> list[ToWorker]:
        wanted = after.static if after is not None else ()
        kept = {replica.id for replica in wanted}
        left = [each.id for each in before.static if each.id not in kept] if before is not None else []
        messages: list[ToWorker] = [message for each in left for message in self._remove(each)]
        return messages + [message for replica in wanted for message in self._upsert(replica)]

    def _replica_messages(self, steps: Iterable[Step]) -> list[ToWorker]:
        return [
            message
            for step in steps
            for message in (self._upsert(step.replica) if isinstance(step, Upsert) else self._remove(step.replica_id))
        ]

    def _upsert(self, replica: Replica) -> list[ToWorker]:
        if self._replicas.get(replica.id) == replica:
            return []
        self._replicas[replica.id] = replica
        return [UpsertReplica(replica)]

    def _remove(self, replica_id: str) -> list[ToWorker]:
        del self._replicas[replica_id]
        return [RemoveReplica(replica_id)]


def _address(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")
