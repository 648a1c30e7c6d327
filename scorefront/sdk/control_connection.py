"""Requests of the SDK to the control plane: the Azure ML v1 protocol, and the native REST."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode, urlsplit

from scorefront.http_client import (
    Reply,
    ServerTrust,
    ServerUnreachable,
    UnusableAuthority,
    lines_of,
    read_whole,
    sent,
)
from scorefront.local_models import LocalModelFile
from scorefront.sdk.exceptions import AzureMLException, WorkspaceException

if TYPE_CHECKING:
    from httpcore import Response

DISCOVERY = "/azureml/discovery"
API = "/api/v1"
ANSWER_TIMEOUT_S = 90.0
UPLOAD_TIMEOUT_S = 600.0
"""Longest silence; the control plane writes and checks a large file before it answers."""

Progress = Callable[[int], None]
"""Called with the number of bytes sent or received."""


class ControlConnection:
    """The control plane at one URL. Methods raise WorkspaceException if it does not answer."""

    def __init__(self, url: str, token: str | None, trust: ServerTrust) -> None:
        """A connection; nothing is sent.

        url: `http(s)://HOST:PORT`, or `unix:PATH`.
        token: the control token; None: none is sent.
        trust: verification of the certificate of an https URL.
        """
        self.url = url
        self._token = token
        self._trust = trust
        self._workspace: dict[str, str] | None = None

    @property
    def workspace(self) -> dict[str, str]:
        """subscriptionId, resourceGroup, workspaceName, workspaceId and location of the workspace."""
        if self._workspace is None:
            found = self.call("GET", DISCOVERY, error=WorkspaceException)
            if not isinstance(found, dict) or not isinstance(found.get("workspace"), dict):
                raise WorkspaceException(f"{self.url} is not the control port of a scorefront with a workspace")
            self._workspace = found["workspace"]
        return self._workspace

    @property
    def scope(self) -> str:
        """Path of the workspace in the Azure ML v1 protocol."""
        names = self.workspace
        return (
            f"/subscriptions/{names['subscriptionId']}/resourceGroups/{names['resourceGroup']}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{names['workspaceName']}"
        )

    def management(self, rest: str) -> str:
        """Path of model management in the Azure ML v1 protocol. `rest`: e.g. `/services/iris`."""
        return f"/modelmanagement/v1.0{self.scope}{rest}"

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] = {},
        error: type[AzureMLException] = AzureMLException,
    ) -> Any:
        """The decoded JSON of a response; None for an empty one.

        method, path: of the request. body: sent as JSON; None: none.
        query: parameters; those that are None are left out.
        error: class of the error that a refusal raises.
        """
        reply = self.reply(method, path, body, query, error)
        try:
            return json.loads(reply.body) if reply.body.strip() else None
        except ValueError:
            raise WorkspaceException(f"{self.url} does not answer like a scorefront control plane") from None

    def reply(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] = {},
        error: type[AzureMLException] = AzureMLException,
    ) -> Reply:
        """As `call`: the response itself."""
        kind = "application/json-patch+json" if method == "PATCH" and isinstance(body, list) else "application/json"
        data = None if body is None else json.dumps(body).encode()
        fields = {} if data is None else {"Content-Type": kind}
        with self._response(method, _with_query(path, query), fields, data, error, ANSWER_TIMEOUT_S) as response:
            return read_whole(response)

    def records(self, path: str, query: Mapping[str, object], error: type[AzureMLException]) -> Iterator[Any]:
        """The decoded lines of a response.

        path, query: of the request. error: class of the error that a refusal raises.
        """
        with self._response("GET", _with_query(path, query), {}, None, error, None) as response:
            yield from (json.loads(line) for line in lines_of(response))

    def upload_blob(self, file: LocalModelFile, progress: Progress) -> str:
        """Send a file as a blob, unless its content is there; its SHA-256, hexadecimal.

        file: to read. progress: called with the bytes of each part. Raises AzureMLException, OSError.
        """
        digest = file.sha256()
        path = f"{API}/blobs/{digest}"
        if self._has(path):
            progress(file.size_bytes)
        else:
            fields = {"Content-Type": "application/octet-stream"}
            self._put(path, file.pieces(progress), file.size_bytes, fields)
        return digest

    def upload_artifact(self, container: str, name: str, content: bytes) -> str:
        """Send a file of code by the Azure ML v1 protocol; its URL.

        container: unique name. name: of the file. content: of the file. Raises AzureMLException.
        """
        path = f"/artifact/v2.0{self.scope}/artifacts/batch/metadata/LocalUpload/{container}"
        found = self.call("POST", path, {"paths": [{"path": name}]})
        place = urlsplit(found["artifactContentInformation"][name]["contentUri"])
        self._put(f"{place.path}?{place.query}", iter([content]), len(content), {"x-ms-blob-type": "BlockBlob"})
        return f"aml://artifact/{found['artifacts'][name]['artifactId']}"

    def download(self, path: str, file: Path, progress: Progress) -> str:
        """Write the body of a response to a new file; SHA-256 of its content, hexadecimal.

        path: of the request. file: to create. progress: called with the bytes of each part. Raises AzureMLException,
        OSError.
        """
        digest = hashlib.sha256()
        with (
            self._response("GET", path, {}, None, AzureMLException, UPLOAD_TIMEOUT_S) as response,
            file.open("xb") as output,
        ):
            for chunk in response.iter_stream():
                output.write(chunk)
                digest.update(chunk)
                progress(len(chunk))
        return digest.hexdigest()

    def _has(self, path: str) -> bool:
        try:
            self.reply("HEAD", path)
        except AzureMLException as error:
            if error.status_code == 404:
                return False
            raise
        return True

    def _put(self, path: str, content: Iterator[bytes], size_bytes: int, fields: Mapping[str, str]) -> None:
        fields = {**fields, "Content-Length": str(size_bytes)}
        with self._response("PUT", path, fields, content, AzureMLException, UPLOAD_TIMEOUT_S) as response:
            read_whole(response)

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        data: bytes | Iterator[bytes] | None,
        error: type[AzureMLException],
        timeout_s: float | None,
    ) -> Iterator["Response"]:
        """A response of status 2xx with its body unread.

        method, path: of the request. fields: of its head. data: body; None: none.
        error: class of the error that a refusal raises.
        timeout_s: longest silence in seconds; None: unlimited.
        """
        head = {"Accept": "application/json", **fields}
        if self._token:
            head["Authorization"] = f"Bearer {self._token}"
        try:
            with sent(self.url, method, path, head, data, timeout_s, self._trust) as response:
                if not 200 <= response.status < 300:
                    raise refusal(self.url, read_whole(response), error)
                yield response
        except (ServerUnreachable, UnusableAuthority) as failure:
            raise WorkspaceException(str(failure)) from None


class ConnectedWorkspace(Protocol):
    """A workspace, as models and services know it."""

    @property
    def connection(self) -> ControlConnection:
        """Its control plane."""

    @property
    def name(self) -> str:
        """Its name."""


def refusal(url: str, reply: Reply, kind: type[AzureMLException]) -> AzureMLException:
    """The error of a response.

    url: of the control plane. reply: in Azure's shape, or of the native REST. kind: class of the error.
    """
    try:
        document = json.loads(reply.body)
        found = document.get("error") or document
        code, message = str(found.get("code", "")), str(found["message"])
        faults = [f"{each['path']}: {each['rule']}" for each in found.get("faults", ())]
        message = "\n".join(faults) or message
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "", f"{url} answered with status {reply.status}"
    if reply.status in (401, 403):
        hint = (
            "pass the control token (STATE_DIR/control-token, on the machine of `up`) as token, or in SCOREFRONT_TOKEN"
        )
        return WorkspaceException(f"{message}\n{hint}", reply.status, code)
    prefix = f"{code}: " if code and code not in ("BadRequest", "NotFound", "Conflict") else ""
    return kind(prefix + message, reply.status, code)


def _with_query(path: str, query: Mapping[str, object]) -> str:
    given = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in query.items()
        if value is not None
    }
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
