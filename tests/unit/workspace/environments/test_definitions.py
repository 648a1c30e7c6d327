"""Definitions of environments: canonical form, key, faults."""

from typing import Any

import pytest

from serving.faults import InvalidManifest
from workspace.environments.definitions import from_conda, from_definition, from_requirements
from workspace.environments.install_plan import HOST_PACKAGE, install_plan
from workspace.environments.spec import EnvironmentSpec


def conda(*packages: Any, pip: list[str] | None = None, **keys: Any) -> EnvironmentSpec:
    return from_conda({"dependencies": [*packages, *([{"pip": pip}] if pip else [])], **keys})


def v1(dependencies: list[Any], **keys: Any) -> dict[str, Any]:
    return {"name": "e", "version": "1", "python": {"condaDependencies": {"dependencies": dependencies}}, **keys}


SAME = [
    ("Scikit_Learn == 1.4.0", "scikit-learn==1.4"),
    ("numpy >=1.24 , <2", "numpy<2,>=1.24.0"),
    ("uvicorn[Standard, http2]", "uvicorn[http2,standard]"),
    ("pandas==2.0 ; python_version<'3.12'", 'pandas==2.0.0; python_version < "3.12"'),
    ("six # why", "six"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_a_requirement_share_a_key(one: str, other: str) -> None:
    assert from_requirements(one).key == from_requirements(other).key


@pytest.mark.parametrize(
    ("one", "other"), [("a==1.0", "a==1.1"), ("a~=1.0", "a~=1.0.0"), ("a==1.*", "a==1"), ("a", "b"), ("a", "a[x]")]
)
def test_different_requirements_have_different_keys(one: str, other: str) -> None:
    assert from_requirements(one).pip != from_requirements(other).pip


def test_order_names_versions_and_variables_do_not_change_the_key() -> None:
    one = v1(["python=3.11", "pandas", {"pip": ["b==1", "A"]}], environmentVariables={"X": "1"})
    other = v1([{"pip": ["a", "B==1.0"]}, "pandas", "python=3.11"], name="other", version="7")
    assert from_definition(one).key == from_definition(other).key
    assert from_definition(one).variables == {"X": "1"}
    assert from_definition(v1(["python=3.10", "pandas"])).key != from_definition(v1(["python=3.11", "pandas"])).key


def test_the_image_below_is_part_of_the_key() -> None:
    one = from_definition(v1(["pandas"], docker={"baseImage": "ubuntu:22.04"}))
    assert one.key != from_definition(v1(["pandas"])).key


@pytest.mark.parametrize(
    ("package", "requirement"),
    [
        *(("numpy=1.26", "numpy==1.26.*"), ("numpy==1.26.4", "numpy==1.26.4"), ("numpy 1.26", "numpy==1.26")),
        *(("numpy>=1.24,<2", "numpy<2,>=1.24"), ("conda-forge::Numpy", "numpy"), ("numpy=1.26.*", "numpy==1.26.*")),
        *(("numpy=1.26.4=py311h1_0", "numpy==1.26.4"), ("pytorch=2.1", "torch==2.1.*"), ("numpy=*", "numpy")),
        *(
            ("numpy[version='>=1.24']", "numpy>=1.24"),
            ("opencv", "opencv-python-headless"),
            ("numpy 1.2 py_0", "numpy==1.2"),
        ),
    ],
)
def test_packages_of_conda_become_requirements_of_pip(package: str, requirement: str) -> None:
    assert install_plan(conda(package)).lines == (requirement, HOST_PACKAGE)


def test_packages_without_python_code_are_left_out_with_a_note() -> None:
    plan = install_plan(conda("cudatoolkit=11.3", "pip=20", "six", channels=["conda-forge"]))
    assert plan.lines == ("six", HOST_PACKAGE)
    assert any("cudatoolkit=11.3" in note for note in plan.notes) and any("conda-forge" in note for note in plan.notes)


@pytest.mark.parametrize("package", ["azureml-defaults", "azureml_core==1.20", "azureml-inference-server-http==0.7"])
def test_packages_of_azure_are_satisfied(package: str) -> None:
    plan = install_plan(conda(pip=[package, "six"]))
    assert plan.lines == ("six", HOST_PACKAGE) and any("satisfied by scorefront" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("package", "release"),
    [("python=3.8", "3.8"), ("python==3.9.18", "3.9.18"), ("python>=3.9,<3.12", "3.9"), ("python", ""), ("six", "")],
)
def test_the_release_of_python_is_read(package: str, release: str) -> None:
    assert conda(package).python == release


def test_options_of_pip_are_kept_in_order() -> None:
    spec = conda(pip=["--extra-index-url https://b/simple", "-i=https://a/simple", "--pre", "z", "a"])
    assert spec.pip == ("--extra-index-url https://b/simple", "--index-url https://a/simple", "--pre", "a", "z")
    plan = install_plan(spec)
    assert plan.allow_prereleases and "--pre" not in plan.lines


def test_user_managed_environments_name_their_interpreter() -> None:
    python = {"userManagedDependencies": True, "interpreterPath": "/opt/venv/bin/python", "condaDependencies": "x"}
    spec = from_definition({"name": "e", "python": python})
    assert spec.user_managed and spec.interpreter == "/opt/venv/bin/python" and not spec.pip


WRONG: list[tuple[Any, str]] = [
    (v1(["numpy=1.2|1.3"]), "environment.python.condaDependencies.dependencies[0]"),
    (v1([{"pip": ["not a requirement"]}]), "environment.python.condaDependencies.dependencies[0].pip[0]"),
    (v1([{"pip": ["./here.whl"]}]), "is a path of the client"),
    (v1([{"pip": ["-r other.txt"]}]), "is a path of the client"),
    (v1([{"pip": ["--unknown"]}]), "--index-url"),
    (v1([{"pip": ["--index-url"]}]), "needs a value"),
    (v1([7]), "must be a package"),
    (v1(["python=abc"]), "must have a version"),
    ({"name": ["x"]}, "environment.name"),
    ("text", "environment: must be a mapping"),
    (v1(["six"], environmentVariables={"A": True}), "environment.environmentVariables.A"),
]


@pytest.mark.parametrize(("definition", "said"), WRONG)
def test_wrong_definitions_are_refused_with_their_place(definition: Any, said: str) -> None:
    with pytest.raises(InvalidManifest) as refusal:
        from_definition(definition)
    assert said in str(refusal.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidManifest) as refusal:
        from_definition(v1(["a|b c d", {"pip": ["x y z", "ok"]}, 3]))
    assert len(refusal.value.faults) == 3


def test_unknown_keys_of_a_conda_file_are_refused() -> None:
    with pytest.raises(InvalidManifest, match="dependancies"):
        from_conda({"dependancies": ["six"]})


def test_lines_of_requirements_are_joined_and_numbered() -> None:
    assert from_requirements("six \\\n  ==1.16\n\n# no\nattrs # yes\n").pip == ("attrs", "six==1.16")
    with pytest.raises(InvalidManifest, match=r"r.txt, line 3: .*got 'b c'"):
        from_requirements("six\n\nb c\n", "r.txt")


@pytest.mark.parametrize(
    "line",
    [
        "--find-links https://pypi.python.org/simple/index.html",
        "--extra-index-url https://pypi.python.org/simple",
        "--extra-index-url=https://pypi.org/simple/",
    ],
)
def test_options_that_the_sdk_writes_into_every_definition_change_nothing(line: str) -> None:
    def spec(*lines: str) -> EnvironmentSpec:
        return from_definition({"python": {"condaDependencies": {"dependencies": [{"pip": [*lines, "numpy"]}]}}})

    assert spec(line).pip == ("numpy",)
    assert spec(line).key == spec().key
    assert spec("--extra-index-url https://wheels.example.com/simple").key != spec().key
