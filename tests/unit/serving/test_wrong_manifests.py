"""Every wrong manifest is refused with exactly the faults it has."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.faults import InvalidManifest
from serving.manifest import parse

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "data" / "wrong_manifests.yaml").read_text(encoding="utf-8")
)
JARGON = (
    "pydantic",
    "Input should",
    "input_value",
    "https://errors.pydantic",
    "validation error",
    "Traceback",
    "Annotated",
    "None",
)


def test_there_are_at_least_sixty_wrong_manifests_under_different_names() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_wrong_manifest_is_refused_with_each_of_its_faults(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        parse(case["manifest"], subject="wrong.yaml")
    expected = sorted((fault["path"], fault["rule_contains"]) for fault in case["faults"])
    found = sorted((fault.path, fault.rule) for fault in refusal.value.faults)
    assert [path for path, _ in found] == [path for path, _ in expected], str(refusal.value)
    for (path, rule), (_, words) in zip(found, expected, strict=True):
        assert words in rule, path
    assert refusal.value.subject == "wrong.yaml"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_message_speaks_the_language_of_the_manifest(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        parse(case["manifest"])
    message = str(refusal.value)
    assert not [word for word in JARGON if word in message], message
    assert "not-to-be-shown" not in message
    assert len(message.splitlines()) == len(refusal.value.faults), "one line for each fault"
