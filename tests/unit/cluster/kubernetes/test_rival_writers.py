"""Detection of rival writers of a number of replicas."""

from cluster.kubernetes.rival_writers import (
    LONGEST_QUIET_S,
    PROBATION_S,
    QUIET_S,
    WITHIN_S,
    NumberChange,
    RivalState,
    RivalWriters,
    after,
    writer_of_number,
)
from tests.fakes.object_rules import Object

ARGO = "argocd (Apply)"
PLACE = ("Deployment", "home", "iris-blue")


def changes(*times: float, number: int = 1, state: RivalState | None = None) -> RivalState:
    state = state or RivalState()
    for at_s in times:
        state = after(state, NumberChange(ARGO, number, at_s))
    return state


def workload(number: int, manager: str = "", operation: str = "Update", subresource: str = "") -> Object:
    entry = {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    if subresource:
        entry["subresource"] = subresource
    template = {"manager": "other", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
    return {"metadata": {"managedFields": [template, *([entry] if manager else [])]}, "spec": {"replicas": number}}


def test_one_or_two_changes_are_no_conflict() -> None:
    assert changes(0.0, 3.0).suspended(3.0) == ""
    assert changes(0.0, WITHIN_S, 2 * WITHIN_S + 1).suspended(2 * WITHIN_S + 1) == ""


def test_the_third_change_within_a_minute_is_a_conflict_that_names_its_manager() -> None:
    told = changes(0.0, 3.0, 6.0).suspended(6.0)
    assert told.startswith("argocd (Apply) set 1 three times in 6 s; scaling is suspended") and "5 min" in told


def test_different_numbers_and_managers_are_all_named() -> None:
    state = RivalState()
    for at_s, writer, number in ((0.0, ARGO, 1), (1.0, "keda (Update of scale)", 5), (2.0, ARGO, 1)):
        state = after(state, NumberChange(writer, number, at_s))
    assert state.suspended(2.0).startswith("argocd (Apply), keda (Update of scale) set 1, 5, 1 in 2 s")


def test_the_suspension_ends_after_quiet_and_each_further_change_extends_it() -> None:
    state = changes(0.0, 3.0, 6.0)
    assert state.suspended(6.0 + QUIET_S - 1) and not state.suspended(6.0 + QUIET_S)
    longer = changes(100.0, state=state)
    assert longer.suspended(6.0 + QUIET_S) and not longer.suspended(100.0 + QUIET_S)


def test_after_a_resumption_one_change_is_enough_and_the_quiet_time_doubles_up_to_a_limit() -> None:
    state, now, quiet_s = changes(0.0, 3.0, 6.0), 6.0, QUIET_S
    for _ in range(6):
        now += quiet_s + 1
        state = changes(now, state=state)
        quiet_s = min(2 * quiet_s, LONGEST_QUIET_S)
        assert state.suspended(now + quiet_s - 1) and not state.suspended(now + quiet_s)
    assert quiet_s == LONGEST_QUIET_S


def test_after_a_long_peace_a_single_change_is_one_of_three_again() -> None:
    now = 6.0 + QUIET_S + PROBATION_S + 1
    assert changes(now, state=changes(0.0, 3.0, 6.0)).suspended(now) == ""


def test_changes_are_taken_from_the_watch_and_own_writes_are_none() -> None:
    rivals = RivalWriters()
    assert rivals.observe(PLACE, workload(1, "argocd", "Apply"), 0.0) is None, "the first sight is no change"
    assert rivals.observe(PLACE, workload(6, "scorefront", subresource="scale"), 1.0) is None
    assert rivals.observe(PLACE, workload(1, "argocd", "Apply"), 2.0) == NumberChange(ARGO, 1, 2.0)
    assert rivals.observe(PLACE, workload(1, "argocd", "Apply"), 3.0) is None, "the status changed"
    assert rivals.observe(PLACE, workload(4), 4.0) is None, "no manager is known: nothing is adopted"


def test_a_conflict_begins_once_and_is_forgotten_with_the_workload() -> None:
    rivals = RivalWriters()
    began = [rivals.count(PLACE, NumberChange(ARGO, 1, float(at_s))) for at_s in range(5)]
    assert began == [False, False, True, False, False] and rivals.conflict(PLACE, 5.0)
    rivals.forget(PLACE)
    assert rivals.conflict(PLACE, 5.0) == ""


def test_the_writer_is_the_last_owner_of_the_number_with_its_subresource() -> None:
    assert writer_of_number(workload(1, "kubectl", subresource="scale")) == "kubectl (Update of scale)"
    assert writer_of_number(workload(1, "scorefront", subresource="scale")) == ""
    assert writer_of_number(workload(1)) == ""
