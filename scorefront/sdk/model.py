"""Registered models, and their deployment as services."""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scorefront.local_models import NotAModel, local_model_files
from scorefront.sdk.aks_webservice import AksWebservice
from scorefront.sdk.compute import ComputeTarget
from scorefront.sdk.control_connection import API, ConnectedWorkspace
from scorefront.sdk.deploy_configuration import AksServiceDeploymentConfiguration
from scorefront.sdk.exceptions import (
    AzureMLException,
    ModelNotFoundException,
    ModelPathNotFoundException,
    UserErrorException,
    WebserviceException,
)
from scorefront.sdk.inference_config import InferenceConfig
from scorefront.sdk.model_deployment import begun_deployment
from scorefront.sdk.model_ids import model_ids
from scorefront.sdk.transfer_progress import shown_transfer

__all__ = ["InferenceConfig", "Model", "ResourceConfiguration"]


class ResourceConfiguration:
    """Resources that a deployment of a model needs."""

    def __init__(self, cpu: float | None = None, memory_in_gb: float | None = None, gpu: int | None = None) -> None:
        """`cpu`: cores. `memory_in_gb`: GB. `gpu`: GPUs. Default: those of the service."""
        self.cpu, self.memory_in_gb, self.gpu = cpu, memory_in_gb, gpu

    def serialize(self) -> dict[str, Any]:
        """The fields of REST."""
        return {"cpu": self.cpu, "memoryInGB": self.memory_in_gb, "gpu": self.gpu}


