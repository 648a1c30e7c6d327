import pytest

from cluster.kubernetes.client.api_errors import ApiError, WriteConflict
from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, EVENTS, HPAS, PODS, STATEFULSETS
from cluster.kubernetes.fence import Fenced
from cluster.provider import ProviderError
from serving.replica import ReplicaState
from tests.fakes.cluster import BLUE, HeldLease, Leadership, image, scoring_endpoint
from tests.fakes.object_rules import Object

READY, DRAINING = ReplicaState.READY, ReplicaState.DRAINING
DRAINING_MARK, COST = "scorefront.io/draining", "controller.kubernetes.io/pod-deletion-cost"


@pytest.fixture
async def eight(leader: Leadership) -> Leadership:
    """A leader with eight replicas for a load that has just ended."""
    await leader.declare(scoring_endpoint(versions=[image(minimum=1, maximum=8)]))
    await leader.load(2, busy=1, waiting=50, total=1)
    leader.usage(busy=0, total=8)
    await leader.settle(1)
    assert number(leader) == len(ids(leader)) == 8
    return leader


def number(leader: Leadership, name: str = "iris-blue") -> int:
    return leader.kubernetes.must_find(DEPLOYMENTS, name)["spec"]["replicas"]


def marked(leader: Leadership) -> dict[str, int]:
    """Pods that are marked as going -> their deletion cost."""
    found = {
        each["metadata"]["name"]: each["metadata"].get("annotations") or {} for each in leader.kubernetes.all(PODS)
    }
    return {name: int(each[COST]) for name, each in found.items() if DRAINING_MARK in each}


def ids(leader: Leadership, state: ReplicaState = READY) -> list[str]:
    return [each.id for each in leader.routers.replicas.values() if each.state is state]


def name_of(replica: str) -> str:
    return replica.rpartition(".")[0]


def autoscaler(target: str = "iris-blue") -> Object:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": reference}}


# ---- up


