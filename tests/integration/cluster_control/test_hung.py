"""A pod that hangs is replaced; one that scores is not, whatever its health path says."""

from cluster.kubernetes.client.paths import EVENTS, PODS
from cluster.kubernetes.objects.pod import replica_id
from tests.fakes.cluster import Leadership, image, scoring_endpoint

UNREADY = {"status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]}}
HUNG_S = 45.0
"""All failing probes, by the defaults, and the interval of the sweeps."""


async def unready(leader: Leadership) -> str:
    """An endpoint with one pod, which was ready and is no more; its name."""
    await leader.declare(scoring_endpoint(versions=[image(minimum=1, maximum=1)]))
    await leader.load(12.0, busy=0, total=1)
    [name] = leader.kubernetes.pods()
    leader.kubernetes.edit(PODS, name, UNREADY)
    return name


async def test_a_pod_without_readiness_and_request_is_replaced_and_an_event_says_so(leader: Leadership) -> None:
    name = await unready(leader)
    await leader.load(20.0, busy=0)
    assert leader.kubernetes.pods() == [name]
    await leader.load(HUNG_S - 20.0, busy=0)
    assert leader.kubernetes.pods(leaving=True) == [name]
    [note] = [each["note"] for each in leader.kubernetes.all(EVENTS) if each["reason"] == "Hung"]
    assert name in note


async def test_a_pod_that_answers_503_while_it_scores_stays(leader: Leadership) -> None:
    name = await unready(leader)
    busy = replica_id(leader.kubernetes.must_find(PODS, name))
    for _ in range(600):
        await leader.settle(1.0)
        leader.usage(1, by=[busy])
    assert leader.kubernetes.pods() == [name]


async def test_nothing_is_replaced_while_routers_do_not_report(leader: Leadership) -> None:
    name = await unready(leader)
    await leader.settle(600.0)
    assert leader.kubernetes.pods() == [name]
