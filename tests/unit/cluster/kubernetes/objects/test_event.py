"""Events that people read."""

from typing import Any

import pytest

from cluster.kubernetes.objects.event import EventType, event, micro_time, repeated

NOW = "2026-01-02T03:04:05Z"
ABOUT: dict[str, Any] = {
    "apiVersion": "scorefront.io/v1alpha1",
    "kind": "ScoringEndpoint",
    "metadata": {"name": "iris", "namespace": "home", "uid": "u-1", "resourceVersion": "5"},
}


def told(note: str = "no room for 2 replicas", **changes: Any) -> dict[str, Any]:
    return event(changes.get("about", ABOUT), EventType.WARNING, "NoRoom", note, NOW)


def test_an_event_has_its_subject() -> None:
    made = told()
    assert made["regarding"] == {
        **{"apiVersion": "scorefront.io/v1alpha1", "kind": "ScoringEndpoint"},
        **{"name": "iris", "namespace": "home", "uid": "u-1"},
    }
    assert made["metadata"]["namespace"] == "home"
    assert (made["type"], made["reason"], made["note"]) == ("Warning", "NoRoom", "no room for 2 replicas")


def test_the_same_words_make_the_same_event_and_others_another() -> None:
    name = told()["metadata"]["name"]
    assert name == told()["metadata"]["name"]
    assert name != told("no room for 3 replicas")["metadata"]["name"]
    reborn = {**ABOUT, "metadata": {**ABOUT["metadata"], "uid": "u-2"}}
    assert name != told(about=reborn)["metadata"]["name"]


def test_a_repeated_event_is_counted() -> None:
    once = told()
    twice = repeated(once, NOW)
    assert twice["series"]["count"] == 2
    assert repeated({**once, **twice}, NOW)["series"]["count"] == 3


@pytest.mark.parametrize("note", ["x" * 2000, "é" * 2000, "…" * 341 + "ab"])
def test_a_long_note_is_cut_to_the_limit_of_the_api(note: str) -> None:
    cut = told(note)["note"]
    assert len(cut.encode()) <= 1024
    assert cut.endswith("…") and cut[:300] == note[:300]


def test_a_note_that_fits_is_kept() -> None:
    assert told("x" * 1024)["note"] == "x" * 1024


@pytest.mark.parametrize(
    ("now", "written"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.500000Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.123456+00:00", "2026-01-02T03:04:05.123456Z"),
    ],
)
def test_a_time_has_six_decimals(now: str, written: str) -> None:
    assert micro_time(now) == written
