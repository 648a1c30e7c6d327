"""Definitions of environments as users write them: JSON of Azure ML v1, conda YAML, requirements. Pure.

Every function raises InvalidManifest with all faults, each with its path.
"""

import re
from collections.abc import Mapping
from typing import Any

from serving.faults import Fault, InvalidManifest, Path, shown, written
from workspace.environments.conda_packages import CondaPackage, InvalidCondaPackage, parse_conda, python_release
from workspace.environments.requirement_lines import (
    EDITABLE,
    LOCAL_PATH,
    InvalidLine,
    canonical_line,
    logical_lines,
    sorted_lines,
    split_option,
)
from workspace.environments.spec import DockerSection, EnvironmentSpec

CONDA_KEYS = ("name", "channels", "dependencies", "prefix", "variables", "platforms")
MAX_PACKAGES = 1000
PYPI = re.compile(r"https?://pypi\.(?:python\.)?org/simple(?:/index\.html|/)?$")
OF_A_CLIENT = "is a path of the client; register the package as a wheel on an index, or put it beside the script"


def from_definition(document: object, path: Path = ("environment",)) -> EnvironmentSpec:
    """An Environment of Azure ML v1 in its JSON.

    document: with `name`, `version`, `environmentVariables`, `python`, `docker`; unknown keys have no effect.
    path: of it, for faults.
    """
    faults: list[Fault] = []
    content = _mapping(document, path, faults)
    python = _mapping(content.get("python"), (*path, "python"), faults)
    docker = _mapping(content.get("docker"), (*path, "docker"), faults)
    variables = _variables(content.get("environmentVariables"), (*path, "environmentVariables"), faults)
    at = (*path, "python", "condaDependencies")
    user_managed = python.get("userManagedDependencies") is True
    declared = None if user_managed else python.get("condaDependencies")
    parsed = EnvironmentSpec() if declared is None else _conda(declared, at, faults, of_client=True)
    texts = {name: _text(content.get(name), (*path, name), faults, plain_number=True) for name in ("name", "version")}
    interpreter = _text(python.get("interpreterPath"), (*path, "python", "interpreterPath"), faults)
    spec = EnvironmentSpec(
        name=texts["name"],
        version=texts["version"],
        python=parsed.python,
        conda=parsed.conda,
        channels=parsed.channels,
        pip=parsed.pip,
        variables=variables,
        docker=DockerSection(
            _text(docker.get("baseImage"), (*path, "docker", "baseImage"), faults),
            _text(docker.get("baseDockerfile"), (*path, "docker", "baseDockerfile"), faults),
        ),
        user_managed=user_managed,
        interpreter=interpreter if user_managed else "",
    )
    return _checked(spec, faults)


def from_conda(document: object, path: Path = ()) -> EnvironmentSpec:
    """A decoded conda YAML. Its name is not taken. `path`: of it, for faults."""
    faults: list[Fault] = []
    return _checked(_conda(document, path, faults, of_client=False), faults)


def from_requirements(text: str, subject: str = "requirements.txt") -> EnvironmentSpec:
    """The text of a requirements file without includes. `subject`: its name, for faults."""
    return from_pip_lines([(f"{subject}, line {number}", line) for number, line in logical_lines(text)])


def from_pip_lines(lines: list[tuple[str, str]]) -> EnvironmentSpec:
    """Logical lines of requirements. `lines`: (place for faults, content)."""
    faults: list[Fault] = []
    found = []
    for place, line in lines:
        try:
            found.append(canonical_line(line))
        except InvalidLine as rule:
            faults.append(Fault(place, line, str(rule)))
    if len(found) > MAX_PACKAGES:
        faults.append(Fault("requirements", f"{len(found)} lines", f"must be at most {MAX_PACKAGES} lines"))
    return _checked(EnvironmentSpec(pip=sorted_lines(found)), faults)


def _checked(spec: EnvironmentSpec, faults: list[Fault]) -> EnvironmentSpec:
    if faults:
        raise InvalidManifest(tuple(faults))
    return spec


