"""The iris example: its model answers right, and explains wrong input."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples/iris"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"iris_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = load("train")
    vars(train)["FOLDER"] = tmp_path_factory.mktemp("models")
    train.main()
    return Path(train.FOLDER)


@pytest.fixture(params=["blue", "green"])
def scorer(request: pytest.FixtureRequest, models: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(models / request.param / "1"))
    module = load("score")
    module.init()
    return module


def test_both_models_know_the_sample(scorer: ModuleType) -> None:
    answer = scorer.run((EXAMPLE / "sample.json").read_text())
    assert answer["predictions"] == ["setosa", "virginica"]
    assert [round(sum(row.values()), 3) for row in answer["probabilities"]] == [1, 1]
    json.dumps(answer)


WRONG_ROWS = [
    "1",
    "null",
    "[]",
    "[[1, 2, 3]]",
    '[["a", 2, 3, 4]]',
    "[[1, 2], [3]]",
    "[[NaN, 2, 3, 4]]",
    "[[[1, 2, 3, 4]]]",
]


@pytest.mark.parametrize("data", ["", "[]", "{}", *(f'{{"data": {rows}}}' for rows in WRONG_ROWS)])
def test_bad_input_is_a_400_with_the_expected_form(scorer: ModuleType, data: str) -> None:
    answer: Any = scorer.run(data)
    assert answer.status_code == 400
    assert "send" in answer.get_json()["error"]
