"""Environments and their packages."""

from pathlib import Path

import pytest

from scorefront.sdk import CondaDependencies, Environment
from scorefront.sdk.environment import environment_of
from scorefront.sdk.exceptions import UserErrorException


def test_packages_replace_those_of_the_same_name() -> None:
    packages = CondaDependencies.create(pip_packages=["Scikit_Learn==1.4", "numpy"], conda_packages=["scipy=1.1"])
    packages.add_pip_package("scikit-learn==1.5")
    packages.add_conda_package("scipy=1.2")
    packages.set_python_version("3.11")
    packages.set_python_version("3.12")
    assert packages.pip_packages == ["numpy", "scikit-learn==1.5"]
    assert packages.conda_packages == ["scipy=1.2", "python=3.12"]
    assert packages.get_python_version() == "3.12"


def test_a_conda_file_survives_a_round_trip(tmp_path: Path) -> None:
    packages = CondaDependencies.create(pip_packages=["numpy"], python_version="3.11", pip_indexurl="https://index")
    packages.add_channel("conda-forge")
    again = CondaDependencies(packages.save(tmp_path / "conda.yml"))
    assert again.as_dict() == packages.as_dict()
    assert again.pip_options == ["--index-url https://index"] and again.conda_channels == ["conda-forge"]


def test_an_environment_survives_a_round_trip(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# packages\nnumpy==2.0  # arrays\n\nscipy\n")
    made = Environment.from_pip_requirements("science", tmp_path / "requirements.txt")
    made.environment_variables["MODE"] = "fast"
    made.save_to_directory(tmp_path / "kept")
    again = Environment.load_from_directory(tmp_path / "kept")
    assert again.as_dict() == made.as_dict() == environment_of(made.as_dict()).as_dict()
    assert again.python.conda_dependencies.pip_packages == ["numpy==2.0", "scipy"]
    assert made.clone("other").name == "other"


@pytest.mark.parametrize("text", ["dependencies: {}\n", "- a\n", "a: [\n", "dependencies: [{pip: x}]\n"])
def test_an_invalid_conda_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "conda.yml").write_text(text)
    with pytest.raises(UserErrorException, match=r"conda\.yml"):
        CondaDependencies(tmp_path / "conda.yml")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserErrorException, match=r"none\.yml.*No such file"):
        Environment.from_conda_specification("a", tmp_path / "none.yml")
    with pytest.raises(UserErrorException, match=r"none\.txt.*No such file"):
        Environment.from_pip_requirements("a", tmp_path / "none.txt")


def test_an_environment_on_an_image_has_the_packages_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / "conda.yml").write_text("dependencies: [scipy]\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    made = Environment.from_docker_image("a", "registry/image:1", pip_requirements=tmp_path / "requirements.txt")
    assert made.as_dict()["docker"]["baseImage"] == "registry/image:1"
    assert made.python.conda_dependencies.pip_packages == ["numpy"]
    made = Environment.from_dockerfile("a", tmp_path / "Dockerfile", conda_specification=tmp_path / "conda.yml")
    assert made.as_dict()["docker"]["baseDockerfile"] == "FROM scratch\n"
    assert made.python.conda_dependencies.conda_packages == ["scipy"]
    with pytest.raises(UserErrorException, match="at most one of them"):
        Environment.from_dockerfile("a", "FROM scratch\n", tmp_path / "conda.yml", tmp_path / "requirements.txt")


def test_reserved_names_are_refused() -> None:
    with pytest.raises(UserErrorException, match="name: must be text"):
        Environment("Microsoft-Minimal")
