"""A client of the Azure ML v1 protocol that makes the calls of azureml-core, and the parts behind it."""

import base64
import io
import itertools
import tarfile
from pathlib import Path
from typing import Any, Self

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from controlplane.rest import RestSettings, build_app
from scorefront.exposition import Exposition
from tests.fakes.deployments import SCRIPT, DeploymentBench
from tests.unit.workspace.azureml.payloads import aks
from workspace.artifacts import ArtifactRegistry
from workspace.azureml.protocol import AzureProtocol, WorkspaceParts
from workspace.environments.registry import EnvironmentRegistry
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore

SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
MMS = f"/modelmanagement/v1.0{SCOPE}"
ARTIFACTS = f"/artifact/v2.0{SCOPE}/artifacts"


def archive(files: dict[str, bytes], folder: str = "src") -> bytes:
    """A source directory as the SDK sends it: tar.gz with the folder inside. `files`: path -> content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{path}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


class AzureBench:
    """The protocol over a control plane with fakes around it."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder / "store")
        self.deployments = DeploymentBench(folder / "state")
        clock = self.deployments.bench.clock
        self.models = ModelRegistry(self.store, clock.wall)
        self.artifacts = ArtifactRegistry(self.store, clock.wall)
        self.deployments.blobs = self.store  # type: ignore[assignment]
        self.deployments.models = self.models  # type: ignore[assignment]
        self._numbers = itertools.count(1)

    async def start(self) -> Self:
        await self.deployments.start()
        clock = self.deployments.bench.clock
        endpoints = self.deployments.bench.plane.endpoints
        self.protocol = AzureProtocol(
            WorkspaceParts(
                endpoints=endpoints,
                deployments=self.deployments.service,
                store=self.store,
                models=self.models,
                artifacts=self.artifacts,
                scoring_url="http://127.0.0.1:8080",
                wall=clock.wall,
                clock=clock.now,
                key=b"k" * 32,
                environments=EnvironmentRegistry(self.store, clock.wall),
                builds_environments=self.deployments.builder is not None,
            )
        )
        app = build_app(endpoints, RestSettings(), Exposition().render, more=(self.protocol.routes(),))
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))
        await self.client.start_server()
        return self

    async def stop(self) -> None:
        await self.client.close()
        await self.protocol.close()
        await self.deployments.stop()

    async def call(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """The JSON answer of a call. `request`: as of aiohttp."""
        response = await self.client.request(method, path, **request)
        text = await response.text()
        assert response.status == status, text
        return await response.json() if text else None

    async def mms(self, method: str, path: str, status: int = 200, **request: Any) -> Any:
        """A call of model management."""
        return await self.call(method, MMS + path, status, **request)

    async def address(self, container: str, path: str) -> str:
        """The address to which the content of a new artifact goes."""
        answer = await self.call(
            "POST", f"{ARTIFACTS}/batch/metadata/LocalUpload/{container}", json={"paths": [{"path": path}]}
        )
        assert answer["artifacts"][path]["artifactId"] == f"LocalUpload/{container}/{path}"
        uri: str = answer["artifactContentInformation"][path]["contentUri"]
        return uri.split("/", 3)[3].join(("/", ""))

    async def upload(self, container: str, path: str, data: bytes) -> str:
        """Upload an artifact; returns its address for the environment image request."""
        response = await self.client.put(await self.address(container, path), data=data)
        assert response.status == 201, await response.text()
        return f"aml://artifact/LocalUpload/{container}/{path}"

    async def upload_by_blocks(
        self, address: str, blocks: list[bytes], order: list[int] | None = None
    ) -> ClientResponse:
        """Upload by blocks and commit them. `order`: of the list; default as sent."""
        ids = [base64.b64encode(f"{number:06}".encode()).decode() for number in range(len(blocks))]
        for identifier, block in zip(ids, blocks, strict=True):
            response = await self.client.put(address, params={"comp": "block", "blockid": identifier}, data=block)
            assert response.status == 201, await response.text()
        listed = "".join(f"<Latest>{ids[place]}</Latest>" for place in order or range(len(ids)))
        body = f"<?xml version='1.0'?><BlockList>{listed}</BlockList>"
        return await self.client.put(address, params={"comp": "blocklist"}, data=body.encode())

    async def register(self, name: str, files: dict[str, bytes], prefix: str) -> Any:
        """Register a model as the SDK does. `files`: path -> content. `prefix`: path of the file or folder."""
        container = f"m{next(self._numbers)}"
        for path, data in files.items():
            await self.upload(container, path, data)
        artifacts = [{"prefix": f"LocalUpload/{container}/{prefix}"}]
        asset = await self.mms("POST", "/assets", json={"name": name, "artifacts": artifacts})
        body = {"name": name, "url": f"aml://asset/{asset['id']}", "mimeType": "application/json", "kvTags": {"a": "b"}}
        return await self.mms("POST", "/models", json=body)

    async def image(self, files: dict[str, bytes] | None = None, models: tuple[str, ...] = ()) -> dict[str, Any]:
        """An environment image request of an uploaded source directory."""
        container = f"s{next(self._numbers)}"
        url = await self.upload(container, "1a2b.tar.gz", archive(files or {"score.py": SCRIPT}))
        return {
            "driverProgram": "tmpx.py",
            "assets": [{"id": "1a2b.tar.gz", "url": url, "mimeType": "application/octet-stream", "unpack": True}],
            "modelIds": list(models),
            "environment": {
                "name": "e",
                "version": None,
                "environmentVariables": {"AZUREML_ENTRY_SCRIPT": "src/score.py", "AZUREML_SOURCE_DIRECTORY": "src"},
            },
        }

    async def deploy(self, payload: dict[str, Any]) -> Any:
        """Create a service and wait for its end; returns the operation."""
        response = await self.client.post(f"{MMS}/services", json=payload)
        assert response.status == 202, await response.text()
        return await self.ended(response)

    async def patch(self, name: str, *operations: Any) -> Any:
        """Patch a service and wait; returns the operation."""
        response = await self.client.patch(f"{MMS}/services/{name}", json=list(operations))
        assert response.status == 202, await response.text()
        return await self.ended(response)

    async def ended(self, response: ClientResponse) -> Any:
        """The operation of an accepted request after its end."""
        identifier = response.headers["Operation-Location"].rsplit("/", 1)[1]
        await self.deployments.ended(identifier)
        return await self.mms("GET", f"/operations/{identifier}")

    async def service(self, name: str = "myservice", **settings: Any) -> Any:
        """A deployed service."""
        payload = aks(name, environmentImageRequest=await self.image(), **settings)
        assert (await self.deploy(payload))["state"] == "Succeeded"
        return await self.mms("GET", f"/services/{name}?expand=true")
