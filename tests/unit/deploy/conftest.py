"""The output of `kubectl` and `helm` for deploy/, if this machine has them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "scorefront"
Objects = dict[tuple[str, str], dict[str, Any]]
"""(kind, name) -> object; the name of one that is elsewhere is `namespace/name`."""
HOME = "scorefront"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C if it was built: ten times as fast."""


def objects(text: str) -> Objects:
    found = [each for each in yaml.load_all(text, Loader=LOADER) if each]
    named = {(each["kind"], _name(each["metadata"])): each for each in found}
    assert len(named) == len(found), "two objects of one kind and name"
    return named


def _name(metadata: dict[str, Any]) -> str:
    namespace = metadata.get("namespace", HOME)
    return metadata["name"] if namespace == HOME else f"{namespace}/{metadata['name']}"


@cache
def _run(*command: str) -> str:
    environment = {**os.environ, "HELM_DEBUG": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def build() -> Callable[[Path], Objects]:
    """Renders the kustomization of a folder."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    return lambda folder: objects(_run(kubectl, "kustomize", str(folder)))


@pytest.fixture
def overlay(build: Callable[[Path], Objects]) -> Callable[[str], Objects]:
    """Renders one overlay."""
    return lambda name: build(ROOT / "deploy" / "overlays" / name)


@pytest.fixture
def chart() -> Callable[..., Objects]:
    """Renders the chart, with further arguments of `helm template`."""
    helm = os.environ.get("HELM") or shutil.which("helm")
    if helm is None:
        pytest.skip("needs helm, in PATH or named by HELM")
    return lambda *arguments: objects(
        _run(helm, "template", "scorefront", str(CHART), "--namespace", HOME, "--include-crds", *arguments)
    )