class Model:
    """One version of a registered model."""

    class Framework:
        """Frameworks."""

        CUSTOM = "Custom"
        TENSORFLOW = "TensorFlow"
        SCIKITLEARN = "ScikitLearn"
        ONNX = "Onnx"
        TFKERAS = "TfKeras"
        PYTORCH = "PyTorch"
        MULTI = "Multi"

    def __init__(
        self,
        workspace: ConnectedWorkspace,
        name: str | None = None,
        id: str | None = None,
        tags: Iterable[Any] | None = None,
        properties: Iterable[Any] | None = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
    ) -> None:
        """The latest registered model that fits.

        workspace: of the model. name: of the model; or id: `name:version`.
        version: default: the latest. tags, properties: keys, or [key, value] pairs, all demanded.
        model_framework: default: any. run_id, expand: without effect.
        Raises ModelNotFoundException, UserErrorException.
        """
        self.workspace = workspace
        if id is not None:
            name, _, number = id.rpartition(":")
            if not number.isdecimal():
                raise UserErrorException(f"id: must be name:version (got {id!r})")
            version = int(number)
        if name is None:
            raise UserErrorException("name, id: one of them must be given")
        demands = (tags, properties, model_framework)
        if version is None and any(each is not None for each in demands):
            found = Model.list(workspace, name, tags, properties, model_framework=model_framework)
            if not found:
                raise ModelNotFoundException(f"ModelNotFound: no version of model {name!r} fits the filters")
            version = found[0].version
        self._take(_found(workspace, name, version))
        if not self._fits(properties, model_framework) or not _has(self.tags, tags):
            raise ModelNotFoundException(f"ModelNotFound: model {self.id!r} does not fit the filters")

    @staticmethod
    def register(
        workspace: ConnectedWorkspace,
        model_path: str | Path,
        model_name: str,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        datasets: object = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: list[str] | None = None,
        sample_input_dataset: object = None,
        sample_output_dataset: object = None,
        resource_configuration: ResourceConfiguration | None = None,
    ) -> "Model":
        """Register a file, or a folder with everything in it, under the next version of a name.

        workspace: of the model. model_path: file or folder. model_name: 1 to 255 letters, digits, `-`, `.`, `_`.
        tags, properties: text to text; properties never change. description: text.
        model_framework: a name of `Model.Framework`. model_framework_version: its version.
        child_paths: paths below the folder that are sent; default: all.
        resource_configuration: resources of its deployments; default: none.
        datasets, sample_input_dataset, sample_output_dataset: without effect: there are no data sets.
        Raises UserErrorException, ModelPathNotFoundException.
        """
        if model_framework is None and model_framework_version is not None:
            raise UserErrorException("model_framework_version: needs model_framework")
        files = _files(Path(model_path), child_paths)
        connection = workspace.connection
        print(f"Registering model {model_name}")
        try:
            with shown_transfer("sending", sum(file.size_bytes for file in files)) as progress:
                entries = [{"path": each.path, "sha256": connection.upload_blob(each, progress)} for each in files]
        except OSError as error:
            raise UserErrorException(
                f"model_path: cannot read {error.filename or model_path}: {error.strerror}"
            ) from None
        body = {
            "name": model_name,
            "files": entries,
            "tags": dict(tags or {}),
            "properties": dict(properties or {}),
            "description": description or "",
            "framework": model_framework or "",
            "frameworkVersion": model_framework_version or "",
        }
        if resource_configuration is not None:
            body["resources"] = resource_configuration.serialize()
        return _made(workspace, connection.call("POST", f"{API}/models", body, error=UserErrorException))

    @staticmethod
    def list(
        workspace: ConnectedWorkspace,
        name: str | None = None,
        tags: Iterable[Any] | None = None,
        properties: Iterable[Any] | None = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> "list[Model]":
        """Models that fit all filters, by name, the latest version of each first; without their files.

        workspace: of the models. name: default: any. tags, properties: keys, or [key, value] pairs.
        latest: True for the latest version of each name only. model_framework: default: any.
        run_id, dataset_id, expand, page_count: without effect.
        """
        wanted = [each if isinstance(each, str) else "=".join(map(str, each)) for each in tags or ()]
        query = {"name": name, "tag": wanted, "latest": latest}
        found = workspace.connection.call("GET", f"{API}/models", None, query, UserErrorException)
        models = (_made(workspace, each) for each in found["value"])
        return [model for model in models if model._fits(properties, model_framework)]

    @staticmethod
    def deploy(
        workspace: ConnectedWorkspace,
        name: str,
        models: "Sequence[Model | str]",
        inference_config: InferenceConfig | None = None,
        deployment_config: AksServiceDeploymentConfiguration | None = None,
        deployment_target: ComputeTarget | str | None = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> Any:
        """Begin to deploy a service or an endpoint; `wait_for_deployment` waits for the end.

        workspace: of the service. name: 3 to 32 lowercase letters, digits, dashes, a letter first.
        models: registered models, or their ids `name:version`; at most 1,000.
        inference_config: code and environment. deployment_config: of AksWebservice (default) or AksEndpoint.
        deployment_target: a compute target, or its name; default: `compute_target_name` of the configuration.
        overwrite: True to replace a service of that name. show_output: True to wait, and to print the steps.
        Returns an AksWebservice or AksEndpoint. Raises WebserviceException.
        """
        config = deployment_config or AksWebservice.deploy_configuration()
        service = begun_deployment(workspace, name, models, inference_config, config, deployment_target, overwrite)
        if show_output:
            service.wait_for_deployment(show_output=True)
        return service

    @staticmethod
    def print_configuration(
        models: "Sequence[Model | str]",
        inference_config: InferenceConfig,
        deployment_config: AksServiceDeploymentConfiguration,
        deployment_target: ComputeTarget | None,
    ) -> None:
        """Print a deployment without beginning it.

        models: of the deployment. inference_config: its code. deployment_config: its limits.
        deployment_target: its compute target.
        """
        print(f"Models: {', '.join(model_ids(models))}")
        print(f"Entry script: {inference_config.entry_script}, in {inference_config.source_directory or 'this folder'}")
        deployment_config.print_deploy_configuration()
        print(f"Compute target: {getattr(deployment_target, 'name', deployment_target)}")

    @staticmethod
    def get_model_path(
        model_name: str, version: int | None = None, _workspace: ConnectedWorkspace | None = None
    ) -> str:
        """Path of a model in a replica, or of a downloaded one.

        model_name: of the model. version: default: the latest there.
        _workspace: to download from, into ./azureml-models; default: none.
        Raises ModelNotFoundException.
        """
        top = Path(os.environ.get("AZUREML_MODEL_DIR") or ".")
        top = top if top.name == "azureml-models" or os.environ.get("AZUREML_MODEL_DIR") else top / "azureml-models"
        if _workspace is not None:
            model = Model(_workspace, model_name, version=version)
            return model.download(str(Path("azureml-models", model.name, str(model.version))), exist_ok=True)
        found = sorted((int(each.name), each) for each in (top / model_name).glob("*") if each.name.isdecimal())
        chosen = [each for number, each in found if version in (None, number)]
        if not chosen:
            raise ModelNotFoundException(f"model {model_name!r} was not found in {top} (AZUREML_MODEL_DIR)")
        inside = list(chosen[-1].iterdir())
        return str(inside[0] if len(inside) == 1 else chosen[-1])

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Write the files below a folder, and check their digests; the path of the file or folder.

        target_dir: folder. exist_ok: True to replace files that exist. exists_ok: former name of `exist_ok`.
        Raises UserErrorException, WebserviceException.
        """
        content = _found(self.workspace, self.name, self.version)
        top = Path(os.path.realpath(target_dir))
        places = [(each, _below(top, each["path"])) for each in content["files"]]
        if not (exist_ok or exists_ok) and (there := next((place for _, place in places if place.exists()), None)):
            raise UserErrorException(f"target_dir: {there} exists; exist_ok=True replaces it")
        with shown_transfer("receiving", content["sizeBytes"]) as progress:
            for each, place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                part = place.with_name(f".{each['sha256'][:16]}.part")
                part.unlink(missing_ok=True)
                path = f"{API}/models/{quote(self.name, safe='')}/{self.version}/files/{quote(each['path'])}"
                try:
                    if self.workspace.connection.download(path, part, progress) != each["sha256"]:
                        raise WebserviceException(f"{each['path']}: the content received has another SHA-256")
                    part.replace(place)
                finally:
                    part.unlink(missing_ok=True)
        first = content["files"][0]["path"].partition("/")[0]
        whole = all(each["path"].partition("/")[0] == first for each in content["files"])
        return str(Path(target_dir, first) if whole else Path(target_dir))

    def delete(self) -> None:
        """Delete this version; its number is not given again. Raises WebserviceException while it is deployed."""
        self._call("DELETE", error=WebserviceException)

    def update(
        self,
        tags: dict[str, str] | None = None,
        description: str | None = None,
        sample_input_dataset: object = None,
        sample_output_dataset: object = None,
        resource_configuration: ResourceConfiguration | None = None,
    ) -> None:
        """Replace the tags or the description; None: unchanged. Others: without effect. Raises UserErrorException."""
        self._change(tags=tags, description=description)

    def add_tags(self, tags: dict[str, str]) -> None:
        """Add tags, or replace those of the same name."""
        self._change(tags={**self.tags, **tags})

    def remove_tags(self, tags: Sequence[str]) -> None:
        """Remove tags by name."""
        self._change(tags={name: text for name, text in self.tags.items() if name not in tags})

    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; they cannot be changed afterwards. Raises UserErrorException."""
        self._change(properties=properties)

    def update_tags_properties(
        self,
        add_tags: dict[str, str] | None = None,
        remove_tags: Sequence[str] | None = None,
        add_properties: dict[str, str] | None = None,
    ) -> None:
        """Change tags and properties at once.

        add_tags: to add. remove_tags: names. add_properties: to add. Default: none. Raises UserErrorException.
        """
        kept = {name: text for name, text in self.tags.items() if name not in (remove_tags or ())}
        self._change(tags={**kept, **(add_tags or {})}, properties=add_properties)

    def serialize(self) -> dict[str, Any]:
        """The model as the control plane describes it."""
        return dict(self._content)

    def _change(self, **fields: Any) -> None:
        given = {name: value for name, value in fields.items() if value is not None}
        self._take(self._call("PATCH", given))

    def _call(self, method: str, body: object = None, error: type[AzureMLException] = UserErrorException) -> Any:
        """A request about this model. `method`, `body`: of it. `error`: class of the error of a refusal."""
        path = f"{API}/models/{quote(self.name, safe='')}/{self.version}"
        return self.workspace.connection.call(method, path, body, error=error)

    def _take(self, content: dict[str, Any]) -> None:
        self._content = content
        self.id, self.name, self.version = str(content["id"]), str(content["name"]), int(content["version"])
        self.tags: dict[str, str] = dict(content["tags"])
        self.properties: dict[str, str] = dict(content["properties"])
        self.description: str = content["description"]
        self.model_framework: str | None = content["framework"] or None
        self.model_framework_version: str | None = content["frameworkVersion"] or None
        self.created_time = datetime.fromtimestamp(content["created"], UTC)
        self.modified_time = datetime.fromtimestamp(content["modified"], UTC)

    def _fits(self, properties: Iterable[Any] | None, framework: str | None) -> bool:
        return framework in (None, self.model_framework) and _has(self.properties, properties)

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, id={self.id!r}, version={self.version}, tags={self.tags})"


def _made(workspace: ConnectedWorkspace, content: dict[str, Any]) -> Model:
    made = object.__new__(Model)
    made.workspace = workspace
    made._take(content)
    return made


def _found(workspace: ConnectedWorkspace, name: str, version: int | None) -> dict[str, Any]:
    path = f"{API}/models/{quote(name, safe='')}/{version or 'latest'}"
    found: dict[str, Any] = workspace.connection.call("GET", path, error=ModelNotFoundException)
    return found


def _files(path: Path, child_paths: Sequence[str] | None) -> list[Any]:
    try:
        files = local_model_files(path)
    except NotAModel as error:
        raise ModelPathNotFoundException(f"model_path: {error}") from None
    if child_paths is None:
        return files
    wanted = tuple(child.strip("/") for child in child_paths)
    inner = [(file, file.path.partition("/")[2]) for file in files]
    kept = [file for file, rest in inner if any(rest == each or rest.startswith(f"{each}/") for each in wanted)]
    if not kept:
        raise ModelPathNotFoundException(f"child_paths: {list(child_paths)} names nothing in {path}")
    return kept


def _has(texts: dict[str, str], wanted: Iterable[Any] | None) -> bool:
    pairs = [(each, None) if isinstance(each, str) else (each[0], each[1]) for each in wanted or ()]
    return all(key in texts and value in (None, texts[key]) for key, value in pairs)


def _below(top: Path, path: str) -> Path:
    place = Path(os.path.realpath(top / path))
    if not place.is_relative_to(top):
        raise UserErrorException(f"the model has a file with a path outside its folder: {path!r}")
    return place
