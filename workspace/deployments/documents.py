"""Declared documents in the course of a deployment: completed, declared without traffic, merged, taken back. Pure."""

import copy
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

Document = Mapping[str, Any]
SPLIT_FIELDS = frozenset({"trafficPercentile", "isDefault", "type"})
"""Fields of a version that the routers apply, without effect on its replicas."""


def version_of(document: Document, name: str) -> dict[str, Any] | None:
    """The entry of one version, or None."""
    return next((each for each in document["spec"]["versions"] if each.get("name") == name), None)


def with_replica(document: Document, version: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with fields added to the replica of one version.

    document: the declared object. version: name. fields: name -> value; None: left out.
    """
    changed = copy.deepcopy(dict(document))
    if (entry := version_of(changed, version)) is not None:
        given = {name: value for name, value in fields.items() if value is not None}
        entry["replica"] = {**(entry.get("replica") or {}), **given}
    return changed


def placed(
    document: Document, version: str, source: PurePath, model_dir: PurePath | None, interpreter: PurePath | None
) -> dict[str, Any]:
    """A copy in which the replica of `version` names its files.

    document: as requested, with an entry script relative to the source.
    version: the deployed one.
    source: folder of the source. model_dir: folder of the models; None: none.
    interpreter: of its environment; None: that of scorefront.
    """
    entry = version_of(document, version) or {}
    script = str((entry.get("replica") or {}).get("entryScript") or "")
    return with_replica(
        document,
        version,
        {
            "entryScript": str(source / script),
            "sourceDirectory": str(source),
            "modelDir": None if model_dir is None else str(model_dir),
            "environment": None if interpreter is None else str(interpreter),
        },
    )


def without_traffic(current: Document, wanted: Document, version: str) -> dict[str, Any]:
    """The current declaration with a new version of `wanted` added that gets no traffic: it serves nobody until it is
    ready."""
    changed = copy.deepcopy(dict(current))
    if (entry := version_of(wanted, version)) is not None:
        quiet = {name: value for name, value in copy.deepcopy(entry).items() if name not in SPLIT_FIELDS}
        others = [each for each in changed["spec"]["versions"] if each.get("name") != version]
        changed["spec"]["versions"] = [*others, quiet]
    return changed


def merged(current: Document, base: Document | None, wanted: Document, version: str) -> dict[str, Any]:
    """The declaration to make: `wanted`, unless others have changed the endpoint since `base`; then only `version`.

    current: as declared now. base: as declared before the operation; None: not declared.
    wanted: as requested. version: the deployed one; "": the whole endpoint is wanted.
    """
    if not version or base is None or _without(current, version) == _without(base, version):
        return copy.deepcopy(dict(wanted))
    entry = version_of(wanted, version)
    changed = copy.deepcopy(dict(current))
    if entry is None:
        return changed
    versions = changed["spec"]["versions"]
    for other in versions:
        if entry.get("isDefault"):
            other["isDefault"] = False
        if entry.get("type") == "Control":
            other["type"] = "Treatment"
    return _with_entry(changed, version, copy.deepcopy(entry))


def taken_back(current: Document, declared: Document, base: Document, version: str) -> dict[str, Any]:
    """The declaration after a failed operation: `base`, unless others have changed it; then only `version` goes back.

    current: as declared now. declared: by the operation. base: as declared before.
    version: the deployed one; "": the whole endpoint.
    """
    if not version or current == declared or _without(current, version) == _without(base, version):
        return copy.deepcopy(dict(base))
    return _with_entry(copy.deepcopy(dict(current)), version, copy.deepcopy(version_of(base, version)))


def changed_versions(base: Document | None, wanted: Document) -> tuple[str, ...]:
    """Names of the versions of `wanted` whose replicas may differ from those of `base`."""
    before = {} if base is None else {each["name"]: _for_replicas(each) for each in base["spec"]["versions"]}
    return tuple(each["name"] for each in wanted["spec"]["versions"] if before.get(each["name"]) != _for_replicas(each))


def _with_entry(document: dict[str, Any], version: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """The document with the entry of `version` replaced or added; None: removed."""
    versions = document["spec"]["versions"]
    names = [each.get("name") for each in versions]
    if entry is None:
        document["spec"]["versions"] = [each for each in versions if each.get("name") != version]
    elif version in names:
        versions[names.index(version)] = entry
    else:
        versions.append(entry)
    return document


def _without(document: Document, version: str) -> dict[str, Any]:
    """Everything but one version."""
    spec = document["spec"]
    others = [each for each in spec["versions"] if each.get("name") != version]
    return {**document, "spec": {**spec, "versions": others}}


def _for_replicas(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in SPLIT_FIELDS}
