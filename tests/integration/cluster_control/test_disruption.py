"""Budgets for node maintenance, on a Kubernetes in memory."""

from cluster.kubernetes.client.api_errors import ApiError, RequestRefused
from cluster.kubernetes.client.paths import BUDGETS, DEPLOYMENTS, ENDPOINTS, EVENTS
from tests.fakes.cluster import Leadership, image, scoring_endpoint
from tests.fakes.kubernetes import FakeKubernetes


def budgets(leader: Leadership) -> list[str]:
    return [each["metadata"]["name"] for each in leader.kubernetes.all(BUDGETS)]


async def scaled(leader: Leadership, replicas: int) -> None:
    spec = {"versions": [image(numReplicas=replicas)]}
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": spec})
    await leader.settle(3)


async def test_a_version_has_a_budget_as_long_as_it_has_more_than_one_replica(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(numReplicas=1)]))
    assert budgets(leader) == []
    await scaled(leader, 3)
    assert budgets(leader) == ["iris-blue"]
    deployment = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["metadata"]
    budget = leader.kubernetes.must_find(BUDGETS, "iris-blue")["metadata"]
    assert budget["ownerReferences"][0]["uid"] == deployment["uid"]
    await scaled(leader, 2)
    assert leader.kubernetes.must_find(BUDGETS, "iris-blue")["metadata"]["uid"] == budget["uid"]
    await scaled(leader, 1)
    await leader.settle(70)  # the replica that goes is drained first
    assert budgets(leader) == []


async def test_a_budget_that_somebody_removes_or_changes_is_made_anew(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(numReplicas=2)]))
    leader.kubernetes.take_away(BUDGETS, "iris-blue")
    await leader.settle(2)
    assert budgets(leader) == ["iris-blue"]
    leader.kubernetes.edit(BUDGETS, "iris-blue", {"spec": {"maxUnavailable": 0}})
    await leader.settle(2)
    assert leader.kubernetes.must_find(BUDGETS, "iris-blue")["spec"]["maxUnavailable"] == 1


async def test_a_budget_of_the_user_takes_the_place_of_ours_and_ours_returns_after_it(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(numReplicas=2)]))
    spec = {"maxUnavailable": "50%", "selector": {"matchLabels": {"scorefront.io/endpoint": "iris"}}}
    leader.kubernetes.put(BUDGETS, {"metadata": {"name": "mine"}, "spec": spec})
    await leader.settle(2)
    assert budgets(leader) == ["mine"]
    leader.kubernetes.take_away(BUDGETS, "mine")
    await leader.settle(2)
    assert budgets(leader) == ["iris-blue"]


async def test_a_missing_right_is_told_and_stops_nothing_and_is_tried_again() -> None:
    kubernetes = FakeKubernetes()
    refused = RequestRefused("poddisruptionbudgets is forbidden", status=403, reason="Forbidden")

    def refusal(verb: str, where: str) -> ApiError | None:
        return refused if verb == "create" and "poddisruptionbudgets" in where else None

    kubernetes.refusal = refusal
    leader = await Leadership(kubernetes).start()
    try:
        await leader.declare(scoring_endpoint(versions=[image(numReplicas=2)]))
        assert leader.conditions()["Ready"][0] == "True"
        events = {each["reason"]: each for each in kubernetes.all(EVENTS)}
        assert "forbidden" in events["BudgetRefused"]["note"] and events["BudgetRefused"]["type"] == "Warning"
        kubernetes.refusal = lambda verb, where: None
        await leader.settle(40)
        assert budgets(leader) == ["iris-blue"]
    finally:
        await leader.stop()


async def test_without_the_right_to_read_budgets_the_leader_serves_and_scales() -> None:
    kubernetes = FakeKubernetes()
    refused = RequestRefused("poddisruptionbudgets is forbidden", status=403, reason="Forbidden")
    kubernetes.refusal = lambda verb, where: refused if "poddisruptionbudgets" in where else None
    leader = await Leadership(kubernetes).start()
    try:
        await leader.declare(scoring_endpoint(versions=[image(numReplicas=2)]))
        assert leader.conditions()["Ready"][0] == "True"
        assert budgets(leader) == []
    finally:
        await leader.stop()
