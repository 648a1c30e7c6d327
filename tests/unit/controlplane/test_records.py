from autoscaler.policy import Decision, Direction, Observation
from controlplane.records import DecisionLog, to_answer
from serving.endpoint import VersionKey

BLUE, GREEN = VersionKey("iris", "blue"), VersionKey("iris", "green")


def decision(
    at_s: float = 1.0, key: VersionKey = BLUE, direction: Direction = Direction.UP, desired: int = 2
) -> Decision:
    seen = Observation(busy_mean=1.5, busy=1, waiting=2, total_slots=1, complete=True)
    return Decision(key, at_s, 1, desired, desired, direction, "demand", "because", seen, 3.5)


def test_the_newest_records_come_last_over_all_versions() -> None:
    log = DecisionLog()
    for at, key in ((1.0, BLUE), (3.0, BLUE), (2.0, GREEN), (4.0, GREEN)):
        log.add(decision(at, key), at)
    assert [record.at for record in log.last([BLUE, GREEN], 3)] == [2.0, 3.0, 4.0]
    assert [record.at for record in log.last([GREEN], 20)] == [2.0, 4.0]
    assert log.last([BLUE], 0) == []


def test_the_ring_of_a_version_is_bounded_and_others_are_untouched() -> None:
    log = DecisionLog(per_version=3)
    log.add(decision(0.0, GREEN), 0.0)
    for at in range(10):
        log.add(decision(float(at)), float(at))
    assert [record.at for record in log.last([BLUE], 20)] == [7.0, 8.0, 9.0]
    assert len(log.last([GREEN], 20)) == 1


def test_the_time_of_the_providers_call_is_kept_in_either_order() -> None:
    log = DecisionLog()
    log.add(decision(1.0), 100.0)
    log.acted(decision(1.0), 100.2)
    log.acted(decision(2.0), 101.2)
    log.add(decision(2.0), 101.0)
    log.add(decision(3.0), 102.0)
    assert [record.acted_at for record in log.last([BLUE], 9)] == [100.2, 101.2, None]


def test_decisions_are_counted_by_direction_until_the_version_is_gone() -> None:
    log = DecisionLog()
    for direction in (Direction.UP, Direction.UP, Direction.DOWN):
        log.add(decision(direction=direction), 0.0)
    log.add(decision(key=GREEN), 0.0)
    assert log.counts() == {(BLUE, Direction.UP): 2, (BLUE, Direction.DOWN): 1, (GREEN, Direction.UP): 1}
    log.forget(BLUE)
    assert log.counts() == {(GREEN, Direction.UP): 1}
    assert log.last([BLUE], 20) == []


def test_a_record_is_shown_with_its_inputs_rule_and_outcome() -> None:
    log = DecisionLog()
    log.add(decision(), 100.0)
    assert to_answer(log.last([BLUE], 1)[0]).document() == {
        "at": 100.0,
        "actedAt": None,
        "version": "blue",
        "previous": 1,
        "desired": 2,
        "wanted": 2,
        "direction": "up",
        "rule": "demand",
        "reason": "because",
        "outcome": "",
        "demand": 3.5,
        "busy": 1,
        "busyMean": 1.5,
        "waiting": 2,
        "totalSlots": 1,
    }
