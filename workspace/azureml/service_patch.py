"""Changes of a service by JSON Patch, in the subset that Azure ML v1 uses: add, replace, remove. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serving.deploymentconfig import APP_INSIGHTS_ENV, PLACES, VERSION, without_null
from serving.faults import Fault, InvalidManifest, Path, shown
from serving.manifest import ScoringEndpoint, parse, to_document
from serving.models import MAX_VERSIONS
from workspace.azureml.azure_errors import AzureError, bad_request, of_faults
from workspace.azureml.image_request import ImageRequest, read_image_request
from workspace.azureml.service_payload import text_map, too_many_versions, version_draft, version_texts, with_code
from workspace.azureml.service_record import AKS, ServiceRecord, VersionTexts, record_of, with_record

MAX_OPERATIONS = 1000
TRACKED = ("azureml.", "mlflow.", "hasHttps", "hasInferenceSchema")
"""Beginnings of the properties that the SDK sends with each call, and that may change."""
_IN_VERSION = re.compile(r"versions\[([0-9]+)\]\.")
_OF_THE_ENDPOINT = frozenset(
    {
        *("authEnabled", "aadAuthEnabled", "appInsightsEnabled", "description", "kvTags", "tags", "properties"),
        *("computeName", "namespace", "location"),
    }
)
"""Settings of an endpoint with named versions."""


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """The result of a patch."""

    document: dict[str, Any]
    """The declared object to be."""
    version: str = ""
    """The version with new code; "": none."""
    image: ImageRequest | None = None
    """The new code of that version; its entry script in `document` is a placeholder."""
    is_new: bool = False
    """True: the version was added."""


@dataclass(slots=True)
class _Draft:
    """A service while the operations of a patch are applied one after the other."""

    name: str
    document: dict[str, Any]
    record: ServiceRecord
    now: str
    version: str = ""
    image: ImageRequest | None = None
    is_new: bool = False
    touched: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    """Version -> paths of its settings that the patch sets."""


def patched(declared: ScoringEndpoint, operations: Any, now: str) -> ServiceChange:
    """The service after a patch.

    declared: as it is now.
    operations: the decoded body: a list of {op, path, value}.
    now: ISO 8601.
    Raises AzureError naming the operation, its value and the rule; rules between settings are checked later.
    """
    if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
        raise bad_request(f"the body must be a list of at most {MAX_OPERATIONS} operations: JSON Patch")
    document = to_document(declared)
    draft = _Draft(declared.metadata.name, document, record_of(document), now)
    for place, operation in enumerate(operations):
        op, path = _operation(operation, place)
        _apply(draft, op, path, operation.get("value"))
    for entry in draft.document["spec"]["versions"]:
        _settle_scaling(entry, draft.touched.get(entry["name"], set()))
    record = replace(draft.record, updated=now)
    return ServiceChange(with_record(draft.document, record), draft.version, draft.image, draft.is_new)


def check_change(change: ServiceChange) -> None:
    """Check the rules between settings. Raises AzureError with every fault, by its path in the payload."""
    try:
        parse(change.document)
    except InvalidManifest as error:
        is_single = record_of(change.document).compute_type == AKS
        names = [entry["name"] for entry in change.document["spec"]["versions"]]
        raise of_faults([_renamed(fault, names, is_single) for fault in error.faults]) from None


def _renamed(fault: Fault, names: Sequence[str], is_single: bool) -> Fault:
    """A fault with its path in the payload.

    fault: by its path in the declared object. names: of the versions, in order. is_single: True for AKS.
    """
    path = fault.path.removeprefix("spec.").replace("tokenAuthEnabled", "aadAuthEnabled")
    if matched := _IN_VERSION.match(path):
        start = "" if is_single else f"versions.{names[int(matched[1])]}."
        path = start + path[matched.end() :]
    return Fault(path, fault.value, fault.rule)


def _operation(operation: Any, place: int) -> tuple[str, tuple[str, ...]]:
    where = f"[{place}]"
    if not isinstance(operation, dict):
        raise bad_request(f"{where}: must be a mapping with op, path, value", where)
    op, path = operation.get("op"), operation.get("path")
    if op not in ("add", "replace", "remove"):
        raise bad_request(f"{where}.op: must be add, replace or remove (got {shown(op)})", f"{where}.op")
    if not isinstance(path, str) or not path.startswith("/") or len(path) < 2:
        raise bad_request(f'{where}.path: must begin with "/" (got {shown(path)})', f"{where}.path")
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))
    if steps[0] == "properties" or steps[2:3] == ("properties",):
        # Names of properties may hold a slash that the SDK does not escape.
        start = 1 if steps[0] == "properties" else 3
        steps = (*steps[:start], *(("/".join(steps[start:]),) if steps[start:] else ()))
    return op, steps


def _apply(draft: _Draft, op: str, path: tuple[str, ...], value: Any) -> None:
    if path[0] != "versions":
        if draft.record.compute_type == AKS or path[0] in _OF_THE_ENDPOINT:
            _set(draft, draft.document["spec"]["versions"][0]["name"], path, op, value)
            return
        raise _unknown(path, "of an endpoint; settings of a version are at /versions/NAME/…")
    if len(path) < 2 or not path[1]:
        raise _unknown(path, "; name a version: /versions/NAME")
    name = path[1]
    if len(path) > 2:
        _entry(draft, name)
        _set(draft, name, path[2:], op, value, inner=True)
    elif op == "remove":
        _remove_version(draft, name)
    else:
        _add_version(draft, name, value)


def _set(draft: _Draft, version: str, path: tuple[str, ...], op: str, value: Any, inner: bool = False) -> None:
    """Set or remove one value.

    draft: changed in place. version: its name. path: within the service or the version.
    op: add, replace or remove. value: ignored by remove.
    inner: True if the path is within a version of an endpoint; default: of the service.
    """
    value = None if op == "remove" else value
    match path:
        case ("environmentImageRequest",):
            _set_code(draft, version, value)
        case ("imageId",):
            raise bad_request("imageId: images of Azure are not run; pass an InferenceConfig with an Environment")
        case ("description",) | ("kvTags" | "tags",) | ("properties",) | ("properties", _):
            _set_texts(draft, version if inner else "", path, op, value)
        case ("appInsightsEnabled",):
            _set_insights(draft, _switch(value, path[0]))
        case ("computeName" | "storageInitEnabled" | "location",):
            pass  # there is one place to run
        case (key, *rest) if key in PLACES and (not inner or PLACES[key][:3] == VERSION):
            _set_setting(draft, version, (key, *rest), value)
        case _:
            raise _unknown((*(("versions", version) if inner else ()), *path), "that can be changed")


def _set_setting(draft: _Draft, version: str, path: tuple[str, ...], value: Any) -> None:
    place = PLACES[path[0]]
    rest = path[1:]
    if place[:3] != VERSION:
        target: Any = draft.document
        inner: Path = place
    else:
        target = _entry(draft, version)
        inner = (*place[3:], *rest)
        draft.touched.setdefault(version, set()).add(tuple(str(step) for step in inner))
        if path[0] == "dataCollection" and rest == ("eventHubEnabled",):
            return
    for step in inner[:-1]:
        target = target.setdefault(step, {})
        if not isinstance(target, dict):
            raise _unknown(path, "that can be changed")
    if value is None:
        target.pop(inner[-1], None)
        return
    if path == ("isDefault",) and value is True:
        _give_up(draft, version, "isDefault", False)
    if path == ("type",) and value == "Control":
        _give_up(draft, version, "type", "Treatment")
    target[inner[-1]] = without_null(value)


def _give_up(draft: _Draft, version: str, role: str, value: Any) -> None:
    """Take a role that one version has from the others.

    draft: changed in place. version: the one that gets it. role: field. value: of the others.
    """
    for entry in draft.document["spec"]["versions"]:
        if entry["name"] != version:
            entry[role] = value


def _set_texts(draft: _Draft, version: str, path: tuple[str, ...], op: str, value: Any) -> None:
    """Set description, tags or properties. `version`: "": of the service."""
    spec = draft.document["spec"]
    texts = (
        draft.record.versions.get(version, VersionTexts())
        if version
        else VersionTexts(spec.get("description", ""), spec.get("kvTags", {}), spec.get("properties", {}))
    )
    match path:
        case ("description",):
            if not isinstance(value, str | None):
                raise bad_request(f"description: must be text (got {shown(value)})", "description")
            texts = replace(texts, description=value or "")
        case ("kvTags" | "tags",):
            texts = replace(texts, tags=text_map(value, path[0]))
        case ("properties",):
            texts = replace(texts, properties=_with_properties(texts.properties, text_map(value, "properties")))
        case (_, name) if op == "remove":
            raise bad_request(f"properties.{name}: properties cannot be removed, only added", f"properties.{name}")
        case (_, name):
            texts = replace(texts, properties=_with_properties(texts.properties, text_map({name: value}, "properties")))
    if version:
        draft.record = draft.record.with_version(version, texts)
    else:
        spec |= {"description": texts.description, "kvTags": dict(texts.tags), "properties": dict(texts.properties)}


def _with_properties(given: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """The properties with further ones. Raises AzureError if one of them has another value already."""
    for name, value in added.items():
        if given.get(name, value) != value and not name.startswith(TRACKED):
            message = (
                f"properties.{name}: is {shown(given[name])} and cannot be changed, only new properties can be added"
                f" (got {shown(value)})"
            )
            raise bad_request(message, f"properties.{name}")
    return {**given, **added}


def _set_insights(draft: _Draft, wanted: bool) -> None:
    """The switch of the endpoint, and that of the server of scripts in the variables of every version with one."""
    draft.document["spec"]["appInsightsEnabled"] = wanted
    for entry in draft.document["spec"]["versions"]:
        replica = entry["replica"]
        if replica.get("entryScript") is None:
            continue
        env = {name: text for name, text in (replica.get("env") or {}).items() if name != APP_INSIGHTS_ENV}
        replica["env"] = {APP_INSIGHTS_ENV: "true", **env} if wanted else env


def _set_code(draft: _Draft, version: str, value: Any) -> None:
    if draft.image is not None:
        raise bad_request("environmentImageRequest: one version can be deployed at a time")
    draft.version, draft.image = version, read_image_request(value)
    entry = _entry(draft, version)
    old = entry["replica"]
    kept = {key: old[key] for key in ("scorePath", "healthPath", "webSocket") if key in old}
    entry["replica"] = {**kept, **with_code(draft.image, "score.py")}


def _add_version(draft: _Draft, name: str, value: Any) -> None:
    versions = draft.document["spec"]["versions"]
    if any(entry["name"] == name for entry in versions):
        raise AzureError(409, "VersionExists", f"versions: endpoint '{draft.name}' has a version '{name}' already")
    if len(versions) >= MAX_VERSIONS:
        raise too_many_versions(draft.name)
    if draft.image is not None:
        raise bad_request("environmentImageRequest: one version can be deployed at a time")
    entry, draft.image = version_draft(draft.name, name, value)
    draft.version, draft.is_new = name, True
    for role, value_of_others in (("isDefault", False), ("type", "Treatment")):
        if entry.get(role) in (True, "Control"):
            _give_up(draft, name, role, value_of_others)
    draft.record = draft.record.with_version(name, version_texts(without_null(value), draft.now))
    versions.append(entry)


def _remove_version(draft: _Draft, name: str) -> None:
    entry = _entry(draft, name)
    versions = draft.document["spec"]["versions"]
    if len(versions) == 1:
        raise bad_request(
            f"versions: '{name}' is the only version of endpoint '{draft.name}'; delete the endpoint instead"
        )
    versions.remove(entry)
    draft.record = draft.record.with_version(name, None)


def _settle_scaling(entry: dict[str, Any], touched: set[tuple[str, ...]]) -> None:
    """Between a fixed number and autoscaling, what the patch sets wins over what was declared before."""
    enabled = ("autoScaler", "autoscaleEnabled")
    scaler = entry.get("autoScaler") or {}
    set_here = {path[1] for path in touched if path[0] == "autoScaler" and len(path) == 2}
    has_number = ("numReplicas",) in touched and entry.get("numReplicas") is not None
    if (enabled in touched and scaler.get("autoscaleEnabled") is False) or (has_number and enabled not in touched):
        entry["autoScaler"] = {key: value for key, value in scaler.items() if key in set_here}
    elif enabled in touched and scaler.get("autoscaleEnabled") is True and ("numReplicas",) not in touched:
        entry.pop("numReplicas", None)


def _entry(draft: _Draft, name: str) -> dict[str, Any]:
    found: dict[str, Any] | None = next(
        (entry for entry in draft.document["spec"]["versions"] if entry["name"] == name), None
    )
    if found is None:
        names = ", ".join(entry["name"] for entry in draft.document["spec"]["versions"])
        raise AzureError(
            404, "VersionNotFound", f"versions: endpoint '{draft.name}' has no version '{name}'; it has {names}"
        )
    return found


def _switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool | None):
        raise bad_request(f"{where}: must be true or false (got {shown(value)})", where)
    return value is True


def _unknown(path: tuple[str, ...], what: str) -> AzureError:
    return bad_request(f"/{'/'.join(path)}: is no setting {what}".replace(" ;", ";"), "/".join(path))
