"""REST of collected data."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from controlplane import payload
from controlplane.control_errors import InvalidCall, NoSuchEndpoint, StoreUnavailable
from controlplane.openapi import Operation
from controlplane.rights import Right
from controlplane.route_sets import RouteSet
from telemetry.data_reading import DataQuery, read_lines
from telemetry.payload_files import PayloadStore
from telemetry.payload_records import is_collection

CHUNK_BYTES: Final = 262_144
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")
MAX_SINCE: Final = 1e11

OPERATIONS: Final = (
    Operation(
        "getData",
        "GET",
        "/api/v1/endpoints/{name}/data",
        "Collected payloads, one record a line, by hour",
        {200: "application/x-ndjson", 400: "Error", 404: "Error"},
        right=Right("get", "data"),
        query={
            "version": {"type": "string", "description": "only of this version"},
            "collection": {"type": "string", "description": "only this collection, e.g. request"},
            "since": {"type": "number", "minimum": 0, "description": "from this time on, unix seconds"},
        },
    ),
)


def data_routes(store: Callable[[], PayloadStore], is_declared: Callable[[str], bool]) -> RouteSet:
    """The operations with their handlers.

    store: opens the store of the data, blocking; raises StoreError.
    is_declared: True for the name of an endpoint.
    """

    async def get(request: web.Request) -> web.StreamResponse:
        query = _query(request)

        def read() -> Iterator[bytes]:
            yield from read_lines(store(), query)

        lines = read()
        chunk = await _next(lines)
        if not chunk and not is_declared(query.endpoint):
            raise NoSuchEndpoint(query.endpoint)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with contextlib.suppress(StoreUnavailable):  # the client sees the missing end of the body
            while chunk:
                await response.write(chunk)
                chunk = await _next(lines)
            await response.write_eof()
        return response

    return RouteSet(OPERATIONS, {"getData": get})


async def _next(lines: Iterator[bytes]) -> bytes:
    """The next lines; empty at the end. Raises StoreUnavailable."""

    def read() -> bytes:
        chunk = bytearray()
        for line in lines:
            chunk += line
            if len(chunk) >= CHUNK_BYTES:
                break
        return bytes(chunk)

    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise StoreUnavailable(f"the store of collected data: {error.strerror or error}") from error


def _query(request: web.Request) -> DataQuery:
    given = request.query
    payload.only(given, "version", "collection", "since")
    name, version, collection = request.match_info["name"], given.get("version"), given.get("collection")
    if not _NAME.fullmatch(name):
        raise NoSuchEndpoint(name)
    if version is not None and not _NAME.fullmatch(version):
        raise InvalidCall(f"query parameter 'version' must be the name of a version (got {version[:80]!r})")
    if collection is not None and not is_collection(collection):
        raise InvalidCall(f"query parameter 'collection' must be the name of a collection (got {collection[:80]!r})")
    return DataQuery(name, version, collection, _since(given.get("since")))


def _since(text: str | None) -> float | None:
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= MAX_SINCE:
            return float(text)
    raise InvalidCall(f"query parameter 'since' must be unix seconds from 0 to {MAX_SINCE:g} (got {text[:40]!r})")
