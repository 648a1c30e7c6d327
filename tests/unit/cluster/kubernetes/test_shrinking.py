from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.objects.labels import DELETION_COST, DRAINING
from cluster.kubernetes.shrinking import DRAINED_COST, PodNow, of_deployment, of_statefulset, pod_now, pods_now

NOBODY: frozenset[str] = frozenset()


def pod(number: int, ready: bool = True, placed: bool = True, draining: bool = False, cost: int = 0) -> PodNow:
    return PodNow(f"p-{number}", f"u{number}", f"p-{number}.u", f"2026-{number:02}", ready, placed, draining, cost)


def names(pods: list[PodNow] | tuple[PodNow, ...] | tuple[PodNow, PodNow]) -> list[str]:
    return [each.name for each in pods]


def test_more_is_just_a_higher_number() -> None:
    steps = of_deployment(5, [pod(1), pod(2)], NOBODY, NOBODY, NOBODY)
    assert (steps.replicas, steps.retire, steps.delete) == (5, (), ())


def test_the_number_does_not_fall_before_those_that_go_are_drained() -> None:
    pods = [pod(1), pod(2), pod(3)]
    steps = of_deployment(1, pods, {"p-1.u", "p-3.u"}, NOBODY, NOBODY)
    assert steps.replicas == 3 and names(steps.retire) == ["p-1", "p-3"]


def test_the_number_falls_by_as_many_as_are_drained_and_those_are_the_cheapest() -> None:
    pods = [pod(1, draining=True, cost=-1000), pod(2), pod(3, draining=True, cost=-1000)]
    steps = of_deployment(1, pods, NOBODY, {"p-3.u"}, NOBODY)
    assert steps.replicas == 2 and names(steps.mark_drained) == ["p-3"]


def test_when_all_that_go_are_drained_there_is_no_need_to_tell_them_apart() -> None:
    pods = [pod(1, draining=True, cost=-1000), pod(2), pod(3, draining=True, cost=-1000)]
    steps = of_deployment(1, pods, NOBODY, {"p-1.u", "p-3.u"}, NOBODY)
    assert steps.replicas == 1 and steps.mark_drained == ()


def test_a_new_leader_continues_the_shrinking_of_the_old_one() -> None:
    pods = [pod(1, draining=True, cost=DRAINED_COST), pod(2), pod(3, draining=True, cost=-1000)]
    steps = of_deployment(1, pods, NOBODY, NOBODY, NOBODY)
    assert steps.replicas == 2 and steps.retire == () and steps.mark_drained == ()


def test_those_that_are_not_ready_go_first_and_then_the_youngest() -> None:
    pods = [pod(1), pod(2, ready=False), pod(3), pod(4)]
    steps = of_deployment(2, pods, NOBODY, NOBODY, NOBODY)
    assert names(steps.retire) == ["p-2", "p-4"]


def test_pods_without_a_node_have_nothing_to_drain() -> None:
    pods = [pod(1), pod(2, ready=False, placed=False)]
    steps = of_deployment(1, pods, NOBODY, NOBODY, NOBODY)
    assert steps.replicas == 1 and steps.retire == ()


def test_retired_pods_go_even_when_more_are_wanted_after_all() -> None:
    steps = of_deployment(4, [pod(1), pod(2)], {"p-2.u"}, NOBODY, NOBODY)
    assert steps.replicas == 5 and names(steps.retire) == ["p-2"]


def test_one_that_should_have_gone_is_deleted() -> None:
    pods = [pod(1), pod(2, draining=True, cost=-1000)]
    steps = of_deployment(1, pods, NOBODY, {"p-2.u"}, {"p-2.u"})
    assert names(steps.delete) == ["p-2"]


def test_of_a_stateful_set_the_last_ones_go() -> None:
    pods = [pod(0), pod(1), pod(2)]
    steps = of_statefulset(1, pods, NOBODY, NOBODY, NOBODY)
    assert steps.replicas == 3 and names(steps.retire) == ["p-1", "p-2"]
    assert of_statefulset(1, pods, NOBODY, {"p-2.u"}, NOBODY).replicas == 2
    assert of_statefulset(1, pods, NOBODY, {"p-1.u"}, NOBODY).replicas == 3, "p-2 works still, and would go first"


def test_of_a_stateful_set_one_that_must_go_from_the_middle_is_deleted_and_comes_back() -> None:
    steps = of_statefulset(3, [pod(0), pod(1), pod(2)], {"p-1.u"}, {"p-1.u"}, NOBODY)
    assert steps.replicas == 3 and names(steps.delete) == ["p-1"]


