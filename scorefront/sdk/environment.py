"""Environments: Python packages and variables of a replica."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scorefront.sdk.conda_dependencies import CondaDependencies
from scorefront.sdk.control_connection import ConnectedWorkspace
from scorefront.sdk.exceptions import AzureMLException, EnvironmentNotFoundException, UserErrorException

DEFINITION = "azureml_environment.json"
"""Name of the file that `save_to_directory` writes."""


@dataclass
class PythonSection:
    """Python of an environment."""

    conda_dependencies: CondaDependencies = field(default_factory=CondaDependencies)
    user_managed_dependencies: bool = False
    """True: nothing is installed; `interpreter_path` is used as it is."""
    interpreter_path: str | None = None
    """Path of a Python on the machine that runs replicas; None: chosen by the version of Python."""
    base_conda_environment: str | None = None
    """Ignored: there is no conda."""


@dataclass
class DockerSection:
    """Image of an environment; only for clusters."""

    base_image: str | None = None
    base_dockerfile: str | None = None
    enabled: bool = False
    arguments: list[str] = field(default_factory=list)
    shared_volumes: bool = True
    shm_size: str | None = None


class Environment:
    """A named environment. Equal definitions share one build, whatever their names."""

    def __init__(self, name: str) -> None:
        """An environment without packages. `name`: not empty. Raises UserErrorException."""
        if not isinstance(name, str) or not name or name.startswith("Microsoft"):
            raise UserErrorException(f"name: must be text that does not begin with Microsoft (got {name!r})")
        self.name = name
        self.version: str | None = None
        self.environment_variables: dict[str, str] = {}
        self.python = PythonSection()
        self.docker = DockerSection()
        self.inferencing_stack_version: str | None = None

    @staticmethod
    def from_conda_specification(name: str, file_path: str | Path) -> "Environment":
        """An environment with the packages of a conda environment file. Raises UserErrorException."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: str | Path, pip_version: str | None = None) -> "Environment":
        """An environment with the packages of a requirements file.

        name: of the environment. file_path: a requirement a line.
        pip_version: without effect, since uv installs.
        Raises UserErrorException.
        """
        try:
            lines = [line.strip() for line in Path(file_path).read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
            raise UserErrorException(f"file_path: {str(file_path)!r}: {reason}") from None
        made = Environment(name)
        found = [line.partition(" #")[0].strip() for line in lines if line and not line.startswith("#")]
        made.python.conda_dependencies.set_pip_requirements(found)
        return made

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: object = None,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> "Environment":
        """An environment on an image.

        name: of the environment. image: reference; for clusters.
        container_registry: ignored: credentials of registries belong to the cluster.
        conda_specification, pip_requirements: file with packages; at most one of them; default: none.
        Raises UserErrorException.
        """
        made = _with_packages(name, conda_specification, pip_requirements)
        made.docker.base_image, made.docker.enabled = image, True
        return made

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: str | Path,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> "Environment":
        """An environment on a Dockerfile.

        name: of the environment. dockerfile: path, or content of several lines; for clusters.
        conda_specification, pip_requirements: file with packages; at most one of them; default: none.
        Raises UserErrorException.
        """
        made = _with_packages(name, conda_specification, pip_requirements)
        try:
            text = str(dockerfile)
            made.docker.base_dockerfile = text if "\n" in text else Path(text).read_text()
        except OSError as error:
            raise UserErrorException(f"dockerfile: {str(dockerfile)!r}: {error.strerror}") from None
        made.docker.enabled = True
        return made

    def register(self, workspace: ConnectedWorkspace) -> "Environment":
        """Keep the definition in the workspace; the environment with its version.

        The version is counted up unless it is set; a definition that equals the latest one keeps its version.
        Raises UserErrorException for an invalid definition.
        """
        path = _path(workspace, self.name, self.version)
        return _environment(workspace.connection.call("PUT", path, self.as_dict(), error=UserErrorException))

    @staticmethod
    def get(
        workspace: ConnectedWorkspace, name: str, version: str | None = None, label: str | None = None
    ) -> "Environment":
        """A registered environment.

        name: of the environment. version: default: the latest. label: without effect.
        Raises EnvironmentNotFoundException.
        """
        try:
            return _environment(workspace.connection.call("GET", _path(workspace, name, version)))
        except AzureMLException as error:
            if error.status_code != 404:
                raise
            shown = name if version is None else f"{name}:{version}"
            raise EnvironmentNotFoundException(f"environment {shown} is not registered", 404, error.code) from None

    @staticmethod
    def list(workspace: ConnectedWorkspace) -> "dict[str, Environment]":
        """Name -> latest version of each registered environment."""
        found = workspace.connection.call("GET", f"/environment/v1.0{workspace.connection.scope}/environments/")
        return {each["name"]: _environment(each) for each in found["value"]}

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name, without a version."""
        made = copy.deepcopy(self)
        made.name, made.version = Environment(new_name).name, None
        return made

    def as_dict(self) -> dict[str, Any]:
        """The definition in the form of Azure ML v1."""
        python, docker = self.python, self.docker
        return {
            "name": self.name,
            "version": self.version,
            "environmentVariables": dict(self.environment_variables),
            "python": {
                "interpreterPath": python.interpreter_path,
                "userManagedDependencies": python.user_managed_dependencies,
                "condaDependencies": python.conda_dependencies.as_dict(),
                "baseCondaEnvironment": python.base_conda_environment,
            },
            "docker": {
                "baseImage": docker.base_image,
                "baseDockerfile": docker.base_dockerfile,
                "enabled": docker.enabled,
                "arguments": list(docker.arguments),
                "sharedVolumes": docker.shared_volumes,
                "shmSize": docker.shm_size,
            },
            "inferencingStackVersion": self.inferencing_stack_version,
        }

    def save_to_directory(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the definition to a folder. `overwrite`: True if the folder may exist. Raises UserErrorException."""
        folder = Path(path)
        if folder.exists() and not overwrite:
            raise UserErrorException(f"path: {str(path)!r} exists; overwrite=True writes into it")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DEFINITION).write_text(json.dumps(self.as_dict(), indent=4) + "\n")

    @staticmethod
    def load_from_directory(path: str | Path) -> "Environment":
        """The environment of a folder that `save_to_directory` wrote. Raises UserErrorException."""
        file = Path(path) / DEFINITION
        try:
            return environment_of(json.loads(file.read_text()))
        except (OSError, ValueError):
            raise UserErrorException(f"path: {str(file)!r} must be a definition in JSON") from None

    def __repr__(self) -> str:
        return f"Environment({json.dumps(self.as_dict(), indent=4)})"


