"""Legacy keys and environments of an inferenceconfig: honoured, or dropped with a note each."""

from typing import Any

import pytest

from serving.inferenceconfig import (
    conda_file_of,
    from_inferenceconfig,
    inferenceconfig_notes,
    packages_of,
    wants_gpu,
)

LEGACY: dict[str, Any] = {
    **{"entryScript": "score.py", "runtime": "python", "condaFile": "env.yml", "extraDockerfileSteps": "steps"},
    **{"schemaFile": "schema.json", "sourceDirectory": ".", "enableGpu": True, "baseImage": "img", "cudaVersion": "10"},
    "baseImageRegistry": {"address": "r.example", "password": "s3cret"},
}
CONDA = {
    "name": "e",
    "dependencies": ["python=3.8", "numpy=1.18.5", "pip", {"pip": ["scikit-learn==0.22", "azureml-defaults>=1.0.45"]}],
}


def notes(config: dict[str, Any], conda: object = None) -> dict[str, str]:
    return dict(note.split(": ", 1) for note in inferenceconfig_notes(config, conda))


def test_each_legacy_key_is_honoured_or_has_a_note_and_no_secret_is_shown() -> None:
    assert from_inferenceconfig(LEGACY) == {"entryScript": "score.py", "sourceDirectory": "."}
    assert notes(LEGACY).keys() == LEGACY.keys() - {"entryScript", "sourceDirectory"}
    assert "s3cret" not in str(notes(LEGACY))
    assert wants_gpu(LEGACY) and conda_file_of(LEGACY) == "env.yml"


def test_nulls_and_empty_values_of_legacy_files_mean_nothing() -> None:
    empty = {**dict.fromkeys(LEGACY), "entryScript": "score.py", "enableGpu": False}
    assert from_inferenceconfig(empty) == {"entryScript": "score.py"}
    assert notes(empty).keys() == {"enableGpu"} and not wants_gpu(empty) and conda_file_of(empty) is None


def test_packages_to_install_are_listed_without_those_that_scorefront_stands_in_for() -> None:
    assert packages_of(CONDA) == ["python==3.8", "numpy==1.18.5", "scikit-learn==0.22"]
    for config in ({"condaFile": "env.yml"}, {"environment": {"python": {"condaDependencies": CONDA}}}):
        (note,) = notes({"entryScript": "score.py", **config}, CONDA).values()
        assert "install numpy==1.18.5, scikit-learn==0.22 into" in note and "azureml-defaults" not in note


@pytest.mark.parametrize("conda", [None, [], {"dependencies": None}, {"dependencies": [5, {"pip": "x"}]}])
def test_a_conda_file_of_another_form_has_no_packages(conda: object) -> None:
    assert packages_of(conda) == []


def test_a_named_environment_is_named() -> None:
    config = {"entryScript": "score.py", "environment": "AzureML-sklearn-0.24"}
    assert from_inferenceconfig(config) == {"entryScript": "score.py"}
    assert "AzureML-sklearn-0.24" in notes(config)["environment"]


def test_variables_that_scorefront_sets_are_dropped_and_the_text_of_others_stays_what_it_was() -> None:
    given = {"WORKER_COUNT": "4", "A": "${HOME}", "N": 5}
    config = {"entryScript": "a\\score.py", "environment": {"environmentVariables": given, "docker": {}}}
    replica = from_inferenceconfig(config)
    assert replica == {"entryScript": "a/score.py", "env": {"A": "$${HOME}", "N": "5"}}
    found = notes(config)
    assert "maxConcurrentRequestsPerContainer" in found["environment.environmentVariables.WORKER_COUNT"]
    assert "environment.docker" in found
