"""Facts from the records of operations: origin of versions, failed endpoints, records to drop. Pure."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from workspace.deployments.records import DeploymentRecord, FailedEndpoint, OperationKind, OperationState, Provenance

MOST_ENDED = 1000
"""Records of ended operations that are kept besides those in use."""
PATH_FIELDS = ("sourceDirectory", "modelDir", "entryScript")


def provenance(
    document: Mapping[str, Any],
    operation_of: Callable[[str], str | None],
    records: Mapping[str, DeploymentRecord],
) -> list[Provenance]:
    """The origin of each version of a declared document that was deployed by an operation.

    document: the declared object. operation_of: path -> id of the operation that has made it. records: by id.
    """
    found = []
    for entry in document["spec"]["versions"]:
        replica = entry["replica"]
        record = records.get(operation_of(replica.get("sourceDirectory") or "") or "")
        if record is None or record.request is None:
            continue
        operation, request = record.operation, record.request
        environment = request.environment
        found.append(
            Provenance(
                endpoint=operation.endpoint,
                version=entry["name"],
                operation=operation.id,
                deployed=operation.ended or operation.created,
                source=request.source,
                entry_script=str(PurePath(replica["entryScript"]).relative_to(replica["sourceDirectory"])),
                models=request.models,
                environment_key=record.environment_key,
                environment_name="" if environment is None else environment.name,
                environment_version="" if environment is None else environment.version,
            )
        )
    return found


def paths_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The paths that the versions of a declared document name."""
    for version in document["spec"]["versions"]:
        yield from filter(None, (version["replica"].get(field) for field in PATH_FIELDS))


def failed_endpoints(records: Iterable[DeploymentRecord], known: Collection[str]) -> tuple[FailedEndpoint, ...]:
    """Endpoints whose deployment has failed and that do not exist, by name.

    records: of ended operations, oldest first. known: names of endpoints that are declared or being deployed.
    """
    found: dict[str, FailedEndpoint] = {}
    for record in records:
        operation, request = record.operation, record.request
        if operation.kind is not OperationKind.CREATE or request is None or operation.endpoint in known:
            continue
        found.pop(operation.endpoint, None)
        if operation.state is not OperationState.SUCCEEDED and record.base is None and not record.dismissed:
            found[operation.endpoint] = FailedEndpoint(operation.endpoint, request.document, operation)
    return tuple(found[name] for name in sorted(found))


def surplus(records: Iterable[DeploymentRecord], used: Collection[str], keep: int = MOST_ENDED) -> list[str]:
    """Ids of the oldest records beyond the number to keep.

    records: of ended operations, oldest first. used: ids that are kept in any case. keep: number; default MOST_ENDED.
    """
    others = [record.id for record in records if record.id not in used]
    return others[: max(0, len(others) - keep)]
