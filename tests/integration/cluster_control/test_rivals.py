"""Other clients that set the number of replicas: once (adopted), or again and again (a conflict)."""

import pytest

from cluster.kubernetes.client.paths import DEPLOYMENTS, EVENTS, HPAS, PODS
from cluster.kubernetes.rival_writers import QUIET_S
from serving.replica import ReplicaState
from tests.fakes.cluster import BLUE, Leadership, image, scoring_endpoint
from tests.fakes.object_rules import Object

ARGO = "argocd-controller"


def number(leader: Leadership, name: str = "iris-blue") -> int:
    return int(leader.kubernetes.must_find(DEPLOYMENTS, name)["spec"]["replicas"])


def set_number(leader: Leadership, replicas: int, by: str = ARGO) -> None:
    leader.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"spec": {"replicas": replicas}}, by)


def our_scales(leader: Leadership) -> list[int]:
    return [body["spec"]["replicas"] for body in leader.kubernetes.writes("replace", "iris-blue/scale")]


def reasons(leader: Leadership) -> list[str]:
    return [each["reason"] for each in leader.kubernetes.all(EVENTS)]


async def drain(leader: Leadership) -> None:
    """Report every draining replica as drained."""
    for each in list(leader.routers.replicas.values()):
        if each.state is ReplicaState.DRAINING:
            leader.plane.reports.replica_drained(each.id)
    await leader.settle(2)


@pytest.mark.parametrize("fixed", [True, False])
async def test_a_rival_that_sets_the_number_every_3_s_is_fought_at_most_three_times_and_then_named(
    leader: Leadership, fixed: bool
) -> None:
    version = image(numReplicas=4) if fixed else image(minimum=1, maximum=4)
    await leader.declare(scoring_endpoint(versions=[version]))
    await leader.load(2, busy=1, waiting=9, total=1)
    assert number(leader) == 4
    before, pods = len(our_scales(leader)), set()
    for _ in range(40):
        set_number(leader, 1)
        await leader.load(3, busy=1, waiting=9, total=1)
        pods |= {each["metadata"]["uid"] for each in leader.kubernetes.all(PODS)}
    assert len(our_scales(leader)) - before <= 3 and number(leader) == 1
    assert len(pods) <= 4 + 3 * 3
    status, reason, message = leader.conditions()["ScalingConflict"]
    assert (status, reason) == ("True", "ScaledByAnother")
    assert message.startswith("blue: argocd-controller (Update) set 1 three times in 6 s; scaling is suspended")
    assert reasons(leader).count("ScalingConflict") == 1


async def test_scaling_is_resumed_once_the_rival_has_been_quiet(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(numReplicas=4)]))
    for _ in range(3):
        set_number(leader, 1)
        await leader.settle(3)
    assert number(leader) == 1
    await leader.settle(QUIET_S - 10)
    assert number(leader) == 1
    await leader.settle(20)
    assert number(leader) == 4 and leader.conditions()["ScalingConflict"][0] == "False"
    set_number(leader, 1)
    await leader.settle(QUIET_S + 20)
    assert number(leader) == 1, "once more is enough now, for twice as long"


async def test_one_number_by_hand_is_adopted_and_the_policy_goes_on_with_its_window(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=1, maximum=8)]))
    await leader.load(70, busy=0, total=1)
    before = len(our_scales(leader))
    set_number(leader, 5, "kubectl")
    await leader.load(50, busy=0, total=5)
    assert number(leader) == 5 and len(our_scales(leader)) == before, "not fought"
    view = await leader.plane.endpoints.get("iris")
    assert view["status"]["versions"]["blue"]["desired"] == 5
    decisions = [each.decision for each in leader.plane.endpoints.decisions("iris", None, 50)]
    (adopted,) = [each for each in decisions if each.rule == "adopted"]
    assert adopted.reason.startswith("kubectl (Update) set the number to 5")
    await leader.load(20, busy=0, total=5)
    await drain(leader)
    assert number(leader) == 1
    assert leader.conditions()["ScalingConflict"][0] == "False"


async def test_more_is_asked_for_at_once_after_a_number_by_hand_that_is_too_low(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=1, maximum=8)]))
    await leader.load(2, busy=1, waiting=50, total=1)
    assert number(leader) == 8
    set_number(leader, 2, "kubectl")
    await leader.load(3, busy=2, waiting=50, total=2)
    assert number(leader) == 8


async def test_a_number_out_of_bounds_is_brought_within_them(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=2, maximum=4)]))
    set_number(leader, 9, "kubectl")
    await leader.load(2, busy=1, total=2)
    await drain(leader)
    assert number(leader) == 4


async def test_an_autoscaler_is_no_rival_writer_besides(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=1, maximum=8)]))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris-blue"}
    leader.kubernetes.put(HPAS, {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": target}})
    await leader.settle(1)
    for replicas in (2, 3, 4, 5):
        set_number(leader, replicas, "kube-controller-manager")
        await leader.settle(2)
    assert "home/theirs" in leader.provider.status.suspended(BLUE)
    leader.kubernetes.take_away(HPAS, "theirs")
    await leader.settle(2)
    assert leader.provider.status.suspended(BLUE) == ""
    assert number(leader) == 5, "its last number is the current one"


async def test_an_adopted_workload_is_followed_like_a_made_one(leader: Leadership) -> None:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "x", "image": "y"}]}}
    spec: Object = {"replicas": 2, "selector": {"matchLabels": {"app": "db"}}, "template": template}
    leader.kubernetes.put(DEPLOYMENTS, {"metadata": {"name": "iris-blue"}, "spec": spec}, ARGO)
    replica = {"workloadRef": {"kind": "Deployment", "name": "iris-blue"}, "port": 80}
    version = {"name": "blue", "replica": replica, "numReplicas": 3}
    await leader.declare(scoring_endpoint(versions=[version]))
    assert number(leader) == 3
    before = len(our_scales(leader))
    for _ in range(10):
        set_number(leader, 2)
        await leader.settle(3)
    assert len(our_scales(leader)) - before <= 3 and number(leader) == 2
    assert leader.conditions()["ScalingConflict"][0] == "True"