async def test_a_waiting_request_brings_more_by_one_write_to_the_scale_subresource(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = len(leader.kubernetes.calls)
    leader.usage(busy=1, waiting=3, total=1, starved=True)
    await leader.settle(0)
    verb, where, body = leader.kubernetes.calls[before]
    assert (verb, where) == ("replace", "/apis/apps/v1/namespaces/home/deployments/iris-blue/scale")
    assert body["spec"] == {"replicas": 5} and body["metadata"]["resourceVersion"]
    await leader.settle(1)
    assert len(ids(leader)) >= 5
    notes = [each["note"] for each in leader.kubernetes.all(EVENTS) if each["reason"] == "Scaled"]
    assert notes and notes[0].startswith("blue from 1 to 5 replicas: Demand")


async def test_a_workload_that_has_changed_meanwhile_is_read_again(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    refused = [WriteConflict("modified", 409, "Conflict")] * 2
    leader.kubernetes.refusal = lambda verb, where: refused.pop() if where.endswith("/scale") and refused else None
    await leader.provider.scale(BLUE, 4)
    assert number(leader) == 4


async def test_nothing_more_is_asked_for_while_pods_find_no_room(leader: Leadership) -> None:
    leader.kubernetes.room = 3
    await leader.declare(scoring_endpoint())
    await leader.load(2, busy=1, waiting=3, total=1)
    asked = number(leader)
    assert asked > 3 and len(ids(leader)) == 3
    await leader.load(5, busy=3, waiting=20, total=3)
    assert number(leader) == asked, "not piled up"
    status, reason, message = leader.conditions()["ScalingLimited"]
    assert (status, reason) == ("True", "NoRoom") and "Insufficient cpu" in message
    assert "ScalingLimited" in [each["reason"] for each in leader.kubernetes.all(EVENTS)]
    leader.kubernetes.room = None
    for name in leader.kubernetes.pods():
        leader.kubernetes.ready(name)
    await leader.load(3, busy=3, waiting=20, total=3)
    assert number(leader) == 10 and leader.conditions()["ScalingLimited"][0] == "False"


async def test_pods_that_were_never_placed_go_first_and_at_once(leader: Leadership) -> None:
    leader.kubernetes.room = 3
    await leader.declare(scoring_endpoint())
    await leader.provider.scale(BLUE, 6)
    await leader.settle(1)
    await leader.provider.scale(BLUE, 3)
    await leader.settle(1)
    assert number(leader) == 3 and len(ids(leader)) == 3 and marked(leader) == {}


# ---- down


async def test_pods_are_marked_before_the_number_falls_and_it_falls_by_the_drained_ones(eight: Leadership) -> None:
    victims = set(ids(eight)[:5])
    await eight.provider.scale(BLUE, 3, victims)
    assert number(eight) == 8 and set(marked(eight)) == {name_of(each) for each in victims}
    await eight.settle(1)
    assert set(ids(eight, DRAINING)) == victims
    two = sorted(victims)[:2]
    for each in two:
        eight.plane.reports.replica_drained(each)
    await eight.settle(1)
    assert number(eight) == 6
    assert set(eight.kubernetes.pods(leaving=True)) == {name_of(each) for each in two}, "just those"
    for each in sorted(victims)[2:]:
        eight.plane.reports.replica_drained(each)
    await eight.settle(1)
    assert number(eight) == 3 and set(eight.kubernetes.pods(leaving=True)) == {name_of(each) for each in victims}
    eight.kubernetes.end_all()
    await eight.settle(1)
    assert len(ids(eight)) == 3 and ids(eight, DRAINING) == []
    assert eight.control.gauges()["unexpected_removals"] == 0


async def test_pods_drained_at_the_same_time_are_one_write(eight: Leadership) -> None:
    before = len(eight.kubernetes.writes("replace", "/scale"))
    victims = ids(eight)[:5]
    await eight.provider.scale(BLUE, 3, victims)
    for each in victims:
        eight.plane.reports.replica_drained(each)
    await eight.settle(1)
    assert number(eight) == 3 and len(eight.kubernetes.writes("replace", "/scale")) == before + 1


async def test_a_request_may_hold_up_its_pod_for_its_scoring_timeout_and_no_longer(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(scoringTimeoutMs=20_000)]))
    await leader.provider.scale(BLUE, 2)
    await leader.settle(1)
    await leader.provider.scale(BLUE, 1, [ids(leader)[0]])
    await leader.settle(15)
    assert number(leader) == 2
    await leader.settle(15)
    assert number(leader) == 1


async def test_the_autoscaler_removes_idle_pods(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    await leader.load(3, busy=1, waiting=4, total=1)
    await leader.load(70, busy=0, total=number(leader))
    victims = ids(leader, DRAINING)
    assert victims
    for each in victims:
        leader.plane.reports.replica_drained(each)
    await leader.settle(1)
    assert number(leader) == 1 and len(ids(leader)) == 1


async def test_more_are_wanted_while_others_drain(eight: Leadership) -> None:
    victims = ids(eight)[:5]
    await eight.provider.scale(BLUE, 3, victims)
    await eight.provider.scale(BLUE, 6)
    await eight.settle(1)
    assert number(eight) == 11 and len(ids(eight)) == 6, "those that are withdrawn never serve again"
    for each in victims:
        eight.plane.reports.replica_drained(each)
    await eight.settle(1)
    assert number(eight) == 6 and len(ids(eight)) == 6


async def test_a_lower_maximum_is_reached_without_a_busy_pod_lost(eight: Leadership) -> None:
    await eight.provider.scale(BLUE, 8)
    eight.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [image(maximum=2)]}})
    await eight.settle(2)
    assert number(eight) > 2 and len(ids(eight, DRAINING)) == number(eight) - len(ids(eight))
    for each in ids(eight, DRAINING):
        eight.plane.reports.replica_drained(each)
    await eight.settle(2)
    assert number(eight) <= 2


