"""Failed requests that a worker keeps."""

from typing import Any

from router.recent_failures import MOST_RECORDS, PER_STATUS, RecentFailures


def record(
    number: int, status: int = 502, version: str = "blue", endpoint: str = "iris", **more: Any
) -> dict[str, Any]:
    return {
        "time": float(number),
        "id": f"id-{number}",
        "clientId": "mine",
        "method": "POST",
        "path": "/api/v1/service/iris/score",
        "endpoint": endpoint,
        "version": version,
        "replica": "iris-blue-1",
        "status": status,
        "code": "ModelError",
        "seconds": 0.5,
        "waited": 0.1,
        **more,
    }


def test_the_newest_come_first_of_this_endpoint_only() -> None:
    failures = RecentFailures()
    for number in range(3):
        failures.add(record(number, rule="a broken rule"))
        failures.add(record(number, endpoint="other"))
        failures.add(record(number, endpoint=""))
    found = failures.of("iris", 2)
    assert [each.request_id for each in found] == ["id-2", "id-1"]
    assert (found[0].rule, found[0].waited_s, found[0].client_request_id) == ("a broken rule", 0.1, "mine")
    assert failures.of("", 9) == []


def test_a_flood_of_refusals_displaces_no_failure_of_the_model() -> None:
    failures = RecentFailures()
    failures.add(record(0))
    for number in range(1, 10_000):
        failures.add(record(number, status=401, version=""))
    found = failures.of("iris", 10_000)
    assert len(found) == PER_STATUS + 1 and found[-1].request_id == "id-0"


def test_the_number_is_bounded_over_all_endpoints() -> None:
    failures = RecentFailures()
    for number in range(5 * MOST_RECORDS):
        failures.add(record(number, endpoint=f"e{number % (2 * MOST_RECORDS)}"))
    assert sum(len(failures.of(f"e{number}", 100)) for number in range(2 * MOST_RECORDS)) == MOST_RECORDS


def test_a_removed_version_takes_its_failures_along() -> None:
    failures = RecentFailures()
    for status in (502, 503):
        failures.add(record(1, status=status))
        failures.add(record(2, status=status, version="green"))
    failures.forget("iris", "blue")
    assert {each.version for each in failures.of("iris", 9)} == {"green"}
