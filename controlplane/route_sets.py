"""Operations that other packages add to the REST API: behind the same guards, audit log and OpenAPI document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from controlplane.control_errors import NotAvailableHere
from controlplane.openapi import Operation
from controlplane.rest_guard import Handler
from controlplane.rights import Right


@dataclass(frozen=True, slots=True)
class RouteSet:
    """Operations with their handlers. A handler raises ControlError for errors in the common form."""

    operations: tuple[Operation, ...]
    handlers: Mapping[str, Handler]
    """Handler by operation id."""
    records: tuple[type, ...] = ()
    """Records of msgspec that the operations name as schemas; `Answer` at the end of a class name is left out."""


def unavailable(operations: Iterable[Operation], reason: str, records: tuple[type, ...] = ()) -> RouteSet:
    """Operations that are refused with 501 to every authenticated caller.

    operations: those that this kind of installation does not have.
    reason: text of the refusal.
    records: schemas that the operations name; default: none.
    """

    async def refuse(request: web.Request) -> web.StreamResponse:
        raise NotAvailableHere(reason)

    refused = tuple(replace(operation, right=Right()) for operation in operations)
    return RouteSet(refused, {operation.id: refuse for operation in refused}, records)
