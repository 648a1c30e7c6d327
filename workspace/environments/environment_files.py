"""Files of packages: requirements, with the files that they include, and conda YAML."""

import os
import re
from pathlib import Path

import yaml

from serving.faults import Fault, InvalidManifest
from workspace.environments.definitions import from_conda, from_pip_lines
from workspace.environments.requirement_lines import (
    EDITABLE,
    LOCAL_PATH,
    PACKAGE_URL,
    included_file,
    logical_lines,
    split_option,
)
from workspace.environments.spec import EnvironmentSpec

CONDA_SUFFIXES = (".yml", ".yaml")
MOST_BYTES = 1_000_000
DEEPEST = 10
"""Most files that include one another."""


def read_environment_file(path: Path) -> EnvironmentSpec:
    """The definition in a file. Raises InvalidManifest, OSError."""
    text = _text(path)
    if path.suffix not in CONDA_SUFFIXES:
        return from_pip_lines(_lines(path, text, ()))
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _refused(path, f"must be YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or "dependencies" not in document:
        raise _refused(path, "must be a conda file: a mapping with the list dependencies")
    for entry in document["dependencies"] if isinstance(document["dependencies"], list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list):
            lines = [line for line in entry["pip"] if isinstance(line, str)]
            others = [line for line in entry["pip"] if not isinstance(line, str)]
            found = [each for line in lines for _, each in _lines(path, line, ())]
            entry["pip"] = [*found, *others]
    return from_conda(document)


def _lines(path: Path, text: str, includers: tuple[Path, ...]) -> list[tuple[str, str]]:
    """(place, line) of a file and of those it includes; paths made absolute. `includers`: files around it."""
    found = []
    for number, line in logical_lines(text):
        place = f"{path.name}, line {number}"
        include = included_file(line)
        if include is None:
            found.append((place, _absolute(line, path.parent)))
            continue
        kind, name = include
        other = path.parent / name
        if kind == "-c":
            raise _refused(path, f"line {number}: constraints ({name}) are not read; put the versions into this file")
        if "://" in name or len(includers) >= DEEPEST or other in (*includers, path):
            raise _refused(path, f"line {number}: {name} must be a file on this machine that does not include itself")
        found += _lines(other, _text(other), (*includers, path))
    return found


def _absolute(line: str, folder: Path) -> str:
    """A line with its relative path made absolute."""
    option, value = split_option(line)
    if option in (*EDITABLE, "-f", "--find-links") and value and "://" not in value:
        return f"{option} {os.path.normpath(folder / value)}"
    if not option and "@" not in line and not PACKAGE_URL.match(line) and LOCAL_PATH.match(line):
        return os.path.normpath(folder / re.split(r"\s", line)[0])
    return line


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise _refused(path, f"must have at most {MOST_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(path, "must be text in UTF-8") from None


def _refused(path: Path, rule: str) -> InvalidManifest:
    return InvalidManifest((Fault(path.name, str(path), rule),))
