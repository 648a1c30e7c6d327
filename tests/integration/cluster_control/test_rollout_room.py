"""A rollout whose new pod finds no room beside the old ones goes on by replacement."""

from cluster.kubernetes.client.paths import DEPLOYMENTS, EVENTS
from tests.fakes.cluster import Leadership, scoring_endpoint

QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: requests.nvidia.com/gpu"}


def rolling(leader: Leadership, updated: int, total: int, *conditions: object) -> None:
    """The status of the Deployment, as its controller writes it."""
    generation = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["metadata"]["generation"]
    status = {"observedGeneration": generation, "replicas": total, "updatedReplicas": updated}
    leader.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"status": {**status, "conditions": list(conditions)}})


def unavailable(leader: Leadership) -> int:
    strategy = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]["strategy"]
    return int(strategy["rollingUpdate"]["maxUnavailable"])


async def test_pods_are_stopped_first_after_a_minute_without_room_until_the_rollout_is_over(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    rolling(leader, 0, 1, QUOTA)
    await leader.settle(50)
    assert unavailable(leader) == 0
    await leader.settle(20)
    assert unavailable(leader) == 1
    [note] = [each["note"] for each in leader.kubernetes.all(EVENTS) if each["reason"] == "ReplacedForRoom"]
    assert "exceeded quota" in note
    rolling(leader, 0, 1, QUOTA)
    await leader.settle(100)
    assert unavailable(leader) == 1
    rolling(leader, 1, 1)
    await leader.settle(10)
    assert unavailable(leader) == 0


async def test_a_rollout_with_room_starts_new_pods_first(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    rolling(leader, 1, 2)
    await leader.settle(200)
    assert unavailable(leader) == 0
