"""Operations that other packages add to the REST API: behind the same guards, audit log and OpenAPI document."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from controlplane.control_errors import NotAvailableHere
from controlplane.openapi import Operation
from controlplane.rest_guard import Handler


@dataclass(frozen=True, slots=True)
class RouteSet:
    """Operations with their handlers. A handler raises ControlError for errors in the common form."""

    operations: tuple[Operation, ...]
    handlers: Mapping[str, Handler]
    """Handler by operation id."""
    records: tuple[type, ...] = ()
    """Records of msgspec that the operations name as schemas; `Answer` at the end of a class name is left out."""

    def unavailable(self, reason: str) -> "RouteSet":
        """The same operations, each refused with 501 and `reason`."""

        async def refuse(request: web.Request) -> web.StreamResponse:
            raise NotAvailableHere(reason)

        return RouteSet(self.operations, {operation.id: refuse for operation in self.operations}, self.records)
