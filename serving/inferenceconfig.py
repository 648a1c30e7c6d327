"""Conversion of the v1 file inferenceconfig into the `replica` of a version.

Every known key is converted, refused with its path in the file, or dropped with a note. Nulls are ignored.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from serving.deploymentconfig import mapping_of, unknown_keys, without_null
from serving.faults import Fault, InvalidManifest, shown
from serving.reserved_variables import reserved_rule
from serving.validation_messages import HIDDEN

KEYS = ("entryScript", "sourceDirectory", "environment", "condaFile", "enableGpu")
_IMAGE = "no image is built; install what the script needs into the Python that runs the replicas"
DROPPED = {
    "runtime": "scripts run in Python",
    "extraDockerfileSteps": _IMAGE,
    "baseImage": _IMAGE,
    "baseImageRegistry": _IMAGE,
    "cudaVersion": _IMAGE,
    "dockerFile": _IMAGE,
    "dependencies": "files beside the script are found in sourceDirectory",
    "schemaFile": "name it swagger.json in sourceDirectory, and it is served",
    "description": "the description of the endpoint is in the deploymentconfig",
    "name": "the endpoint is named by -n",
    "version": "files have no versions here",
    "tags": "tags of the endpoint are in the deploymentconfig",
    "properties": "properties of the endpoint are in the deploymentconfig",
}
"""Keys without counterpart -> the reason."""

ENVIRONMENT_KEYS = (
    *("environmentVariables", "name", "version", "python", "docker", "spark", "databricks", "r"),
    *("inferencingStackVersion", "assetId", "autoRebuild", "environmentType"),
)
SATISFIED = ("azureml-defaults", "azureml-core", "azureml-contrib-services", "azureml-inference-server-http", "pip")
"""Packages that scorefront stands in for."""


def from_inferenceconfig(config: object, model_dir: str | None = None) -> dict[str, Any]:
    """An inferenceconfig as the `replica` of a version: entryScript, sourceDirectory, environment variables.

    The image of an environment has no meaning here: the script runs in the Python of its host. Relative paths stay
    relative. Raises InvalidManifest with every unknown or missing field, by its path in the config; values are checked
    later, with the document.
    """
    content = without_null(mapping_of(config))
    faults = unknown_keys(content, (*KEYS, *DROPPED))
    environment = content.get("environment", {})
    if not isinstance(environment, dict | str):
        rule = f"must be a name, or a mapping with the fields {', '.join(ENVIRONMENT_KEYS)}"
        faults.append(Fault("environment", HIDDEN, rule))
    if not isinstance(environment, dict):
        environment = {}
    misspelt = {key: value for key, value in environment.items() if _resembles(key)}
    faults += unknown_keys(misspelt, ENVIRONMENT_KEYS, ("environment",))
    if content.get("entryScript") is None:
        faults.append(Fault("entryScript", None, "is required: the path of the script, relative to sourceDirectory"))
    if not isinstance(content.get("enableGpu", False), bool):
        faults.append(Fault("enableGpu", content["enableGpu"], "must be true or false"))
    if faults:
        raise InvalidManifest(tuple(faults))
    replica = {
        "entryScript": _posix(content["entryScript"]),
        "sourceDirectory": _posix(content.get("sourceDirectory")),
        "modelDir": model_dir,
        "env": _variables(environment.get("environmentVariables")) or None,
    }
    return {field: value for field, value in replica.items() if value is not None}


def wants_gpu(config: object) -> bool:
    """True if the file asks for a GPU, in the way of the first releases."""
    return mapping_of(config).get("enableGpu") is True


def conda_file_of(config: object) -> str | None:
    """The path of a conda file in the file; None: none is named."""
    content = without_null(mapping_of(config))
    environment = content.get("environment")
    python = environment.get("python") if isinstance(environment, dict) else None
    named = python.get("condaDependenciesFile") if isinstance(python, dict) else None
    found = content.get("condaFile", named)
    return _posix(found) if isinstance(found, str) else None


def inferenceconfig_notes(config: object, conda: object = None) -> Iterator[str]:
    """Notes on the keys without counterpart, each with its path.

    config: the decoded file.
    conda: the decoded conda file that it names; None: none, or not readable.
    """
    content = without_null(mapping_of(config))
    yield from (f"{key}: dropped: {reason}" for key, reason in DROPPED.items() if key in content)
    if "condaFile" in content:
        yield f"condaFile: dropped: {_packages_note(conda)}"
    if "enableGpu" in content:
        yield f"enableGpu: {'gpu: 1 in containerResourceRequirements' if content['enableGpu'] is True else 'no GPU'}"
    environment = content.get("environment")
    if isinstance(environment, str):
        yield (
            f"environment: dropped: {shown(environment)} is the name of an environment in Azure, which cannot be looked"
            " up; install its packages into the Python that runs the replicas"
        )
    if not isinstance(environment, dict):
        return
    for key, value in environment.items():
        at = f"environment.{key}"
        if key == "python":
            python = value if isinstance(value, dict) else {}
            yield f"{at}: dropped: {_packages_note(python.get('condaDependencies') or conda)}"
        elif key == "environmentVariables":
            yield from _dropped_variables(value, at)
        elif key in ("name", "version"):
            yield f"{at}: dropped: environments are not registered here"
        else:
            yield f"{at}: dropped: {_IMAGE}"


def packages_of(conda: object) -> list[str]:
    """The packages of a conda file in the words of pip, without those that scorefront stands in for."""
    dependencies = conda.get("dependencies") if isinstance(conda, dict) else None
    found: list[str] = []
    for each in dependencies if isinstance(dependencies, list) else ():
        if isinstance(each, str):
            found.append(re.sub(r"(?<![=<>!~])=(?!=)", "==", each))
        elif isinstance(each, dict) and isinstance(each.get("pip"), list):
            found += [package for package in each["pip"] if isinstance(package, str)]
    names = ((package, re.split(r"[\s=<>!~\[;@]", package, maxsplit=1)[0].lower()) for package in found)
    return [package for package, name in names if name not in SATISFIED]


def _packages_note(conda: object) -> str:
    packages = packages_of(conda)
    if not packages:
        return _IMAGE
    python = [package for package in packages if re.match(r"python\b", package)]
    others = [package for package in packages if package not in python]
    version = f"; {python[0]} is not looked for, replicas run in scorefront's Python" if python else ""
    if not others:
        return f"no package but those of scorefront{version}"
    return f"install {', '.join(others)} into the Python that runs the replicas (pip install){version}"


def _resembles(key: str) -> bool:
    return key not in ENVIRONMENT_KEYS and bool(difflib.get_close_matches(key, ENVIRONMENT_KEYS, n=1, cutoff=0.8))


def _posix(path: Any) -> Any:
    """A path of Windows as one of this machine."""
    return path.replace("\\", "/") if isinstance(path, str) else path


def _variables(given: Any) -> Any:
    """Environment variables as `env`: numbers as text, a literal "${" as it was in Azure, reserved names left out."""
    if not isinstance(given, dict):
        return given
    texts = {name: str(value) if _is_number(value) else value for name, value in given.items()}
    return {
        name: value.replace("${", "$${") if isinstance(value, str) else value
        for name, value in texts.items()
        if reserved_rule(name, "entryScript") is None
    }


def _dropped_variables(given: Any, at: str) -> Iterator[str]:
    for name in given if isinstance(given, dict) else ():
        if rule := reserved_rule(name, "entryScript"):
            yield f"{at}.{name}: dropped: {rule.removeprefix('must be left out of env: ')}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
