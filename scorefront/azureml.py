"""Microsoft's SDK for Azure ML v1, pointed at a scorefront: `connect`.

    from scorefront.azureml import connect
    ws = connect("http://127.0.0.1:8081")

azureml-core (1.61, installed by the user) stays unmodified. Needs nothing else of scorefront, so that
`pip install --no-deps scorefront` is enough. Redirections hold for this workspace only: requests to other workspaces
of the same process go where they always went.
"""

import base64
import copy
import importlib
import os
import threading
import time
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    import requests

__all__ = ["ConnectionRefused", "connect"]

DISCOVERY = "/azureml/discovery"
BLOBS = "/azureml/blobs/"
NO_TOKEN = "none"
"""Bearer token where the control port demands none; azureml-core needs one."""
SINGLE_PUT_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 300.0
"""Longest silence of the server in an upload."""
NEVER = 2**31 - 1
"""Unix seconds."""
ATTEMPTS = 4
"""Attempts for one request of an upload."""

_connected: dict[str, str] = {}
"""URL of a scorefront -> its token."""
_lock = threading.Lock()
_originals: dict[tuple[str, str], Any] = {}
"""(module, name) of a replaced function -> the original."""


class ConnectionRefused(Exception):
    """No workspace: the URL is wrong, nothing answers there, the token is wrong, or azureml-core is missing."""


def connect(url: str, token: str | None = None) -> Any:
    """A `Workspace` of azureml-core whose calls go to a scorefront.

    url: of the control port, as `scorefront up` prints it, e.g. `http://127.0.0.1:8081`.
    token: the control token, where the port demands one; default: that in the environment variable SCOREFRONT_TOKEN.
    Raises ConnectionRefused.
    """
    base = _checked(url)
    core = _azureml_core()
    bearer = token or os.environ.get("SCOREFRONT_TOKEN") or NO_TOKEN
    found = _discovered(base, bearer)
    with _lock:
        _connected[base] = bearer
        _redirect()
    workspace = core.Workspace(
        found["subscriptionId"],
        found["resourceGroup"],
        found["workspaceName"],
        auth=_authentication(base, bearer),
        _location=found["location"],
        _disable_service_check=True,
        _workspace_id=found["workspaceId"],
    )
    workspace._discovery_url_internal = base + DISCOVERY
    return workspace


