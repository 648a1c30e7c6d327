"""Problems of versions in conditions, Events, `get` and `why`."""

import logging

import pytest

from cluster.kubernetes.client.api_errors import RequestRefused
from cluster.kubernetes.client.paths import DEPLOYMENTS, EVENTS, PODS, STATEFULSETS
from controlplane.control_errors import EndpointSkipped
from controlplane.records import to_answer
from scorefront.cli.show import decision_table, endpoint_table
from tests.fakes.cluster import Leadership, image, scoring_endpoint
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object

FORBIDDEN = RequestRefused("PUT /scale: 403 Forbidden: deployments.apps is forbidden", 403, "Forbidden")
QUOTA = 'pods "iris-blue-x" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1'
LIMIT_RANGE = 'Pod "iris-blue-x" is invalid: must be less than or equal to memory limit of 100Mi'
STUCK: Object = {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}
ENDED: Object = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
    "lastState": {"terminated": {"reason": "StartError", "exitCode": 128, "message": 'exec: "/bin/python":\nno file'}},
}


def refuse(leader: Leadership, *matches: tuple[str, str]) -> None:
    """Refuse calls by verb and end of path; without arguments none."""
    leader.kubernetes.refusal = lambda verb, where: (
        FORBIDDEN if any(verb == each and where.endswith(end) for each, end in matches) else None
    )


async def state(leader: Leadership) -> tuple[str, str]:
    """The STATE column and the message of the first version."""
    view = await leader.plane.endpoints.get("iris")
    (cell, *_) = endpoint_table([view]).columns[-1].cells
    return str(cell), view["status"]["versions"]["blue"]["message"]


def why(leader: Leadership) -> str:
    """The last decision that wants more, as `scorefront why` shows it."""
    records = leader.plane.endpoints.decisions("iris", None, 50)
    documents = [to_answer(each).document() for each in records if each.decision.direction == "up"]
    return [str(cell) for cell in decision_table(documents).columns[-1].cells][-1]


def notes(leader: Leadership, reason: str) -> list[str]:
    return [each["note"] for each in leader.kubernetes.all(EVENTS) if each["reason"] == reason]


async def test_a_refused_scale_is_a_condition_an_event_and_the_outcome_of_the_decision(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    refuse(leader, ("replace", "/scale"))
    await leader.load(4, busy=1, waiting=3, total=1)
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "NotReconciled")
    assert message.startswith("blue: cannot scale Deployment home/iris-blue") and "403 Forbidden" in message
    assert len(notes(leader, "NotReconciled")) == 1
    shown, text = await state(leader)
    assert shown.startswith("refused") and "403 Forbidden" in text
    assert "asked for 6: refused: cannot scale Deployment home/iris-blue" in why(leader)
    refuse(leader)
    await leader.load(130, busy=1, waiting=3, total=1)
    assert leader.conditions()["Degraded"][0] == "False" and "refused" not in why(leader)


async def test_a_refusal_is_tried_less_and_less_often_and_logged_once(
    leader: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    await leader.declare(scoring_endpoint())
    refuse(leader, ("replace", "/scale"))
    before = len(leader.kubernetes.writes("replace", "/scale"))
    with caplog.at_level(logging.WARNING):
        await leader.load(120, busy=1, waiting=3, total=1)
    assert len(leader.kubernetes.writes("replace", "/scale")) - before <= 8
    assert len([each for each in caplog.records if "cannot scale" in each.getMessage()]) <= 2
    assert "Error(" not in caplog.text


async def test_an_impossible_declaration_is_refused_once_in_the_log_and_less_and_less_often(
    leader: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(leader, ("apply", "/iris-blue"))
    with caplog.at_level(logging.WARNING):
        await leader.declare(scoring_endpoint(versions=[image(), image("green")]))
        await leader.settle(120)
    assert len(leader.kubernetes.writes("apply", "/iris-blue")) <= 7
    assert len([each for each in caplog.records if "cannot apply" in each.getMessage()]) == 1
    assert leader.conditions()["Ready"][2].startswith("blue: 0 of 1 ready: cannot apply Deployment"), "no blue: blue:"
    view = await leader.plane.endpoints.get("iris")
    blue, green = (view["status"]["versions"][name] for name in ("blue", "green"))
    assert blue["message"].startswith("cannot apply Deployment") and green["message"] == ""
    assert list(blue["problems"]) == ["refused"] and green["problems"] == {}
    assert [str(cell) for cell in endpoint_table([view]).columns[-1].cells] == ["refused", "ok"], "only blue is not"
    refuse(leader)
    await leader.declare(scoring_endpoint(versions=[image(), image("green")], description="changed"))
    assert leader.conditions()["Degraded"][0] == "False", "a change of the declaration is tried at once"


@pytest.mark.parametrize(
    ("text", "reason", "word"), [(QUOTA, "NoRoom", "limited"), (LIMIT_RANGE, "PodsRefused", "refused")]
)
async def test_a_quota_is_no_room_and_an_invalid_pod_is_refused(text: str, reason: str, word: str) -> None:
    leader = await Leadership(FakeKubernetes(controllers=False)).start()
    leader.plane.reports.workers_expected(["w1"])
    await leader.declare(scoring_endpoint())
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}
    leader.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"status": {"conditions": [failure]}}, "controller")
    await leader.load(3, busy=0, waiting=3)
    assert leader.conditions()["ScalingLimited"] == ("True", reason, f"blue: {text}")
    assert leader.conditions()["Ready"][2] == f"blue: 0 of 1 ready: {text}"
    shown, told = await state(leader)
    assert word in shown and "ok" not in shown and text in told
    assert f"{word}: " in why(leader) and text in why(leader)
    await leader.stop()


