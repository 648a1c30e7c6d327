"""One sentence of advice for each known error of a scoring script."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.local.script_advice import advice

PYTHON = "/venv/bin/python"


def error_of(act: Callable[[], object]) -> BaseException:
    """The error that `act` raises."""
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("no error")


def said(error: BaseException, cwd: str = "/src", **environ: str) -> str:
    return advice(error, environ, cwd, PYTHON) or ""


def test_a_missing_package_is_named_as_pip_knows_it_with_the_command() -> None:
    error = error_of(lambda: __import__("skimage.io"))
    assert f"{PYTHON} -m pip install scikit-image" in said(error)
    assert "pip install no-such-thing" in said(error_of(lambda: __import__("no_such_thing")))


def test_a_missing_part_of_the_azure_sdk_is_its_package() -> None:
    error = ModuleNotFoundError("No module named 'azureml.train'", name="azureml.train")
    assert "pip install azureml-core" in said(error) and "get_model_path" in said(error)


def test_a_module_in_another_folder_of_the_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "features.py").touch()
    error = ModuleNotFoundError("No module named 'features'", name="features")
    assert str(tmp_path / "lib") in said(error, AML_APP_ROOT=str(tmp_path))


def test_a_file_that_is_not_in_the_model_folder_is_told_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").touch()
    error = error_of((tmp_path / "m.pkl").read_bytes)
    assert "a.pkl" in said(error, AZUREML_MODEL_DIR=str(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "m.pkl").touch()
    assert str(tmp_path / "1" / "m.pkl") in said(error, AZUREML_MODEL_DIR=str(tmp_path))


def test_a_file_beside_the_script_is_told_from_one_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    error = FileNotFoundError(2, "No such file", "./m.onnx")
    assert "__file__" in said(error, AZUREML_ENTRY_SCRIPT=str(tmp_path / "score.py"))
    assert "modelDir" in said(error, AZUREML_ENTRY_SCRIPT="/elsewhere/score.py")
    azure = FileNotFoundError(2, "No such file", "azureml-models/m/1/m.onnx")
    assert "Azure's containers" in said(azure, AZUREML_MODEL_DIR="/models")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: os.path.join(None, "m.pkl"), "modelDir"),  # type: ignore[call-overload]
        (lambda: os.environ["AZUREML_MODEL_DIR"], "modelDir"),
        (lambda: os.environ["MY_SETTING"], '"${MY_SETTING}"'),
        (lambda: json.dumps({1, 2}), "set, which is not JSON"),
        (lambda: pickle.loads(b"\x80\x63."), "another version"),
    ],
)
def test_known_errors_have_a_sentence(act: Callable[[], object], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZUREML_MODEL_DIR", raising=False)
    assert words in said(error_of(act))


def test_a_script_without_run_is_told_what_it_must_define() -> None:
    error = RuntimeError("User script at /x/score.py does not have a run() function defined.")
    assert "init() and run(data)" in said(error) and "command" in said(error)


def test_other_errors_speak_for_themselves() -> None:
    assert said(ValueError("bad input")) == "" and said(KeyError("column")) == ""


def test_the_error_of_the_user_is_looked_at_below_that_of_the_server() -> None:
    outer = RuntimeError("Caught an unhandled exception from the user script")
    outer.user_ex = KeyError("column")  # type: ignore[attr-defined]
    assert said(outer) == ""
    outer.user_ex = ModuleNotFoundError("No module named 'cv2'", name="cv2")  # type: ignore[attr-defined]
    assert "opencv-python-headless" in said(outer)