def _checked(url: str) -> str:
    """The URL without a slash at its end. Raises ConnectionRefused."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConnectionRefused(f"url: must be http://HOST:PORT or https://HOST:PORT of the control port (got {url!r})")
    return f"{parts.scheme}://{parts.netloc}"


def _azureml_core() -> Any:
    try:
        return importlib.import_module("azureml.core")
    except ImportError as error:
        raise ConnectionRefused(
            f"azureml-core cannot be imported ({error}): pip install azureml-core==1.61.0.post4; or use scorefront.sdk,"
            " which has the same names and needs no azureml-core"
        ) from error


def _discovered(base: str, bearer: str) -> dict[str, str]:
    """The workspace that answers. Raises ConnectionRefused."""
    import requests

    try:
        answer = requests.get(base + DISCOVERY, headers={"Authorization": f"Bearer {bearer}"}, timeout=10)
    except requests.RequestException as error:
        raise ConnectionRefused(
            f"{base} does not answer ({type(error).__name__}): is `scorefront up` running?"
        ) from None
    if answer.status_code in (401, 403):
        raise ConnectionRefused(f"{base} refuses the token (or lacks one): {_reason(answer)}")
    try:
        found: dict[str, str] = answer.json()["workspace"]
    except (ValueError, KeyError, TypeError):
        raise ConnectionRefused(f"{base} is no control port of scorefront (status {answer.status_code})") from None
    return found


def _reason(answer: "requests.Response") -> str:
    try:
        document = answer.json()
        return str(document.get("message") or document["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"status {answer.status_code}"


def _authentication(base: str, bearer: str) -> Any:
    """Authentication by a fixed token, with the control port in the place of Azure Resource Manager."""
    authentication = importlib.import_module("azureml.core.authentication")

    class ScorefrontAuthentication(authentication.ArmTokenAuthentication):  # type: ignore[misc, name-defined]
        """Authentication of one scorefront."""

        _cloud_type: Any

        def __init__(self) -> None:
            super().__init__(bearer, cloud="AzureCloud")
            self._cloud_type = copy.copy(self._cloud_type)
            self._cloud_type.endpoints = copy.copy(self._cloud_type.endpoints)
            self._cloud_type.endpoints.resource_manager = base

        def _get_adal_auth_object(self, is_graph_auth: bool = False) -> Any:
            # The original reads the end of the token from it, as of a JWT.
            adal = importlib.import_module("azureml._vendor.azure_cli_core.auth.old_adal_authentication")
            return adal.AdalAuthentication(lambda scopes: ("Bearer", bearer, {"expires_on": NEVER}))

        def _get_all_subscription_ids(self) -> tuple[list[Any], None]:
            return [], None

        def _check_if_subscription_exists(self, *args: Any, **kwargs: Any) -> bool:
            return True

    return ScorefrontAuthentication()


def _redirect() -> None:
    """Replace the functions of azureml-core that talk to blobs by ones that know scorefront, once a process.

    The SDK builds the host of blobs from the name of a storage account, and downloads without credentials.
    """
    for module, name, make in (
        ("azureml._restclient.artifacts_client", "upload_blob_from_stream", _uploading),
        ("azureml._restclient.artifacts_client", "download_file", _downloading),
        ("azureml.core.model", "download_file", _downloading),
    ):
        if (module, name) not in _originals:
            holder = importlib.import_module(module)
            _originals[module, name] = getattr(holder, name)
            setattr(holder, name, make(_originals[module, name]))


def _uploading(original: Any) -> Any:
    def upload_blob_from_stream(stream: IO[bytes], url: str, *args: Any, **kwargs: Any) -> Any:
        bearer = _token_of(url)
        if bearer is None:
            return original(stream, url, *args, **kwargs)
        _upload(stream, url, bearer)
        return None

    return upload_blob_from_stream


def _downloading(original: Any) -> Any:
    def download_file(source_uri: str, *args: Any, **kwargs: Any) -> Any:
        bearer = _token_of(source_uri)
        if bearer is not None:
            kwargs["session"] = _session(bearer)
        return original(source_uri, *args, **kwargs)

    return download_file


def _token_of(url: str) -> str | None:
    """The token of the scorefront that serves a blob; None: another store."""
    parts = urlsplit(url)
    return _connected.get(f"{parts.scheme}://{parts.netloc}") if parts.path.startswith(BLOBS) else None


def _session(bearer: str) -> "requests.Session":
    import requests

    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {bearer}"
    return session


def _upload(stream: IO[bytes], url: str, bearer: str) -> None:
    """Send a whole file: at once, or by blocks so that a broken connection costs one block."""
    start = stream.tell()
    size = stream.seek(0, os.SEEK_END) - start
    stream.seek(start)
    with _session(bearer) as session:
        if size <= SINGLE_PUT_BYTES:
            _put(session, url, stream, size, {"x-ms-blob-type": "BlockBlob"})
            return
        blocks: list[str] = []
        while chunk := stream.read(BLOCK_BYTES):
            block = base64.b64encode(f"{len(blocks):08d}".encode()).decode()
            _put(session, f"{url}&comp=block&blockid={quote(block, safe='')}", chunk, len(chunk), {})
            blocks.append(block)
        listed = "".join(f"<Latest>{block}</Latest>" for block in blocks)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        _put(session, f"{url}&comp=blocklist", body, len(body), {})


def _put(session: "requests.Session", url: str, body: IO[bytes] | bytes, size: int, headers: dict[str, str]) -> None:
    """One request of an upload, repeated while the server is away.

    session: with the credential. url: of the blob. body: content, or a file at its beginning.
    size: bytes of the body. headers: further ones.
    """
    import requests

    start = 0 if isinstance(body, bytes) else body.tell()
    for attempt in range(1, ATTEMPTS + 1):
        if not isinstance(body, bytes):
            body.seek(start)
        try:
            # An empty file would be sent chunked.
            answer = session.put(url, data=body if size else b"", headers=headers, timeout=TIMEOUT_S)
        except requests.RequestException:
            if attempt == ATTEMPTS:
                raise
        else:
            if answer.status_code < 500 or answer.status_code in (501, 507) or attempt == ATTEMPTS:
                break
        time.sleep(0.5 * 2**attempt)
    if answer.status_code >= 400:
        raise requests.HTTPError(f"upload refused ({answer.status_code}): {_reason(answer)}", response=answer)
