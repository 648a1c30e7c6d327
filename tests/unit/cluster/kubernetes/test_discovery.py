"""Messages to router workers about a cluster's objects, in any order of arrival."""

import hashlib
import random
import time
from typing import Any

import msgspec
import pytest

from cluster.kubernetes import slim_objects as kept
from cluster.kubernetes.client.cache import ObjectGone, ObjectPut, ObjectsListed
from cluster.kubernetes.discovery import TRUST, TRUST_FILE, Discovery
from cluster.link import (
    RemoveEndpoint,
    RemoveReplica,
    ResetAll,
    SetKeys,
    SetTrust,
    ToWorker,
    UpsertEndpoint,
    UpsertReplica,
)
from serving.credentials import TokenKey, TokenTrust
from serving.replica import Replica, ReplicaState

DIGEST = hashlib.sha256(b"key").hexdigest()
Object = dict[str, Any]


def version(name: str = "blue", **more: Any) -> Object:
    return {"name": name, "replica": {"image": "registry/model:1", "port": 5001}, **more}


def endpoint(name: str = "iris", *versions: Object, namespace: str = "ns", age: int = 1, **metadata: Any) -> Object:
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}-{age}",
            "creationTimestamp": f"2030-01-01T00:00:{age:02}Z",
            "generation": 1,
            **metadata,
        },
        "spec": {"versions": list(versions) or [version()]},
        "status": {"keys": {"primarySha256": DIGEST}},
    }


def changed(cr: Object, *versions: Object) -> Object:
    metadata = {**cr["metadata"], "generation": cr["metadata"]["generation"] + 1}
    return {**cr, "metadata": metadata, "spec": {"versions": list(versions)}}


def adopted(selector: str, name: str = "iris", **more: Any) -> Object:
    cr = endpoint(name, version(replica={"workloadRef": {"kind": "Deployment", "name": "x"}, "port": 80}), **more)
    cr["status"]["versions"] = [{"name": "blue", "selector": selector}]
    return cr


def pod(
    name: str = "p1",
    uid: str = "0123456789",
    namespace: str = "ns",
    ready: bool = True,
    labels: dict[str, str] | None = None,
    **metadata: Any,
) -> Object:
    found = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"} if labels is None else labels
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": found, **metadata},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions},
    }


def replica(state: ReplicaState = ReplicaState.READY, slots: int = 1) -> Replica:
    return Replica("p1.01234567", "iris", "blue", "10.0.0.1", 5001, state, slots)


def told(messages: list[ToWorker]) -> list[str]:
    return [type(message).__name__ for message in messages]


def known(*endpoints: Object, pods: tuple[Object, ...] = ()) -> Discovery:
    discovery = Discovery()
    discovery.endpoint_changes(ObjectsListed(endpoints))
    discovery.pod_changes(ObjectsListed(pods))
    return discovery


# ---- endpoints


def test_an_endpoint_is_published_with_its_keys_first() -> None:
    messages = Discovery().endpoint_changes(ObjectPut(endpoint()))
    assert told(messages) == ["SetKeys", "UpsertEndpoint"]
    assert isinstance(messages[0], SetKeys)
    assert messages[0].keys.digests == (bytes.fromhex(DIGEST),)


def test_keys_created_later_are_published_alone() -> None:
    cr = endpoint()
    discovery = known({**cr, "status": {}})
    assert discovery.snapshot().keys[0].digests == ()
    assert told(discovery.endpoint_changes(ObjectPut(cr))) == ["SetKeys"]


def test_numbers_in_a_status_are_no_news() -> None:
    discovery = known(endpoint())
    counted = endpoint()
    counted["status"]["versions"] = [{"name": "blue", "busy": 3}]
    assert discovery.endpoint_changes(ObjectPut(counted)) == []


def test_a_changed_endpoint_is_published_with_its_replicas() -> None:
    cr = endpoint()
    discovery = known(cr, pods=(pod(),))
    messages = discovery.endpoint_changes(ObjectPut(changed(cr, version(maxConcurrentRequestsPerContainer=3))))
    assert told(messages) == ["UpsertEndpoint", "UpsertReplica"]
    assert messages[1] == UpsertReplica(replica(slots=3))


def test_an_endpoint_that_is_being_deleted_takes_no_more_requests_and_one_that_is_gone_neither() -> None:
    discovery = known(endpoint())
    leaving = endpoint(deletionTimestamp="2030-01-02T00:00:00Z")
    assert discovery.endpoint_changes(ObjectPut(leaving)) == [RemoveEndpoint("iris")]
    assert discovery.endpoint_changes(ObjectGone(leaving)) == []