METADATA = {"name": "iris-blue-5", "uid": "0123-4567", "creationTimestamp": "2026-01-01T00:00:01Z"}


def test_the_state_of_a_pod_is_read_from_its_object() -> None:
    read = pod_now(
        {
            "metadata": {**METADATA, "annotations": {DRAINING: "now", DELETION_COST: "-1000"}},
            "spec": {"nodeName": "node-1"},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]},
        }
    )
    assert read is not None and read.id.startswith("iris-blue-5.")
    assert read == PodNow("iris-blue-5", "0123-4567", read.id, "2026-01-01T00:00:01Z", True, True, True, -1000)


@pytest.mark.parametrize("absent", [{}, {"annotations": None}, {"annotations": {DELETION_COST: "high"}}])
@pytest.mark.parametrize(
    "conditions", [None, [{"type": "Ready", "status": "False"}, {"type": "Initialized", "status": "True"}]]
)
def test_a_pod_without_a_node_and_without_annotations_is_not_ready_placed_or_draining(
    absent: dict[str, Any], conditions: list[dict[str, str]] | None
) -> None:
    metadata = {"name": "p", "uid": "u", **absent}
    read = pod_now({"metadata": metadata, "status": {"conditions": conditions}})
    assert read is not None
    assert (read.created, read.ready, read.placed, read.draining, read.cost) == ("", False, False, False, 0)


def test_the_pods_of_a_workload_that_count() -> None:
    owner = {"controller": True, "kind": "StatefulSet", "name": "w", "uid": "w-1"}
    workload = {"metadata": {"name": "w", "uid": "w-1"}}
    mine = {"metadata": {**METADATA, "ownerReferences": [owner]}}
    gone = {"metadata": {**mine["metadata"], "name": "gone", "deletionTimestamp": "2026-01-01T00:00:02Z"}}
    others = {"metadata": {**METADATA, "name": "other"}}
    assert names(pods_now([others, mine, gone], workload)) == ["iris-blue-5"]
    assert pods_now([mine], None) == []


def test_a_stateful_set_marks_only_pods_with_a_node() -> None:
    steps = of_statefulset(1, [pod(0), pod(1), pod(2, placed=False), pod(3, draining=True)], NOBODY, NOBODY, NOBODY)
    assert names(steps.retire) == ["p-1"]
    assert (steps.mark_drained, steps.replicas) == ((), 4)


def test_a_victim_at_the_boundary_of_a_stateful_set_is_removed_once() -> None:
    steps = of_statefulset(1, [pod(0), pod(1)], {"p-1.u"}, {"p-1.u"}, NOBODY)
    assert (names(steps.retire), names(steps.removable), steps.delete, steps.replicas) == (["p-1"], ["p-1"], (), 1)


def test_a_pod_that_ends_already_does_not_count() -> None:
    metadata = {"name": "p", "uid": "12345678-9", "creationTimestamp": ""}
    assert pod_now({"metadata": {**metadata, "deletionTimestamp": "now"}, "status": {}}) is None
    for phase in ("Failed", "Succeeded"):
        assert pod_now({"metadata": metadata, "status": {"phase": phase}}) is None


PODS = st.lists(
    st.builds(pod, st.just(0), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, -1000, -2000]))
)


@given(PODS, st.integers(1, 8), st.data())
def test_the_number_always_leaves_room_for_everything_that_still_works(
    drawn: list[PodNow], wanted: int, data: Any
) -> None:
    pods = [
        PodNow(f"p-{i}", f"u{i}", f"p-{i}.u", f"{i}", p.ready, p.placed, p.draining, p.cost)
        for i, p in enumerate(drawn)
    ]
    ids = [each.id for each in pods]
    drained = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    victims = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    for rule in (of_deployment, of_statefulset):
        steps = rule(wanted, pods, victims, drained, NOBODY)
        spent = {each.id for each in steps.removable} | {each.id for each in steps.delete}
        assert steps.replicas >= wanted
        assert (
            not {each.id for each in steps.delete}
            - drained
            - {p.id for p in pods if not p.placed or p.cost <= DRAINED_COST}
        )
        if rule is of_statefulset:
            removed = {each.id for each in pods if each.ordinal >= steps.replicas}
        else:
            removed = spent
            working = [each for each in pods if each.id not in spent]
            assert len(working) <= steps.replicas
        going = {each.id for each in pods if each.draining or each.id in victims or each in steps.retire}
        assert all(
            each.id in drained or not each.placed or each.cost <= DRAINED_COST for each in pods if each.id in removed
        )
        assert len(pods) - len(going) >= min(wanted, len(pods) - len(going))
