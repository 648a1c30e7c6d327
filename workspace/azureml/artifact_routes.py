"""Routes of artifacts, their content, and assets."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from controlplane.rest_guard import Handler
from workspace.artifacts import Artifact, ArtifactRegistry, Asset
from workspace.azureml.azure_errors import AzureError, bad_request
from workspace.azureml.blob_signature import READ, WRITE, check_signature, signed_path
from workspace.azureml.block_uploads import MAX_BLOCK_BYTES, BlockUploads
from workspace.azureml.operation_answer import iso
from workspace.azureml.wire import ARTIFACTS, MODEL_MANAGEMENT, Now, base_url, mapping_of, route
from workspace.relative_paths import path_fault
from workspace.store.file_store import Blob, FileStore

BLOBS: Final = "/azureml/blobs"
CHUNK_BYTES = 256 * 1024
MAX_PATHS = 1000
MAX_LIST_BYTES = 8 * 1024 * 1024

OPERATIONS: Final = (
    route(
        "CreateArtifacts", "POST", ARTIFACTS + "/batch/metadata/{origin}/{container}", "Announce artifacts", "artifact"
    ),
    route("GetArtifact", "GET", ARTIFACTS + "/metadata/{origin}/{container}/{path}", "One artifact", "artifact"),
    route(
        "GetArtifactAddress",
        "GET",
        ARTIFACTS + "/contentinfo/{origin}/{container}/{path}",
        "Address of the content of an artifact",
        "artifact",
    ),
    route(
        "ListArtifactAddresses",
        "GET",
        ARTIFACTS + "/prefix/contentinfo/{origin}/{container}/{path}",
        "Addresses of the artifacts below a prefix",
        "artifact",
    ),
    route("PutBlob", "PUT", BLOBS + "/{path}", "Content of an artifact, or a block of it", "artifact"),
    route("GetBlob", "GET", BLOBS + "/{path}", "Content of an artifact", "artifact"),
    route("HeadBlob", "HEAD", BLOBS + "/{path}", "Size of an artifact", "artifact"),
    route("CreateAsset", "POST", MODEL_MANAGEMENT + "/assets", "Register an asset", "asset"),
    route("GetAsset", "GET", MODEL_MANAGEMENT + "/assets/{asset}", "One asset", "asset"),
)


class ArtifactRoutes:
    """Handlers of artifacts, blobs and assets."""

    def __init__(
        self, store: FileStore, artifacts: ArtifactRegistry, wall: Now, clock: Callable[[], float], key: bytes
    ) -> None:
        """Handlers over a store.

        store: of the content. artifacts: the registry.
        wall: unix seconds. clock: seconds. key: secret of the signatures, for the life of this process.
        """
        self._store = store
        self._artifacts = artifacts
        self._wall = wall
        self._key = key
        self._uploads = BlockUploads(store, clock)

    def handlers(self) -> dict[str, Handler]:
        """Handler by id of OPERATIONS."""
        handlers = (
            *(self.create, self.get, self.address, self.addresses),
            *(self.put_blob, self.get_blob, self.get_blob, self.create_asset, self.get_asset),
        )
        return {operation.id: handler for operation, handler in zip(OPERATIONS, handlers, strict=True)}

    async def close(self) -> None:
        """Give up unfinished uploads."""
        await self._uploads.close()

    # ---- artifacts

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Addresses for new artifacts; each exists once its content is there."""
        paths = _paths(await mapping_of(request))
        origin, container = request.match_info["origin"], request.match_info["container"]
        found, addresses = {}, {}
        for path in paths:
            if fault := path_fault(path):
                raise bad_request(f"paths: {path[:80]!r}: {fault}", "paths")
            found[path] = _named(origin, container, path)
            addresses[path] = {**found[path], "contentUri": self._address(request, found[path]["artifactId"], WRITE)}
        return web.json_response({"artifacts": found, "artifactContentInformation": addresses, "errors": {}})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One artifact."""
        return web.json_response(_artifact_object(await self._found(request)))

    async def address(self, request: web.Request) -> web.StreamResponse:
        """Address of the content of one artifact."""
        artifact = await self._found(request)
        return web.json_response(
            {**_artifact_object(artifact), "contentUri": self._address(request, artifact.id, READ)}
        )

    async def addresses(self, request: web.Request) -> web.StreamResponse:
        """Addresses below a prefix."""
        match = request.match_info
        found = await self._artifacts.list(f"{match['origin']}/{match['container']}/{match['path']}")
        value = [{**_artifact_object(each), "contentUri": self._address(request, each.id, READ)} for each in found]
        return web.json_response({"value": value, "continuationToken": None})

    # ---- content

    async def put_blob(self, request: web.Request) -> web.StreamResponse:
        """Content of an artifact: whole, as a block, or as the list of its blocks."""
        artifact = request.match_info["path"]
        check_signature(self._key, artifact, WRITE, request.query, self._wall())
        match request.query.get("comp"):
            case None:
                await self._put(artifact, await self._received(request))
            case "block":
                content = await _limited(request, MAX_BLOCK_BYTES)
                await self._uploads.add(artifact, request.query.get("blockid", ""), content)
            case "blocklist":
                listed = (await _limited(request, MAX_LIST_BYTES)).decode("utf-8", "replace")
                await self._put(artifact, await self._uploads.finish(artifact, listed))
            case other:
                raise bad_request(f"comp: must be block or blocklist (got {other[:80]!r})", "comp")
        return web.Response(status=201, headers={"x-ms-request-server-encrypted": "false"})

    async def get_blob(self, request: web.Request) -> web.StreamResponse:
        """Content of an artifact, streamed."""
        identifier = request.match_info["path"]
        check_signature(self._key, identifier, READ, request.query, self._wall())
        artifact = await self._artifacts.get(*_parts(identifier))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = artifact.size_bytes
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        file = await asyncio.to_thread(self._store.open_blob, artifact.sha256)
        try:
            await response.prepare(request)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await response.write(chunk)
        finally:
            await asyncio.to_thread(file.close)
        return response

    async def _put(self, identifier: str, blob: Blob) -> None:
        origin, container, path = _parts(identifier)
        await self._artifacts.put(origin, container, path, blob)

    async def _received(self, request: web.Request) -> Blob:
        """The body as a blob. Raises StoreError, ControlError; then nothing is stored."""
        announced = request.content_length
        await asyncio.to_thread(self._store.check_room, announced or 0)
        writer = await asyncio.to_thread(self._store.new_blob)
        try:
            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                await asyncio.to_thread(writer.write, chunk)
            return await asyncio.to_thread(writer.finish, None, announced)
        finally:
            await asyncio.to_thread(writer.abort)

    # ---- assets

    async def create_asset(self, request: web.Request) -> web.StreamResponse:
        """Register an asset."""
        payload = await mapping_of(request)
        artifacts = payload.get("artifacts")
        prefixes = [_prefix(each) for each in artifacts] if isinstance(artifacts, list) else []
        asset = await self._artifacts.create_asset(str(payload.get("name") or ""), prefixes)
        return web.json_response(_asset_object(asset))

    async def get_asset(self, request: web.Request) -> web.StreamResponse:
        """One asset."""
        return web.json_response(_asset_object(await self._artifacts.asset(request.match_info["asset"])))

    async def _found(self, request: web.Request) -> Artifact:
        match = request.match_info
        return await self._artifacts.get(match["origin"], match["container"], match["path"])

    def _address(self, request: web.Request, artifact: str, right: str) -> str:
        return f"{base_url(request)}{BLOBS}/{signed_path(self._key, artifact, right, self._wall())}"


async def _limited(request: web.Request, most: int) -> bytes:
    """A body of limited size. Raises AzureError."""
    refused = AzureError(413, "RequestBodyTooLarge", f"the body must have at most {most} bytes")
    if (request.content_length or 0) > most:
        raise refused
    content = bytearray()
    async for chunk in request.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) > most:
            raise refused
    return bytes(content)


def _paths(payload: dict[str, Any]) -> list[str]:
    entries = payload.get("paths")
    if not isinstance(entries, list) or len(entries) > MAX_PATHS:
        raise bad_request(f"paths: must be a list of at most {MAX_PATHS} entries", "paths")
    paths = [each.get("path") if isinstance(each, dict) else None for each in entries]
    for place, path in enumerate(paths):
        if not isinstance(path, str):
            raise bad_request(f"paths[{place}].path: must be text", f"paths[{place}].path")
    return [str(path) for path in paths]


def _prefix(entry: Any) -> str:
    found = (entry.get("prefix") or entry.get("id")) if isinstance(entry, dict) else None
    if not isinstance(found, str) or found.count("/") < 2:
        raise bad_request("artifacts: each must have a prefix: origin/container/path", "artifacts")
    return found


def _parts(identifier: str) -> tuple[str, str, str]:
    origin, _, rest = identifier.partition("/")
    container, _, path = rest.partition("/")
    return origin, container, path


def _named(origin: str, container: str, path: str) -> dict[str, Any]:
    return {
        "artifactId": f"{origin}/{container}/{path}",
        "origin": origin,
        "container": container,
        "path": path,
        "etag": None,
    }


def _artifact_object(artifact: Artifact) -> dict[str, Any]:
    return {**_named(artifact.origin, artifact.container, artifact.path), "createdTime": iso(artifact.created)}


def _asset_object(asset: Asset) -> dict[str, Any]:
    return {
        "id": asset.id,
        "name": asset.name,
        "type": None,
        "description": None,
        "artifacts": [{"prefix": prefix} for prefix in asset.prefixes],
        "kvTags": {},
        "properties": {},
        "runid": None,
        "meta": {},
        "createdTime": iso(asset.created),
    }