def test_of_two_with_one_name_the_oldest_counts_until_it_is_gone() -> None:
    old, young = endpoint(namespace="b", age=1), endpoint("iris", version("green"), namespace="a", age=2)
    discovery = Discovery()
    discovery.endpoint_changes(ObjectPut(young))
    assert told(discovery.endpoint_changes(ObjectPut(old))) == ["UpsertEndpoint"]
    assert discovery.problems() == {"a/iris": "name is taken by b/iris"}
    messages = discovery.endpoint_changes(ObjectGone(old))
    assert isinstance(messages[0], UpsertEndpoint)
    assert messages[0].endpoint.versions[0].name == "green"
    assert discovery.problems() == {}


def test_an_unreadable_endpoint_is_skipped_and_logged() -> None:
    discovery = known(endpoint("iris", version(trafficPercentile=200)), endpoint("rose"))
    assert [each.name for each in discovery.snapshot().endpoints] == ["rose"]
    assert "trafficPercentile" in discovery.problems()["ns/iris"]


def test_an_endpoint_with_a_new_fault_keeps_its_last_valid_form() -> None:
    cr = endpoint()
    discovery = known(cr)
    assert discovery.endpoint_changes(ObjectPut(changed(cr, version(trafficPercentile=200)))) == []
    assert [each.name for each in discovery.snapshot().endpoints] == ["iris"]
    assert "trafficPercentile" in discovery.problems()["ns/iris"]


def test_static_replicas_are_published_with_the_endpoint() -> None:
    cr = endpoint("iris", version(replica={"static": ["10.9.9.9:80"]}))
    discovery = Discovery()
    assert told(discovery.endpoint_changes(ObjectPut(cr))) == ["SetKeys", "UpsertEndpoint", "UpsertReplica"]
    messages = discovery.endpoint_changes(ObjectPut(changed(cr, version(replica={"static": ["10.9.9.8:80"]}))))
    assert told(messages) == ["UpsertEndpoint", "RemoveReplica", "UpsertReplica"]
    assert told(discovery.endpoint_changes(ObjectGone(cr))) == ["RemoveEndpoint", "RemoveReplica"]


# ---- pods


@pytest.mark.parametrize("pod_first", [False, True])
def test_a_replica_is_known_once_its_pod_and_its_endpoint_are(pod_first: bool) -> None:
    discovery = Discovery()
    steps = [lambda: discovery.endpoint_changes(ObjectPut(endpoint())), lambda: discovery.pod_changes(ObjectPut(pod()))]
    if pod_first:
        steps.reverse()
    assert UpsertReplica(replica()) not in steps[0]()
    assert UpsertReplica(replica()) in steps[1]()


def test_a_pod_is_published_once_for_every_relevant_change() -> None:
    discovery = known(endpoint(), pods=(pod(ready=False),))
    assert discovery.pod_changes(ObjectPut(pod(resourceVersion="2"))) == [UpsertReplica(replica())]
    assert discovery.pod_changes(ObjectPut(pod(resourceVersion="3"))) == []


def test_a_pod_that_is_not_ready_or_is_to_go_takes_no_request_from_that_moment() -> None:
    discovery = known(endpoint(), pods=(pod(),))
    (message,) = discovery.pod_changes(ObjectPut(pod(ready=False)))
    assert isinstance(message, UpsertReplica)
    assert message.replica.state is ReplicaState.STARTING
    for leaving in (
        pod(deletionTimestamp="2030-01-01T00:00:00Z"),
        pod(annotations={"scorefront.io/draining": "1"}),
    ):
        discovery.pod_changes(ObjectPut(pod()))
        assert discovery.pod_changes(ObjectPut(leaving)) == [UpsertReplica(replica(ReplicaState.DRAINING))]
    assert discovery.pod_changes(ObjectGone(pod())) == [RemoveReplica("p1.01234567")]
    assert discovery.pod_changes(ObjectGone(pod())) == []


def test_a_pod_that_comes_again_under_its_name_is_another_replica() -> None:
    discovery = known(endpoint(), pods=(pod(),))
    messages = discovery.pod_changes(ObjectPut(pod(uid="9876543210")))
    assert told(messages) == ["RemoveReplica", "UpsertReplica"]


def test_pods_of_another_namespace_are_not_replicas() -> None:
    assert known(endpoint(), pods=(pod(namespace="elsewhere"),)).snapshot().replicas == ()


def test_replicas_of_a_removed_version_drain() -> None:
    cr = endpoint()
    discovery = known(cr, pods=(pod(),))
    messages = discovery.endpoint_changes(ObjectPut(changed(cr, version("green"))))
    assert messages[-1] == UpsertReplica(replica(ReplicaState.DRAINING))
    assert discovery.pod_changes(ObjectGone(pod())) == [RemoveReplica("p1.01234567")]