async def test_a_pod_that_should_have_gone_is_deleted_and_counted(eight: Leadership) -> None:
    victim = ids(eight)[0]
    ready = eight.kubernetes.pods()
    await eight.provider.scale(BLUE, 7, [victim])
    # Another one is not ready at that moment, and so goes before the cheap one.
    other = next(name for name in ready if name != name_of(victim))
    eight.kubernetes.edit(PODS, other, {"status": {"phase": "Pending"}}, "kubelet")
    eight.plane.reports.replica_drained(victim)
    await eight.settle(1)
    assert eight.kubernetes.pods(leaving=True) == [other]
    await eight.settle(16)
    assert name_of(victim) in eight.kubernetes.pods(leaving=True)
    assert eight.control.gauges()["unexpected_removals"] == 1 and number(eight) == 7


async def test_nothing_is_given_back_in_the_middle_of_a_rollout(eight: Leadership) -> None:
    status = {"observedGeneration": 3, "replicas": 9, "updatedReplicas": 4}
    found = eight.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["metadata"]["generation"]
    eight.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"status": {**status, "observedGeneration": found}}, "controller")
    await eight.settle(0.2)
    victim = ids(eight)[0]
    await eight.provider.scale(BLUE, 7, [victim])
    eight.plane.reports.replica_drained(victim)
    await eight.settle(2)
    assert number(eight) == 8
    eight.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"status": {"replicas": 8, "updatedReplicas": 8}}, "controller")
    await eight.settle(2)
    assert number(eight) == 7


# ---- others


async def test_another_autoscaler_on_the_workload_has_scaling_suspended_until_it_is_gone(eight: Leadership) -> None:
    eight.kubernetes.put(HPAS, autoscaler())
    await eight.settle(1)
    with pytest.raises(ProviderError, match="HorizontalPodAutoscaler home/theirs scales"):
        await eight.provider.scale(BLUE, 9)
    await eight.load(6, busy=0, total=8)
    assert number(eight) == 8 and "home/theirs" in eight.provider.status.suspended(BLUE)
    assert eight.conditions()["ScalingConflict"][:2] == ("True", "ScaledByAnother")
    await eight.load(70, busy=0, total=8)
    assert eight.routers.retired == [] and marked(eight) == {}, "hands off"
    eight.kubernetes.take_away(HPAS, "theirs")
    await eight.load(6, busy=0, total=8)
    assert eight.routers.retired == [(BLUE, 7)] and len(marked(eight)) == 7
    assert eight.conditions()["ScalingConflict"][0] == "False"


async def test_an_autoscaler_of_another_workload_is_none_of_our_business(eight: Leadership) -> None:
    eight.kubernetes.put(HPAS, autoscaler("other"))
    await eight.settle(1)
    await eight.provider.scale(BLUE, 9)
    assert number(eight) == 9


# ---- the API is away


async def test_an_api_that_is_away_lowers_nothing_and_the_rest_follows_when_it_is_back(eight: Leadership) -> None:
    eight.kubernetes.go_away()
    await eight.load(90, busy=0, total=8)
    assert eight.routers.retired == [] and len(ids(eight)) == 8
    eight.kubernetes.come_back()
    assert number(eight) == 8
    await eight.load(30, busy=0, total=8)
    for each in ids(eight, DRAINING):
        eight.plane.reports.replica_drained(each)
    await eight.settle(2)
    assert number(eight) == 1


async def test_the_number_is_read_before_pods_are_removed_if_the_watch_is_late(eight: Leadership) -> None:
    await eight.settle(30)
    eight.kubernetes.reads.clear()
    await eight.provider.scale(BLUE, 7, [ids(eight)[0]])
    assert "/api/v1/namespaces/home/pods" in eight.kubernetes.reads
    assert "/apis/autoscaling/v2/namespaces/home/horizontalpodautoscalers" in eight.kubernetes.reads


# ---- two leaders


