"""`environmentImageRequest` of Azure ML v1: entry script, uploaded assets, models, environment. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workspace.azureml.azure_errors import AzureError, bad_request

PREFIX = "aml://artifact/"
FIELD = "environmentImageRequest"
ENTRY_SCRIPT = "AZUREML_ENTRY_SCRIPT"
SOURCE_DIRECTORY = "AZUREML_SOURCE_DIRECTORY"
_USER_SCRIPT = re.compile(r"script_location\s*=.*?,\s*(['\"])(?P<path>.+?)\1\s*\)")
_MODEL_ID = re.compile(r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}):(?P<version>[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class ImageAsset:
    """One uploaded file of the code."""

    artifact: str
    """`origin/container/path`."""
    is_archive: bool = False
    """True: a tar or zip file with the source directory."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The code, models and environment of one version."""

    driver: ImageAsset | None
    """The generated Python file that imports the script; None: not sent."""
    sources: tuple[ImageAsset, ...]
    models: tuple[tuple[str, int], ...]
    """(name, version) each."""
    environment: Mapping[str, Any] | None = None
    """As sent; None: none."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Environment variables of the environment."""

    @property
    def named_script(self) -> str | None:
        """The entry script that the variables name, from the root of the assets; None: the driver names it."""
        named = self.variables.get(ENTRY_SCRIPT)
        return named.replace("\\", "/").lstrip("/") if isinstance(named, str) and named else None


def read_image_request(content: Any) -> ImageRequest:
    """The parts of an `environmentImageRequest`. Raises AzureError naming the field."""
    if not isinstance(content, dict):
        raise bad_request(f"{FIELD}: must be a mapping with driverProgram, assets, modelIds, environment", FIELD)
    driver_id = content.get("driverProgram")
    driver, sources = None, []
    for place, asset in enumerate(_list(content, "assets")):
        found = _asset(asset, f"{FIELD}.assets[{place}]")
        if asset.get("id") == driver_id or (asset.get("mimeType") == "application/x-python" and not found.is_archive):
            driver = found
        else:
            sources.append(found)
    environment = content.get("environment")
    if not isinstance(environment, dict | None):
        raise bad_request(f"{FIELD}.environment: must be a mapping", f"{FIELD}.environment")
    variables = (environment or {}).get("environmentVariables") or {}
    if not isinstance(variables, dict):
        where = f"{FIELD}.environment.environmentVariables"
        raise bad_request(f"{where}: must be a mapping of text to text", where)
    if not sources:
        raise AzureError(
            400,
            "NoEntryScript",
            f"{FIELD}.assets: must hold the entry script. Deployments without code (a model with a framework and no"
            " InferenceConfig) are not supported: pass an InferenceConfig with an entry script",
        )
    return ImageRequest(driver, tuple(sources), read_model_ids(_list(content, "modelIds")), environment, variables)


def read_model_ids(ids: Sequence[Any]) -> tuple[tuple[str, int], ...]:
    """Ids `name:version` as pairs, each once. Raises AzureError."""
    found = []
    for place, each in enumerate(ids):
        matched = _MODEL_ID.fullmatch(each) if isinstance(each, str) else None
        if matched is None:
            where = f"{FIELD}.modelIds[{place}]"
            raise bad_request(f"{where}: must be the id of a model, name:version (got {str(each)[:80]!r})", where)
        found.append((matched["name"], int(matched["version"])))
    return tuple(dict.fromkeys(found))


def script_in_driver(text: str) -> str | None:
    """The user's script that a generated driver imports, from the root of the assets; None: not found."""
    matched = _USER_SCRIPT.search(text)
    return matched["path"].replace("\\", "/").lstrip("/") if matched else None


def inner_script(script: str, paths: Sequence[str]) -> tuple[str, str]:
    """(folder, script): the uploaded source directory and the script in it.

    script: from the root of the assets, e.g. `src/score.py`.
    paths: of the uploaded files, from the same root. When all are in one folder, that is the source directory; else
    the folder is "". Raises AzureError if the script is not among them.
    """
    normal = re.sub(r"/(\./)+|//+", "/", script.removeprefix("./"))
    if normal not in paths:
        shown = ", ".join(sorted(paths)[:10])
        raise AzureError(
            400, "EntryScriptNotFound", f"entry script: '{normal}' is not among the uploaded files: {shown or 'none'}"
        )
    top = normal.partition("/")[0]
    if "/" in normal and all(path.startswith(f"{top}/") for path in paths):
        return top, normal.removeprefix(f"{top}/")
    return "", normal


def _asset(asset: Any, where: str) -> ImageAsset:
    url = asset.get("url") if isinstance(asset, dict) else None
    if not isinstance(url, str) or not url.startswith(PREFIX) or url.removeprefix(PREFIX).count("/") < 2:
        raise bad_request(f"{where}.url: must be {PREFIX}origin/container/path (got {str(url)[:80]!r})", f"{where}.url")
    return ImageAsset(url.removeprefix(PREFIX), is_archive=asset.get("unpack") is True)


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list | None):
        raise bad_request(f"{FIELD}.{key}: must be a list", f"{FIELD}.{key}")
    return value or []