def test_replicas_of_a_removed_endpoint_drain_and_new_ones_are_none() -> None:
    discovery = known(endpoint(), pods=(pod(),))
    assert told(discovery.endpoint_changes(ObjectGone(endpoint()))) == ["RemoveEndpoint", "UpsertReplica"]
    assert discovery.pod_changes(ObjectPut(pod("p2", uid="22222222"))) == []
    assert [each.state for each in discovery.snapshot().replicas] == [ReplicaState.DRAINING]


def test_a_pod_that_changes_its_version_leaves_the_one_before() -> None:
    discovery = known(endpoint("iris", version(), version("green")), pods=(pod(),))
    moved = pod(labels={"scorefront.io/endpoint": "iris", "scorefront.io/version": "green"})
    assert told(discovery.pod_changes(ObjectPut(moved))) == ["RemoveReplica", "UpsertReplica"]
    assert discovery.snapshot().replicas[0].version == "green"


def test_pods_of_an_adopted_workload_are_found_by_its_selector() -> None:
    pods = (pod(labels={"app": "mine", "tier": "a"}), pod("p2", uid="22222222", labels={"app": "other"}))
    discovery = known(adopted("app=mine,tier in (a,b)"), pods=pods)
    assert [each.id for each in discovery.snapshot().replicas] == ["p1.01234567"]
    assert discovery.snapshot().replicas[0].port == 80
    assert told(discovery.pod_changes(ObjectPut(pod(labels={"app": "mine"})))) == ["RemoveReplica"]


def test_a_selector_that_changes_changes_the_replicas() -> None:
    discovery = known(adopted("app=mine"), pods=(pod(labels={"app": "mine"}), pod("p2", "2" * 8, labels={"app": "b"})))
    assert told(discovery.endpoint_changes(ObjectPut(adopted("app=b")))) == ["RemoveReplica", "UpsertReplica"]
    assert told(discovery.endpoint_changes(ObjectPut(adopted("tier!=a")))) == ["UpsertReplica"]
    assert told(discovery.endpoint_changes(ObjectGone(adopted("")))) == [
        "RemoveEndpoint",
        "RemoveReplica",
        "RemoveReplica",
    ]
    assert discovery.pod_changes(ObjectPut(pod("p3", "3" * 8, labels={"app": "b"}))) == []


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    here, there = endpoint("iris", namespace="a"), endpoint("rose", namespace="b")
    discovery = Discovery()
    discovery.endpoint_changes(ObjectsListed((here,)), "a")
    discovery.endpoint_changes(ObjectsListed((there,)), "b")
    discovery.pod_changes(ObjectsListed((pod(namespace="a"),)), "a")
    assert discovery.pod_changes(ObjectsListed(()), "b") == []
    assert discovery.endpoint_changes(ObjectsListed(()), "b") == [RemoveEndpoint("rose")]
    assert told(discovery.pod_changes(ObjectsListed(()), "a")) == ["RemoveReplica"]
    assert told(discovery.endpoint_changes(ObjectsListed(()), "a")) == ["RemoveEndpoint"]


# ---- trust


def trust_map(trust: TokenTrust) -> Object:
    return {"metadata": {"name": TRUST}, "data": {TRUST_FILE: msgspec.json.encode(trust).decode()}}


def test_token_trust_is_published_and_stays_while_it_cannot_be_read() -> None:
    trust = TokenTrust("https://issuer.test", (TokenKey("k", "EdDSA", "pem"),))
    discovery = Discovery()
    assert discovery.trust_changes(ObjectsListed(())) == []
    assert discovery.trust_changes(ObjectPut(trust_map(trust))) == [SetTrust(trust)]
    assert discovery.trust_changes(ObjectPut(trust_map(trust))) == []
    assert discovery.trust_changes(ObjectPut({"metadata": {"name": TRUST}, "data": {TRUST_FILE: "{"}})) == []
    assert f"ConfigMap {TRUST}" in discovery.problems()
    assert discovery.trust_changes(ObjectGone(trust_map(trust))) == []
    assert discovery.snapshot().trust == trust


# ---- all of it together


def applied(state: ResetAll, messages: list[ToWorker]) -> ResetAll:
    """The knowledge of a worker after these messages."""
    endpoints = {each.name: each for each in state.endpoints}
    keys = {each.endpoint: each for each in state.keys}
    replicas = {each.id: each for each in state.replicas}
    for message in messages:
        match message:
            case UpsertEndpoint(found):
                endpoints[found.name] = found
            case RemoveEndpoint(name):
                del endpoints[name], keys[name]
            case SetKeys(found_keys):
                keys[found_keys.endpoint] = found_keys
            case UpsertReplica(found_replica):
                replicas[found_replica.id] = found_replica
            case RemoveReplica(replica_id):
                del replicas[replica_id]
    return ResetAll(tuple(endpoints.values()), tuple(keys.values()), state.trust, tuple(replicas.values()))


