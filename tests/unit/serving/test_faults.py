"""Text form of faults."""

from typing import Any

import pytest

from serving.faults import Fault, InvalidManifest, shown, written


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "(document)"),
        (("spec", "versions", 0, "trafficPercentile"), "spec.versions[0].trafficPercentile"),
        (("metadata", "labels", "app.example"), "metadata.labels.app.example"),
        (("spec", "a b"), "spec['a b']"),
        (("spec", "line\nbreak"), "spec['line\\nbreak']"),
        ((7,), "[7]"),
    ],
)
def test_a_path_is_written_as_a_user_would(path: Any, text: str) -> None:
    assert written(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), (5, "5"), ("5", "'5'"), ("a\nb", "'a\\nb'"), (0.5, "0.5")],
)
def test_a_value_is_shown_on_one_line(value: bool | float | str | None, text: str) -> None:
    assert shown(value) == text


def test_a_number_too_long_to_print_is_shown_by_its_type() -> None:
    assert shown(10**5000) == "<int>"


def test_a_long_deep_or_endless_value_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in ("x" * 1000, list(range(1000)), endless, {"a": endless}):
        assert len(shown(value)) <= 80


def test_an_error_has_one_line_for_each_fault_after_the_source() -> None:
    faults = (Fault("spec", None, "is required"), Fault("kind", "x\ny", "must be ScoringEndpoint"))
    lines = ["spec: is required (got nothing)", "kind: must be ScoringEndpoint (got 'x\\ny')"]
    assert str(InvalidManifest(faults)).split("\n") == lines
    assert str(InvalidManifest(faults, "a.yaml")).split("\n") == [f"a.yaml: {line}" for line in lines]
