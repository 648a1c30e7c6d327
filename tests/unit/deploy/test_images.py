"""The images: built from locked packages, without those only for tests, tools or models."""

import ast
import importlib.machinery
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from scorefront.build_kind import build_kind
from tests.test_architecture import PACKAGES

ROOT = Path(__file__).parents[3]
TOOLS = {"pip", "setuptools", "wheel", "pytest", "mypy", "ruff", "hypothesis"}
REPLICAS = {"scikit-learn", "scipy", "flask", "gunicorn", "azureml-inference-server-http"}


def lock_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_lock", ROOT / "deploy/image/lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCKERFILES = ("Dockerfile", "deploy/loadtest/Dockerfile", "examples/iris/Dockerfile")
LOCK = lock_tool()
MADE_UP = """\
alpha==1 \\
    --hash=sha256:aa
beta==2 \\
    --hash=sha256:bb
gamma-x==3 \\
    --hash=sha256:cc

# a remark
delta==4 \\
    --hash=sha256:dd
"""
REQUIRES = {
    "alpha": ['Beta[fast]>=1; python_version >= "3.11"', 'delta; sys_platform == "win32"', 'delta; extra == "more"'],
    "beta": ['gamma.x; extra == "fast"'],
}


def test_the_lock_files_of_the_images_are_current() -> None:
    for path, text in LOCK.current().items():
        assert (ROOT / path).read_text() == text, f"{path}: run python deploy/image/lock.py"


def test_the_image_has_neither_tools_nor_packages_of_replicas() -> None:
    names = set(LOCK.blocks((ROOT / "deploy/image/runtime.lock").read_text()))
    assert names >= {"aiohttp", "uvloop", "httptools", "msgspec", "typer"}
    assert not names & (TOOLS | REPLICAS)


def test_requirements_follow_extras_and_markers() -> None:
    assert LOCK.closure(["alpha"], lambda name: REQUIRES.get(name, ())) == {"alpha", "beta", "gamma-x"}


def test_a_lock_file_keeps_every_version_and_hash() -> None:
    text = LOCK.subset(MADE_UP, {"gamma-x", "delta"})
    assert re.findall(r"^(\S+==\d+)", text, re.MULTILINE) == ["delta==4", "gamma-x==3"]
    assert re.findall(r"sha256:(\w+)", text) == ["dd", "cc"]


def test_a_requirement_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(KeyError):
        LOCK.subset(MADE_UP, {"epsilon"})


@pytest.mark.parametrize("file", DOCKERFILES)
def test_copied_files_exist_and_are_not_ignored(file: str) -> None:
    text = (ROOT / file).read_text()
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert any(source == each or source.startswith(f"{each}/") for each in let_through), source


def test_every_package_is_in_the_image() -> None:
    copied = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert copied >= set(PACKAGES)


@pytest.mark.parametrize("file", DOCKERFILES)
def test_an_image_does_not_run_as_root(file: str) -> None:
    final = (ROOT / file).read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in final
    assert final.index("USER ") < final.index("ENTRYPOINT ")


def test_the_image_has_the_hot_modules_compiled_and_an_installation_by_pip_has_not() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "SCOREFRONT_COMPILE=1 /opt/build/bin/pip wheel" in dockerfile
    assert "mypy" in LOCK.blocks((ROOT / "deploy/image/build.lock").read_text())
    assert "mypy" not in (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[0]


def to_compile() -> set[str]:
    found = re.search(r"^COMPILED = \(\n(.+?)^\)", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return set(re.findall(r'"(\w+)"', found[1]))


def test_every_module_to_compile_exists_once() -> None:
    for name in to_compile():
        places = [folder / f"{name}.py" for folder in (ROOT / "router", ROOT / "router/core", ROOT / "router/proxy")]
        assert sum(place.exists() for place in places) == 1, name


def test_a_subclass_of_a_compiled_class_is_compiled_because_an_interpreted_one_may_not_be() -> None:
    bases = {
        node.name: (path.stem, [ast.unparse(base) for base in node.bases])
        for path in (ROOT / "router").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    compiled = {name for name, (module, _) in bases.items() if module in to_compile()}
    assert {"Downstream", "Exchange", "UpstreamConnection"} <= compiled
    assert {name for name, (_, named) in bases.items() if not compiled.isdisjoint(named)} <= compiled


def test_the_version_names_the_kind_of_build(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_kind() == "pure Python"
    compiled = importlib.machinery.ModuleSpec("router.write_batch", None, origin="router/write_batch.abi.so")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: compiled)
    assert build_kind() == "compiled"
