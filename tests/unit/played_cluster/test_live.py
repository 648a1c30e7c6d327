"""Declarations of a run on a cluster with nodes, and conclusions from its clients' observations."""

from collections import Counter
from typing import Any

import pytest

from cluster.kubernetes.objects.deployment import faults_of, pod_template
from loadtests.closedloop import Failure, Tally
from serving.endpoint import VersionKey
from serving.manifest import parse, to_endpoint
from tests.cluster import live
from tests.cluster.live import Run, Step
from tests.cluster.slow_score import run as score

IMAGE = "registry.example.com/scorefront-iris:0.1.0"
STEPS = (Step("up", 10.0, 20.0), Step("kill", 21.0, 30.0, may_fail=1))


def pod(uid: str, ready: bool = True, restarted: int = 0, **metadata: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"conditions": conditions, "containerStatuses": [{"restartCount": restarted}]}
    return {"metadata": {"name": f"pod-{uid}", "uid": uid, **metadata}, "status": status}


def broken(*at_s: float, answered: tuple[int, int] = (5, 5), stuck: str = "") -> list[str]:
    """The broken promises with failures at these moments."""
    tally = Tally(Counter({200: 10}), [Failure(each, 1, 502) for each in at_s])
    return [each.what for each in live.promises(Run(1.0, STEPS, answered, stuck, tally)) if not each.kept]


def test_the_endpoint_of_a_live_run_is_a_valid_one_and_a_revision_is_another_pod_template() -> None:
    endpoints = [to_endpoint(parse(live.endpoint(IMAGE, revision))) for revision in (1, 2)]
    assert not any(map(faults_of, endpoints))
    templates = [pod_template(VersionKey(live.NAME, "blue"), each.versions[0]) for each in endpoints]
    assert templates[0] != templates[1]
    (container,) = templates[0]["spec"]["containers"]
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told["AZUREML_ENTRY_SCRIPT"] == f"{mounted['model']}/{live.SCORE.name}"


def test_the_slow_model_is_that_of_the_config_map() -> None:
    (source,) = live.model_map()["data"].values()
    made: dict[str, Any] = {}
    exec(compile(source, "score.py", "exec"), made)
    assert made["run"]("{}") == score("{}") == {"bytes": 2}


@pytest.mark.parametrize(
    ("found", "is_so"),
    [
        ([pod("a"), pod("b")], True),
        ([pod("a")], False),
        ([pod("a"), pod("b", ready=False)], False),
        ([pod("a"), pod("b", deletionTimestamp="2026-01-01T00:00:00Z")], False),
        ([pod("a"), pod("old")], False),
    ],
)
def test_pods_are_steady_once_all_are_ready_none_leaves_and_the_old_one_is_gone(found: list[Any], is_so: bool) -> None:
    assert live.steady(found, 2, without="old") is is_so


def test_a_container_that_was_started_again_is_counted() -> None:
    assert live.restarts(pod("a", restarted=2)) == 2


def test_the_pod_that_is_taken_is_the_first_by_name() -> None:
    assert live.first([pod("b"), pod("a")]) == ("pod-a", "a")


def test_a_run_without_failures_keeps_every_promise() -> None:
    assert not broken()


def test_a_kill_may_cost_the_requests_on_the_replica_and_no_more() -> None:
    assert not broken(22.0)
    assert broken(22.0, 23.0) == ["kill: failed"]


def test_a_failure_breaks_the_promise_of_its_step_or_that_of_the_time_between() -> None:
    assert broken(15.0) == ["up: failed"]
    assert broken(20.5) == ["failed between the steps"]


def test_a_step_without_answers_is_no_success() -> None:
    assert broken(answered=(5, 0)) == ["steps without an answer"]


def test_a_step_that_never_ended_is_no_success() -> None:
    assert broken(stuck="3 ready pods: not after 180 s") == ["steps that did not end"]


def test_the_table_has_a_row_for_each_step_with_its_failures() -> None:
    tally = Tally(Counter({200: 10}), [Failure(15.0, 1, 502)])
    rows = live.table(Run(1.0, STEPS, (7, 3), "", tally)).rows
    assert rows == (("up", "10.0", "7", "1"), ("kill", "9.0", "3", "0"))


def test_observations_of_several_groups_of_clients_are_summed() -> None:
    one, other = (Tally(Counter({200: 1}), [Failure(1.0, 1, 502)], asked_to_leave=1) for _ in range(2))
    both = live.merged([one, other])
    assert (both.statuses[200], len(both.failures), both.asked_to_leave) == (2, 2, 2)