def _conda(document: object, path: Path, faults: list[Fault], of_client: bool) -> EnvironmentSpec:
    """The packages of a conda document. `of_client`: True: paths in it are of another machine."""
    content = _mapping(document, path, faults)
    if not path:
        rule = f"is not a key of a conda file; known here: {', '.join(CONDA_KEYS)}"
        faults += [Fault(written((str(key),)), value, rule) for key, value in content.items() if key not in CONDA_KEYS]
    entries = _list(content.get("dependencies"), (*path, "dependencies"), faults)
    packages: list[CondaPackage] = []
    pip: list[str] = []
    for index, entry in enumerate(entries):
        at = (*path, "dependencies", index)
        if isinstance(entry, str):
            try:
                packages.append(parse_conda(entry))
            except InvalidCondaPackage as rule:
                faults.append(Fault(written(at), entry, str(rule)))
        elif isinstance(entry, dict) and set(entry) == {"pip"}:
            pip += _pip_section(entry["pip"], (*at, "pip"), faults, of_client)
        else:
            faults.append(Fault(written(at), entry, "must be a package, or a mapping with the list `pip`"))
    release = ""
    for package in packages:
        if package.is_python:
            try:
                release = python_release(package)
            except InvalidCondaPackage as rule:
                faults.append(Fault(written((*path, "dependencies")), str(package), str(rule)))
    channels = _list(content.get("channels"), (*path, "channels"), faults)
    return EnvironmentSpec(
        python=release,
        conda=tuple(sorted({str(package) for package in packages if not package.is_python})),
        channels=tuple(str(channel) for channel in channels),
        pip=sorted_lines(pip),
        variables=_variables(content.get("variables"), (*path, "variables"), faults),
    )


def _pip_section(section: object, path: Path, faults: list[Fault], of_client: bool) -> list[str]:
    found = []
    for index, line in enumerate(_list(section, path, faults)):
        at = written((*path, index))
        if not isinstance(line, str):
            faults.append(Fault(at, line, "must be text: a requirement or an option of pip"))
            continue
        if of_client and _is_local(line):
            faults.append(Fault(at, line, OF_A_CLIENT))
            continue
        for _, content in logical_lines(line):
            if _names_pypi(content):
                continue
            try:
                found.append(canonical_line(content))
            except InvalidLine as rule:
                faults.append(Fault(at, line, str(rule)))
    return found


def _names_pypi(line: str) -> bool:
    """True for an option that adds PyPI to the indexes: azureml-core writes two into every definition.

    The index of this machine, PyPI or a mirror of it, is asked in any case.
    """
    option, value = split_option(line)
    return option in ("-f", "--find-links", "--extra-index-url") and PYPI.match(value.strip("'\"")) is not None


def _is_local(line: str) -> bool:
    option, value = split_option(line)
    if option in (*EDITABLE, "-r", "-c", "--requirement", "--constraint"):
        return "://" not in value
    return not option and "://" not in line and "@" not in line and LOCAL_PATH.match(line) is not None


def _mapping(value: object, path: Path, faults: list[Fault]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    faults.append(Fault(written(path), shown(value), "must be a mapping"))
    return {}


def _list(value: object, path: Path, faults: list[Fault]) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list) and len(value) <= MAX_PACKAGES:
        return value
    faults.append(Fault(written(path), value, f"must be a list of at most {MAX_PACKAGES} entries"))
    return []


def _text(value: object, path: Path, faults: list[Fault], plain_number: bool = False) -> str:
    """`value` as text; "" for null. `plain_number`: True: a whole number counts as text."""
    if value is None or isinstance(value, str):
        return value or ""
    if plain_number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    faults.append(Fault(written(path), value, "must be text"))
    return ""


def _variables(value: object, path: Path, faults: list[Fault]) -> dict[str, str]:
    found = {}
    for name, text in _mapping(value, path, faults).items():
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            faults.append(Fault(written((*path, str(name))), text, "must be text"))
        else:
            found[str(name)] = str(text)
    return found
