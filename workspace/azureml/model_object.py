"""Model objects of Azure ML v1, and the changes of models by JSON Patch. Pure."""

from collections.abc import Mapping
from typing import Any

from serving.faults import shown
from workspace.azureml.azure_errors import bad_request
from workspace.azureml.operation_answer import iso
from workspace.azureml.service_payload import text_map
from workspace.models.model_records import RegisteredModel

ASSET = "aml://asset/"


def model_object(model: RegisteredModel) -> dict[str, Any]:
    """The model as the SDK reads it."""
    resources = model.resources
    return {
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "framework": model.framework or None,
        "frameworkVersion": model.framework_version or None,
        "datasets": [],
        "url": f"{ASSET}{model.asset_id or model.id}",
        "mimeType": "application/json",
        "description": model.description or None,
        "createdTime": iso(model.created),
        "modifiedTime": iso(model.modified),
        "unpack": False,
        "parentModelId": None,
        "runId": None,
        "experimentName": None,
        "kvTags": dict(model.tags),
        "tags": dict(model.tags),
        "properties": dict(model.properties),
        "derivedModelIds": [],
        "sampleInputData": model.sample_input or None,
        "sampleOutputData": model.sample_output or None,
        "resourceRequirements": None
        if resources is None
        else {"cpu": resources.cpu, "memoryInGB": resources.memory_in_gb, "gpu": resources.gpu},
        "createdBy": None,
    }


def asset_id_of(payload: Mapping[str, Any]) -> str:
    """The id of the asset that a model is registered from. Raises AzureError."""
    url = payload.get("url")
    if not isinstance(url, str) or not url.startswith(ASSET) or url == ASSET:
        raise bad_request(f"url: must be {ASSET}ID of a registered asset (got {shown(url)})", "url")
    return url.removeprefix(ASSET)


def model_fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `ModelDraft` but its files. Raises AzureError."""
    texts = {
        "name": "name",
        "description": "description",
        "framework": "framework",
        "framework_version": "frameworkVersion",
        "sample_input": "sampleInputData",
        "sample_output": "sampleOutputData",
    }
    fields: dict[str, Any] = {}
    for field, key in texts.items():
        value = payload.get(key)
        if not isinstance(value, str | None):
            raise bad_request(f"{key}: must be text (got {shown(value)})", key)
        fields[field] = value or ""
    tags = payload.get("kvTags") if payload.get("kvTags") is not None else payload.get("tags")
    return {**fields, "tags": text_map(tags, "kvTags"), "properties": text_map(payload.get("properties"), "properties")}


def model_change(model: RegisteredModel, operations: Any) -> dict[str, Any]:
    """Arguments of `ModelRegistry.update` for a JSON Patch. Raises AzureError naming the operation.

    model: as it is now. operations: the decoded body.
    """
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("the body must be a list of operations: JSON Patch")
    change: dict[str, Any] = {}
    for place, operation in enumerate(operations):
        op, path, value = operation.get("op"), operation.get("path"), operation.get("value")
        if op not in ("add", "replace"):
            raise bad_request(f"[{place}].op: must be add or replace (got {shown(op)})")
        match str(path).split("/", 2):
            case ["", "kvTags" | "tags"]:
                change["tags"] = text_map(value, "kvTags")
            case ["", "kvTags" | "tags", key]:
                change["tags"] = {**change.get("tags", model.tags), **text_map({key: value}, "kvTags")}
            case ["", "properties"]:
                change["properties"] = {**change.get("properties", {}), **text_map(value, "properties")}
            case ["", "properties", key]:
                change["properties"] = {**change.get("properties", {}), **text_map({key: value}, "properties")}
            case ["", "description"] if isinstance(value, str | None):
                change["description"] = value or ""
            case _:
                raise bad_request(f"[{place}].path: must be /kvTags, /properties or /description (got {shown(path)})")
    return change
