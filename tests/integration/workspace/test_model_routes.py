"""REST of blobs and models, each answer compared with the OpenAPI document."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import validate

from controlplane.control_token import ControlToken
from controlplane.rest import RestSettings, build_app
from controlplane.route_sets import unavailable
from scorefront.exposition import Exposition
from scorefront.ports.timed_port import app_runner
from tests.fakes.clock import VirtualClock
from tests.fakes.plane import Bench
from tests.integration.controlplane.test_openapi import Contract
from workspace.model_routes import MODEL_OPERATIONS, model_routes
from workspace.models.model_answers import RECORDS
from workspace.models.model_registry import ModelRegistry
from workspace.store.file_store import FileStore

ABC = hashlib.sha256(b"abc").hexdigest()
BLOB = f"/api/v1/blobs/{ABC}"
MODELS = "/api/v1/models"


class Served:
    """A client of the API with models, and the parts behind it."""

    def __init__(self, folder: Path, settings: RestSettings) -> None:
        self.folder = folder / "store"
        self.store = FileStore(self.folder)
        self.models = ModelRegistry(self.store, VirtualClock().wall)
        routes = model_routes(self.store, self.models)
        app = build_app(Bench(folder).plane.endpoints, settings, Exposition().render, more=(routes,))
        self.client: TestClient[Any, Any] = TestClient(TestServer(app))

    async def upload(self, data: bytes = b"abc") -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        answer = await self.client.put(f"/api/v1/blobs/{sha256}", data=io.BytesIO(data))
        assert answer.status == 200, await answer.text()
        return sha256

    async def register(self, name: str = "iris", path: str = "model.pkl", data: bytes = b"abc", **fields: Any) -> Any:
        body = {"name": name, "files": [{"path": path, "sha256": await self.upload(data)}], **fields}
        answer = await self.client.post(MODELS, json=body)
        assert answer.status == 201, await answer.text()
        return await answer.json()

    def visible(self) -> list[str]:
        """Files in the store besides its format and the folder of uploads."""
        files = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path) for path in files if path.name != "format.json")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path, RestSettings())
    await served.client.start_server()
    yield served
    await served.client.close()


async def refused(answer: Any, status: int, code: str, text: str) -> None:
    body = await answer.json()
    assert (answer.status, body["error"]["code"]) == (status, code), body
    assert text in body["error"]["message"]


async def test_a_model_is_registered_listed_shown_read_changed_and_deleted(api: Served) -> None:
    contract = Contract(await (await api.client.get("/openapi.json")).json())
    at = f"{MODELS}/{{name}}/{{version}}"
    await contract.judge("HEAD", "/api/v1/blobs/{sha256}", await api.client.head(BLOB))
    put = await api.client.put(BLOB, data=b"abc")
    assert await put.json() == {"sha256": ABC, "sizeBytes": 3}
    await contract.judge("PUT", "/api/v1/blobs/{sha256}", put)
    assert (await api.client.head(BLOB)).status == 200
    body = {"name": "iris", "files": [{"path": "a/model.pkl", "sha256": ABC}], "tags": {"a": "b"}, "framework": "Onnx"}
    made = await api.client.post(MODELS, json=body)
    assert made.status == 201
    await contract.judge("POST", MODELS, made)
    listed = await api.client.get(MODELS)
    await contract.judge("GET", MODELS, listed)
    assert [each["id"] for each in (await listed.json())["value"]] == ["iris:1"]
    shown = await api.client.get(f"{MODELS}/iris/1")
    await contract.judge("GET", at, shown)
    assert (await shown.json())["files"] == [{"path": "a/model.pkl", "sha256": ABC, "sizeBytes": 3}]
    assert await (await api.client.get(f"{MODELS}/iris/latest")).json() == await shown.json()
    read = await api.client.get(f"{MODELS}/iris/1/files/a/model.pkl")
    assert await read.read() == b"abc" and read.headers["ETag"] == f'"{ABC}"'
    assert read.headers["Content-Disposition"] == "attachment; filename*=UTF-8''model.pkl"
    changed = await api.client.patch(f"{MODELS}/iris/1", json={"tags": {}, "description": "x"})
    await contract.judge("PATCH", at, changed)
    assert (await changed.json())["description"] == "x"
    gone = await api.client.delete(f"{MODELS}/iris/1")
    await contract.judge("DELETE", at, gone)
    assert gone.status == 204
    await contract.judge("GET", at, await api.client.get(f"{MODELS}/iris/1"))


async def test_the_document_with_models_is_valid_openapi(api: Served) -> None:
    document = await (await api.client.get("/openapi.json")).json()
    validate(document)
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert {(each.method, each.path) for each in MODEL_OPERATIONS} <= listed


async def test_a_listing_is_selected_by_name_tag_and_latest(api: Served) -> None:
    await api.register(tags={"a": "1"})
    await api.register(tags={"a": "2", "b": ""})
    await api.register("wine")
    wanted = {
        "": ["iris:2", "iris:1", "wine:1"],
        "?name=iris": ["iris:2", "iris:1"],
        "?latest=true": ["iris:2", "wine:1"],
        "?tag=a": ["iris:2", "iris:1"],
        "?tag=a=2&tag=b": ["iris:2"],
        "?name=none": [],
    }
    for query, ids in wanted.items():
        found = await (await api.client.get(MODELS + query)).json()
        assert [each["id"] for each in found["value"]] == ids, query


async def test_registrations_of_two_clients_at_once_get_a_version_each(api: Served) -> None:
    made = await asyncio.gather(*(api.register() for _ in range(20)))
    assert sorted(model["version"] for model in made) == list(range(1, 21))


async def test_a_body_with_another_digest_leaves_nothing(api: Served) -> None:
    await refused(await api.client.put(BLOB, data=b"abd"), 400, "InvalidUpload", f"not {ABC}")
    assert api.visible() == []


@pytest.mark.parametrize("length", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
async def test_an_upload_broken_off_leaves_nothing(api: Served, length: bytes) -> None:
    assert api.client.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.port)
    writer.write(b"PUT " + BLOB.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n")
    writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    await writer.drain()
    await until(lambda: len(api.visible()) == 1)  # its file under construction
    writer.close()
    await until(lambda: api.visible() == [])
    assert (await api.client.head(BLOB)).status == 404
    await reader.read()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.01)


async def test_a_header_that_announces_a_terabyte_is_refused_at_once(api: Served) -> None:
    assert api.client.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.port)
    writer.write(b"PUT " + BLOB.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)  # noqa: TID251 - no cancellation here
    assert head == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    writer.close()
    assert api.visible() == []


async def test_a_full_disk_is_told_before_the_body(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    await refused(await api.client.put(BLOB, data=b"x" * 5000), 507, "StoreFull", "1000 bytes are free")


@pytest.mark.parametrize("sha256", ["x" * 64, "A" * 64, "ab", "..%2f..%2fetc"])
async def test_a_blob_needs_a_digest_as_its_name(api: Served, sha256: str) -> None:
    await refused(await api.client.put(f"/api/v1/blobs/{sha256}", data=b"abc"), 400, "InvalidUpload", "64 digits")
    assert api.visible() == []


async def test_a_compressed_body_is_refused(api: Served) -> None:
    answer = await api.client.put(BLOB, data=b"abc", headers={"Content-Encoding": "gzip"})
    assert answer.status == 400 and api.visible() == []


BAD_BODIES: dict[str, dict[str, Any]] = {
    "name: must have": {"name": "../x"},
    "files: must be 1": {"files": []},
    "must be a relative path": {"files": [{"path": "../../x", "sha256": ABC}]},
    "must be a relative path ": {"files": [{"path": "/etc/passwd", "sha256": ABC}]},
    "sha256": {"files": [{"path": "x", "sha256": "../../x"}]},
    "unknown field `version`": {"version": 7},
    "$.tags": {"tags": {"a": 1}},
    "occurs twice": {"files": [{"path": "x", "sha256": ABC}, {"path": "x", "sha256": ABC}]},
}


@pytest.mark.parametrize("text", BAD_BODIES)
async def test_an_invalid_registration_is_refused_with_its_field(api: Served, text: str) -> None:
    await api.upload()
    body = {"name": "iris", "files": [{"path": "x", "sha256": ABC}], **BAD_BODIES[text]}
    answer = await api.client.post(MODELS, json=body)
    assert answer.status == 400 and text.strip() in (await answer.json())["error"]["message"]
    assert api.models.list() == []


async def test_a_model_of_a_blob_that_was_not_uploaded_is_refused(api: Served) -> None:
    answer = await api.client.post(MODELS, json={"name": "iris", "files": [{"path": "x", "sha256": ABC}]})
    await refused(answer, 404, "BlobNotFound", f"PUT {BLOB}")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/none/1", 404, "ModelNotFound"),
        ("/iris/2", 404, "ModelNotFound"),
        ("/iris/0", 400, "InvalidModel"),
        ("/iris/x", 400, "InvalidModel"),
        ("/..%2fx/1", 400, "InvalidModel"),
        ("/iris/1/files/none", 404, "FileNotFound"),
        ("/iris/1/files/..%2f..%2fformat.json", 404, "FileNotFound"),
    ],
)
async def test_an_absent_model_or_file_is_named(api: Served, path: str, status: int, code: str) -> None:
    await api.register()
    await refused(await api.client.get(MODELS + path), status, code, "")


async def test_a_model_in_use_is_kept(api: Served) -> None:
    await api.register()
    api.models.ask_users(lambda name, version: ("endpoint iris version blue",))
    await refused(await api.client.delete(f"{MODELS}/iris/1"), 409, "ModelInUse", "endpoint iris version blue")


async def test_large_files_pass_both_ways(api: Served) -> None:
    data = bytes(range(256)) * 20_000
    await api.register(path="ä b.bin", data=data)
    read = await api.client.get(f"{MODELS}/iris/1/files/ä b.bin")
    assert await read.read() == data and read.headers["Content-Disposition"].endswith("''%C3%A4%20b.bin")


@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403)]
)
async def test_pages_of_others_are_refused(api: Served, headers: dict[str, str], status: int) -> None:
    for operation in MODEL_OPERATIONS:
        path = operation.path.format(name="iris", version="1", sha256=ABC, path="x")
        answer = await api.client.request(operation.method, path, headers=headers, data=b"abc")
        assert answer.status == status, operation.id
    assert api.visible() == []


async def test_beyond_loopback_every_operation_needs_the_token(tmp_path: Path) -> None:
    token = "control-token-of-the-test"
    served = Served(tmp_path, RestSettings(loopback=False, authenticators=(ControlToken.fixed(token),)))
    await served.client.start_server()
    for operation in MODEL_OPERATIONS:
        path = operation.path.format(name="iris", version="1", sha256=ABC, path="x")
        assert (await served.client.request(operation.method, path, data=b"abc")).status == 401, operation.id
    assert served.visible() == []
    put = await served.client.put(BLOB, data=b"abc", headers={"Authorization": f"Bearer {token}"})
    assert put.status == 200
    await served.client.close()


async def test_changes_are_in_the_audit_log_with_the_model(api: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "scorefront.audit")
    await api.register()
    await api.client.delete(f"{MODELS}/iris/1")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "scorefront.audit"]
    assert [line["operation"] for line in lines] == ["putBlob", "registerModel", "deleteModel"]
    assert lines[-1]["model"] == "iris" and "endpoint" not in lines[-1]


async def test_operations_that_an_installation_lacks_are_refused_with_the_reason(tmp_path: Path) -> None:
    routes = unavailable(MODEL_OPERATIONS, "models need `scorefront up`", RECORDS)
    app = build_app(Bench(tmp_path).plane.endpoints, RestSettings(), Exposition().render, more=(routes,))
    runner = app_runner(app, 0.1)
    client: TestClient[Any, Any] = TestClient(TestServer(app))
    await client.start_server()
    await refused(await client.get(MODELS), 501, "NotImplemented", "models need `scorefront up`")
    await client.close()
    await runner.cleanup()