def environment_of(content: Any) -> Environment:
    """The environment of a definition in the form of Azure ML v1. Raises UserErrorException."""
    if not isinstance(content, dict):
        raise UserErrorException("environment: must be a mapping with name, python, environmentVariables")
    made = Environment(str(content.get("name") or "environment"))
    made.version = None if content.get("version") is None else str(content["version"])
    made.environment_variables = {key: str(text) for key, text in (content.get("environmentVariables") or {}).items()}
    python, docker = content.get("python") or {}, content.get("docker") or {}
    if isinstance(packages := python.get("condaDependencies"), dict):
        made.python.conda_dependencies._content = {"dependencies": [], **copy.deepcopy(packages)}
    made.python.user_managed_dependencies = bool(python.get("userManagedDependencies"))
    made.python.interpreter_path = python.get("interpreterPath")
    made.python.base_conda_environment = python.get("baseCondaEnvironment")
    made.docker.base_image, made.docker.base_dockerfile = docker.get("baseImage"), docker.get("baseDockerfile")
    made.docker.enabled, made.docker.shm_size = bool(docker.get("enabled")), docker.get("shmSize")
    made.docker.arguments = list(docker.get("arguments") or ())
    made.inferencing_stack_version = content.get("inferencingStackVersion")
    return made


def _with_packages(name: str, conda: str | Path | None, requirements: str | Path | None) -> Environment:
    """An environment with the packages of a file.

    name: of the environment. conda, requirements: files, at most one of them; None: not given.
    Raises UserErrorException.
    """
    if conda is not None and requirements is not None:
        raise UserErrorException("conda_specification, pip_requirements: at most one of them may be given")
    if conda is not None:
        return Environment.from_conda_specification(name, conda)
    return Environment(name) if requirements is None else Environment.from_pip_requirements(name, requirements)


def _environment(content: Any) -> Environment:
    lowered = {key[:1].lower() + key[1:]: item for key, item in content.items()}
    return environment_of(lowered)


def _path(workspace: ConnectedWorkspace, name: str, version: str | None) -> str:
    place = f"/environment/v1.0{workspace.connection.scope}/environments/{quote(name, safe='')}"
    return place if version is None else f"{place}/versions/{quote(str(version), safe='')}"
