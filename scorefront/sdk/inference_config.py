"""Code and environment of a service."""

import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorefront.sdk.control_connection import ControlConnection
from scorefront.sdk.environment import Environment
from scorefront.sdk.exceptions import UserErrorException, WebserviceException
from scorefront.sdk.snapshot import snapshot

MAX_MODELS = 1000
"""Most models of one deployment."""
ARCHIVE = "source.zip"


class InferenceConfig:
    """The entry script of a service, its folder and its environment."""

    def __init__(
        self,
        entry_script: str,
        runtime: str | None = None,
        conda_file: str | None = None,
        extra_docker_file_steps: str | None = None,
        source_directory: str | None = None,
        enable_gpu: bool | None = None,
        description: str | None = None,
        base_image: str | None = None,
        base_image_registry: object = None,
        cuda_version: str | None = None,
        environment: Environment | None = None,
    ) -> None:
        """Code and environment.

        entry_script: Python file with init() and run(), relative to `source_directory`.
        source_directory: folder that is sent, less the files in .amlignore, else in .gitignore; default: the script
        alone is sent.
        environment: packages and variables; default: those of `conda_file`, else the Python of scorefront.
        conda_file: conda environment file, relative to `source_directory`; not together with `environment`.
        runtime, extra_docker_file_steps, enable_gpu, base_image, base_image_registry, cuda_version: without effect.
        description: of the service.
        Raises WebserviceException.
        """
        self.entry_script = entry_script
        self.source_directory = source_directory
        self.description = description
        self.conda_file = conda_file
        self.environment = environment
        dropped = {
            "extra_docker_file_steps": extra_docker_file_steps,
            "base_image": base_image,
            "base_image_registry": base_image_registry,
            "cuda_version": cuda_version,
            "enable_gpu": enable_gpu,
        }
        for name in (name for name, value in dropped.items() if value):
            warnings.warn(f"InferenceConfig: {name} has no effect: no image is built", stacklevel=2)
        self.runtime = runtime
        self.validate_configuration()
        if conda_file is not None:
            file = Path(conda_file) if source_directory is None else Path(source_directory, conda_file)
            self.environment = Environment.from_conda_specification(file.stem, file)

    def validate_configuration(self) -> None:
        """Raises WebserviceException naming the parameter, its value and the rule."""
        if self.environment is not None and not isinstance(self.environment, Environment):
            raise WebserviceException(f"environment: must be an Environment (got {self.environment!r})")
        if self.environment is not None and self.conda_file is not None:
            raise WebserviceException("conda_file, environment: only one of them may be given")
        if not isinstance(self.entry_script, str) or not self.entry_script.endswith(".py"):
            raise WebserviceException(f"entry_script: must be a Python file (got {self.entry_script!r})")
        if self.source_directory is not None and not Path(self.source_directory).is_dir():
            raise WebserviceException(f"source_directory: must be a folder (got {str(self.source_directory)!r})")
        script = Path(self.entry_script)
        if self.source_directory is not None and (script.is_absolute() or ".." in script.parts):
            raise WebserviceException(
                f"entry_script: must be relative to source_directory, without .. (got {self.entry_script!r})"
            )
        if not Path(self.source_directory or ".", script).is_file():
            where = "" if self.source_directory is None else f" in {self.source_directory}"
            raise WebserviceException(f"entry_script: no file {self.entry_script!r}{where}")

    def uploaded(self, connection: ControlConnection, model_ids: Sequence[str]) -> dict[str, Any]:
        """`environmentImageRequest` of a service, after its code was sent.

        connection: of the workspace. model_ids: `name:version` each.
        Raises WebserviceException, WorkspaceException.
        """
        if len(model_ids) > MAX_MODELS:
            raise WebserviceException(f"models: must be at most {MAX_MODELS} (got {len(model_ids)})")
        self.validate_configuration()
        source = None if self.source_directory is None else Path(self.source_directory)
        try:
            archive, script = snapshot(source, Path(self.entry_script))
        except UserErrorException as error:
            raise WebserviceException(error.message) from None
        url = connection.upload_artifact(uuid.uuid4().hex, ARCHIVE, archive)
        environment = {} if self.environment is None else self.environment.as_dict()
        variables = {**environment.get("environmentVariables", {}), "AZUREML_ENTRY_SCRIPT": script}
        return {
            "driverProgram": None,
            "assets": [{"id": ARCHIVE, "url": url, "mimeType": "application/zip", "unpack": True}],
            "modelIds": list(model_ids),
            "environment": {**environment, "environmentVariables": variables},
        }
