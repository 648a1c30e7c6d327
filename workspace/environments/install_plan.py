"""From the definition of an environment to the requirements of one virtual environment, with notes. Pure."""

from dataclasses import dataclass

from workspace.environments.conda_packages import parse_conda, pip_requirement
from workspace.environments.requirement_lines import requirement_name
from workspace.environments.spec import EnvironmentSpec

HOST_PACKAGE = "azureml-inference-server-http"
"""The server that hosts the script; in every environment."""
SATISFIED = frozenset(
    {
        *("azureml-defaults", "azureml-core", "azureml-contrib-services", "azureml-monitoring"),
        *(HOST_PACKAGE, "azureml-model-management-sdk"),
    }
)
"""Packages that scorefront stands in for in replicas."""


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """Requirements to install, for one release of Python."""

    python: str
    """Release; "": any."""
    lines: tuple[str, ...]
    """Of a requirements file: options and requirements."""
    allow_prereleases: bool
    notes: tuple[str, ...]
    """Differences to the definition, for the log."""


def install_plan(spec: EnvironmentSpec) -> InstallPlan:
    """The plan for a definition that is not user-managed."""
    notes: list[str] = []
    lines: list[str] = []
    if spec.channels:
        notes.append(f"channels of conda ({', '.join(spec.channels)}) are not used: packages come from PyPI")
    for text in spec.conda:
        package = parse_conda(text)
        requirement = pip_requirement(package)
        if requirement is None:
            notes.append(f"{text}: left out: no Python package")
            continue
        if package.build:
            notes.append(f"{text}: the build {package.build} is of conda; the package comes from PyPI")
        if requirement_name(requirement) != package.name.replace("_", "-").replace(".", "-"):
            notes.append(f"{text}: on PyPI it is {requirement}")
        lines.append(requirement)
    lines += spec.pip
    kept = []
    for line in lines:
        if (name := requirement_name(line)) in SATISFIED:
            notes.append(f"{line}: satisfied by scorefront" if name != line else f"{name}: satisfied by scorefront")
        elif line != "--pre":
            kept.append(line)
    if spec.docker.dockerfile:
        notes.append("docker steps are not run: no image is built on one machine")
    return InstallPlan(spec.python, (*kept, HOST_PACKAGE), "--pre" in lines, tuple(notes))
