"""Files of the code that a client has uploaded: entry script and source directory."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from workspace.archives import unpacked
from workspace.artifacts import Artifact, ArtifactRegistry
from workspace.azureml.azure_errors import AzureError
from workspace.azureml.image_request import ImageAsset, ImageRequest, inner_script, script_in_driver
from workspace.deployments.records import SourceFile
from workspace.store.file_store import Blob, FileStore

MAX_DRIVER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UploadedCode:
    """The code of one version."""

    script: str
    """Relative to the source directory."""
    files: tuple[SourceFile, ...]


class SourceAssets:
    """Reads uploaded assets."""

    def __init__(self, store: FileStore, artifacts: ArtifactRegistry) -> None:
        """`store`: of the content. `artifacts`: names of the content."""
        self._store = store
        self._artifacts = artifacts

    async def code_of(self, image: ImageRequest) -> UploadedCode:
        """Entry script and files. Raises AzureError, ControlError.

        A source directory comes as one archive with the folder inside; a script without one comes as a file.
        """
        files: dict[str, Blob] = {}
        for asset in image.sources:
            for path, blob in (await self._files(asset)).items():
                if files.setdefault(path, blob) != blob:
                    raise AzureError(400, "BadRequest", f"assets: two uploads hold a file '{path}'")
        script = image.named_script or await self._script_of_driver(image)
        folder, inner = inner_script(script, list(files))
        start = f"{folder}/" if folder else ""
        found = tuple(
            SourceFile(path.removeprefix(start), blob.sha256, blob.size_bytes) for path, blob in sorted(files.items())
        )
        return UploadedCode(inner, found)

    async def _files(self, asset: ImageAsset) -> Mapping[str, Blob]:
        artifact = await self._artifact(asset)
        blob = Blob(artifact.sha256, artifact.size_bytes)
        if asset.is_archive:
            return await asyncio.to_thread(unpacked, self._store, blob)
        return {artifact.path.rpartition("/")[2]: blob}

    async def _script_of_driver(self, image: ImageRequest) -> str:
        if image.driver is None:
            raise AzureError(400, "NoEntryScript", "environmentImageRequest: names no entry script")
        artifact = await self._artifact(image.driver)
        if artifact.size_bytes > MAX_DRIVER_BYTES:
            raise AzureError(400, "BadRequest", f"driverProgram: must have at most {MAX_DRIVER_BYTES} bytes")
        text = await asyncio.to_thread(self._read, artifact.sha256)
        script = script_in_driver(text)
        if script is None:
            raise AzureError(400, "NoEntryScript", "driverProgram: names no entry script")
        return script

    async def _artifact(self, asset: ImageAsset) -> Artifact:
        origin, container, path = asset.artifact.split("/", 2)
        return await self._artifacts.get(origin, container, path)

    def _read(self, sha256: str) -> str:
        with self._store.open_blob(sha256) as file:
            return file.read().decode("utf-8", "replace")