async def test_a_leader_that_has_been_replaced_scales_nothing_and_steps_down(eight: Leadership) -> None:
    after = await Leadership(eight.kubernetes, eight.clock, fence=2).start()
    await after.settle(1)
    with pytest.raises(Fenced):
        await eight.provider.scale(BLUE, 3, ids(eight)[:5])
    with pytest.raises(Fenced):
        await eight.control.run()
    assert number(after) == 8 and marked(after) == {}
    await after.provider.scale(BLUE, 9)
    assert number(after) == 9
    await after.stop()


async def test_a_leader_that_has_been_replaced_applies_nothing_that_it_meant_to(eight: Leadership) -> None:
    declared = eight.plane.declared("iris")
    assert declared is not None
    old = declared.manifest

    def another_leads_by_now(verb: str, where: str) -> ApiError | None:
        if verb == "apply":
            newer = HeldLease(eight.kubernetes, 2)
            fence = {"metadata": {"annotations": {"scorefront.io/fence": f"{newer.lease_uid}/2"}}}
            eight.kubernetes.edit(DEPLOYMENTS, "iris-blue", fence)
        return None

    eight.kubernetes.refusal = another_leads_by_now
    document = scoring_endpoint(versions=[{**image(maximum=8), "replica": {"image": "registry/model:2"}}])
    await eight.plane.endpoints.apply(document)
    found = eight.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]["template"]["spec"]["containers"]
    assert found[0]["image"] == old.spec.versions[0].replica.image
    with pytest.raises(Fenced):
        await eight.control.run()


async def test_a_new_leader_puts_its_number_on_every_workload_before_anything_else(eight: Leadership) -> None:
    after = await Leadership(eight.kubernetes, eight.clock, fence=2).start()
    await after.settle(1)
    found = eight.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["metadata"]["annotations"]
    assert found["scorefront.io/fence"] == after.fence
    await after.stop()


async def test_a_new_leader_continues_the_draining_of_the_old_one(eight: Leadership) -> None:
    victims = ids(eight)[:5]
    await eight.provider.scale(BLUE, 3, victims)
    await eight.stop()
    after = await Leadership(eight.kubernetes, eight.clock, fence=2).start()
    await after.settle(1)
    assert (
        number(after) == 8 and (await after.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 3
    )
    for each in victims:
        after.plane.reports.replica_drained(each)
    await after.settle(2)
    assert number(after) == 3 and set(after.kubernetes.pods(leaving=True)) == {name_of(each) for each in victims}
    await after.stop()


# ---- stateful sets


async def test_of_a_stateful_set_the_last_ones_are_drained_and_go(leader: Leadership) -> None:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "x", "image": "y"}]}}
    spec = {"replicas": 4, "selector": {"matchLabels": {"app": "db"}}, "template": template}
    leader.kubernetes.put(STATEFULSETS, {"metadata": {"name": "db"}, "spec": spec})
    replica = {"workloadRef": {"kind": "StatefulSet", "name": "db"}, "port": 80}
    await leader.declare(scoring_endpoint(versions=[{"name": "blue", "replica": replica}]), 0.5)
    await leader.load(63, busy=0, total=4)
    assert leader.routers.retired == [], "who goes is a matter of their order"
    assert sorted(marked(leader)) == ["db-1", "db-2", "db-3"]
    last = next(each for each in ids(leader, DRAINING) if each.startswith("db-3"))
    first = next(each for each in ids(leader, DRAINING) if each.startswith("db-1"))
    leader.plane.reports.replica_drained(first)
    await leader.settle(1)
    assert leader.kubernetes.must_find(STATEFULSETS, "db")["spec"]["replicas"] == 4
    leader.plane.reports.replica_drained(last)
    await leader.settle(1)
    assert leader.kubernetes.must_find(STATEFULSETS, "db")["spec"]["replicas"] == 3
    assert leader.kubernetes.pods(leaving=True) == ["db-3"]