@pytest.mark.parametrize(
    ("container", "text"),
    [
        ({"state": STUCK}, "container model: ImagePullBackOff: no such host"),
        (ENDED, 'it last ended with StartError (exit code 128): exec: "/bin/python": no file'),
    ],
)
async def test_replicas_that_fail_are_a_condition_and_one_event(
    leader: Leadership, container: Object, text: str
) -> None:
    leader.kubernetes.starts_ready = False
    await leader.declare(scoring_endpoint())
    (name,) = leader.kubernetes.pods()
    status = {"containerStatuses": [{"name": "model", "restartCount": 3, **container}]}
    for _ in range(3):
        leader.kubernetes.edit(PODS, name, {"status": status}, "kubelet")
        await leader.settle(20)
        status["containerStatuses"][0]["restartCount"] += 1
    condition = leader.conditions()["Degraded"]
    assert condition[:2] == ("True", "ReplicasFailing") and text in condition[2], condition
    assert condition[2].startswith("blue: 1 of 1 replicas failing: ")
    assert len(notes(leader, "ReplicasFailing")) == 1
    shown, told = await state(leader)
    assert shown == "failing, 1 failed" and text in told


async def test_a_refused_watch_is_told_by_every_endpoint(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    refuse(leader, ("get", "/horizontalpodautoscalers"))
    leader.kubernetes.go_away()
    await leader.settle(1)
    leader.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"metadata": {"labels": {"other": "x"}}})
    leader.kubernetes.forget_history()
    leader.kubernetes.come_back()
    await leader.settle(40)
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "NotReconciled") and "403 Forbidden" in message
    assert (await state(leader))[0] == "refused"
    refuse(leader)
    await leader.settle(60)
    assert leader.conditions()["Degraded"][0] == "False"


async def at_a_glance(leader: Leadership) -> list[str]:
    """The STATE column of all versions."""
    return [str(cell) for cell in endpoint_table(await leader.plane.endpoints.views()).columns[-1].cells]


async def test_no_state_is_ok_while_the_end_of_a_former_version_is_refused(leader: Leadership) -> None:
    template = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "model"}]}}
    theirs = {"replicas": 1, "selector": {"matchLabels": {"app": "theirs"}}, "template": template}
    leader.kubernetes.put(STATEFULSETS, {"metadata": {"name": "theirs", "namespace": "home"}, "spec": theirs})
    adopted = {**image("green"), "replica": {"workloadRef": {"kind": "StatefulSet", "name": "theirs"}}}
    await leader.declare(scoring_endpoint(versions=[image(), adopted]))
    assert await at_a_glance(leader) == ["ok", "ok"]
    refuse(leader, ("merge", "/statefulsets/theirs"))
    await leader.declare(scoring_endpoint())
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "NotReconciled") and message.startswith("green: ")
    view = await leader.plane.endpoints.get("iris")
    assert view["status"]["degraded"] == f"{reason}: {message}"
    assert await at_a_glance(leader) == ["degraded"]
    assert (await leader.plane.endpoints.metrics.problems()).degraded == {"iris"}
    refuse(leader)
    await leader.settle(130)
    assert leader.conditions()["Degraded"][0] == "False" and await at_a_glance(leader) == ["ok"]
    assert (await leader.plane.endpoints.metrics.problems()).degraded == frozenset()


async def test_no_state_is_ok_while_an_invalid_declaration_is_not_followed(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    await leader.declare(scoring_endpoint(versions=[image(), image()]))
    assert leader.conditions()["Degraded"][:2] == ("True", "Invalid")
    assert await at_a_glance(leader) == ["degraded"]


async def test_an_endpoint_whose_keys_cannot_be_written_is_listed_with_the_reason(leader: Leadership) -> None:
    refuse(leader, ("replace", "/secrets/scorefront-keys"), ("merge", "/secrets/scorefront-keys"))
    await leader.declare(scoring_endpoint())
    with pytest.raises(
        EndpointSkipped, match=r"'iris' is skipped: cannot write the keys: .*403 Forbidden.*; it is tried again"
    ):
        await leader.plane.endpoints.get("iris")
    with pytest.raises(EndpointSkipped, match="403 Forbidden"):
        leader.plane.endpoints.decisions("iris", None, 5)
    assert "403 Forbidden" in leader.plane.endpoints.skipped()["iris"].why
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "NotReconciled") and "403 Forbidden" in message
    refuse(leader)
    await leader.settle(5)
    assert leader.plane.endpoints.skipped() == {} and await at_a_glance(leader) == ["ok"]


async def test_an_endpoint_that_was_never_served_is_gone_once_it_is_deleted(leader: Leadership) -> None:
    refuse(leader, ("replace", "/secrets/scorefront-keys"), ("merge", "/secrets/scorefront-keys"))
    await leader.declare(scoring_endpoint())
    await leader.plane.endpoints.delete("iris")
    refuse(leader)
    await leader.settle(5)
    assert leader.plane.endpoints.skipped() == {} and not leader.has_endpoint()


async def test_a_new_leader_leads_although_the_keys_of_one_endpoint_cannot_be_written(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    refuse(leader, ("replace", "/secrets/scorefront-keys"), ("merge", "/secrets/scorefront-keys"))
    await leader.declare(scoring_endpoint("wine"))
    await leader.stop()
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(1)
    assert await at_a_glance(after) == ["ok"] and after.plane.endpoints.skipped().keys() == {"wine"}
    assert "403 Forbidden" in after.conditions("wine")["Degraded"][2]
    refuse(after)
    await after.settle(5)
    assert await at_a_glance(after) == ["ok", "ok"] and after.plane.endpoints.skipped() == {}
    await after.stop()