def by_name(state: ResetAll) -> tuple[Any, ...]:
    endpoints = sorted(state.endpoints, key=lambda each: each.name)
    return endpoints, sorted(state.keys, key=repr), sorted(state.replicas, key=lambda each: each.id)


def some_endpoint(draw: random.Random) -> Object:
    name, namespace = draw.choice(("iris", "rose")), draw.choice(("a", "b"))
    kind = draw.choice(
        (
            version(),
            version("green", maxConcurrentRequestsPerContainer=2),
            version(replica={"static": [f"10.0.0.{draw.randint(1, 3)}:80"]}),
            version(trafficPercentile=200),
        )
    )
    made = endpoint(name, kind, namespace=namespace, age=draw.randint(1, 4), generation=draw.randrange(1_000_000))
    if draw.random() < 0.3:
        made = adopted(draw.choice(("app=x", "app!=x", "app in (x,y)")), name, namespace=namespace)
        made["metadata"]["generation"] = draw.randrange(1_000_000)
    if draw.random() < 0.2:
        made["metadata"]["deletionTimestamp"] = "now"
    return made


def some_pod(draw: random.Random) -> Object:
    labels = draw.choice(
        (
            {"scorefront.io/endpoint": "iris", "scorefront.io/version": draw.choice(("blue", "green"))},
            {"scorefront.io/endpoint": "rose", "scorefront.io/version": "blue"},
            {"app": draw.choice(("x", "y"))},
            {},
        )
    )
    uid = draw.choice(("11111111", "22222222"))
    name, place = draw.choice(("p1", "p2", "p3")), draw.choice(("a", "b"))
    return pod(name, f"{uid[:4]}{name}{place}0", place, draw.random() < 0.7, labels)


def settled(state: ResetAll) -> tuple[Any, ...]:
    """Without endings caused only by an earlier surplus."""
    endpoints, keys, replicas = by_name(state)
    return endpoints, keys, [each for each in replicas if each.state is not ReplicaState.DRAINING]


@pytest.mark.parametrize("seed", range(60))
def test_incremental_messages_lead_to_the_same_state_as_a_snapshot(seed: int) -> None:
    draw = random.Random(seed)
    discovery, state = Discovery(), Discovery().snapshot()
    crs: dict[tuple[str, str], Object] = {}
    pods: dict[tuple[str, str], Object] = {}
    for _ in range(80):
        objects = draw.choice((crs, pods))
        made = some_endpoint(draw) if objects is crs else some_pod(draw)
        take = discovery.endpoint_changes if objects is crs else discovery.pod_changes
        place = made["metadata"]["namespace"], made["metadata"]["name"]
        if draw.random() < 0.1:
            messages = take(ObjectsListed(tuple(objects.values())))
        elif place in objects and draw.random() < 0.4:
            messages = take(ObjectGone(objects.pop(place)))
        else:
            objects[place] = made
            messages = take(ObjectPut(made))
        state = applied(state, messages)
        assert by_name(state) == by_name(discovery.snapshot())
    if not any(each["spec"]["versions"][0].get("trafficPercentile") == 200 for each in crs.values()):
        assert settled(state) == settled(known(*crs.values(), pods=tuple(pods.values())).snapshot())


def test_a_pods_change_costs_far_less_than_a_millisecond_among_thousands() -> None:
    names = [f"e{number:04}" for number in range(1000)]
    discovery = Discovery()
    discovery.endpoint_changes(ObjectsListed(tuple(adopted(f"app={name}", name) for name in names)))
    pods = [pod(f"p{number}", f"{number:08}", labels={"app": names[number % 1000]}) for number in range(5000)]
    discovery.pod_changes(ObjectsListed(tuple(pods)))
    assert len(discovery.snapshot().replicas) == 5000
    began = time.process_time()
    for each in pods[:1000]:
        discovery.pod_changes(ObjectPut({**each, "status": {"phase": "Running"}}))
    assert (time.process_time() - began) / 1000 < 0.0005


# ---- kept objects


def test_the_kept_part_of_an_object_has_the_same_meaning() -> None:
    full_cr, full_pod = endpoint(managedFields=[{}], resourceVersion="7"), pod(managedFields=[{}])
    full_cr["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"}
    full_pod["spec"] = {"containers": []}
    full_pod["metadata"]["annotations"] = {"scorefront.io/draining": "1", "other": "x"}
    small_cr, small_pod = kept.endpoint_for_routers(dict(full_cr)), kept.pod_for_routers(full_pod)
    assert known(small_cr, pods=(small_pod,)).snapshot() == known(full_cr, pods=(full_pod,)).snapshot()
    assert "managedFields" not in small_cr["metadata"]
    assert small_cr["metadata"]["annotations"] == {"mine": "x"}
    assert small_pod["metadata"]["annotations"] == {"scorefront.io/draining": "1"}
    assert "spec" not in small_pod
