"""Blocking client of the command line: REST API of the control plane, and one scoring request.

Connections ignore the proxy settings of the environment. Redirects are not followed, because they would carry the token
elsewhere. Every wait is bounded, except for a followed log.
"""

import errno
import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cluster.local.socket_owner import unix_peer_uid
from controlplane.openapi import OUTCOME_HEADER
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.command_hints import DEFAULT_CONTROL_URL
from serving.faults import Fault

UNIX = "unix:"
"""A control URL that begins so goes on with the path of a Unix socket."""
UNIX_PATH_MAX_BYTES = 107
CONTROL_URL_OPTION = "--control-url (or SCOREFRONT_URL)"
API = "/api/v1"
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""`apply` and `delete` answer once the change is taken over, not once replicas are ready."""
SCORING_TIMEOUT_S = 660.0
"""More than the longest a router may take: 300 s of scoring, and as long a wait for a slot."""
PINNED_VERSION = "azureml-model-deployment"


class ControlUnreachable(CommandError):
    """No answer, no valid HTTP, or a timeout."""


class ControlRefused(CommandError):
    """Error response of the control plane. 400 is invalid input; everything else is a refusal."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = InvalidInput.exit_status if status == 400 else CommandError.exit_status
        self.status = status

    def of(self, subject: str) -> "ControlRefused":
        """Copy with the subject in front of every line."""
        return ControlRefused(self.status, "\n".join(f"{subject}: {line}" for line in str(self).splitlines()))


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ServerTrust:
    """Verification of a server's certificate, and the option that sets it."""

    option: str = "SSL_CERT_FILE"
    ca: Path | None = None
    """PEM file with the authorities; None: those of the system."""

    def context(self) -> ssl.SSLContext:
        """TLS context. Raises InvalidInput for an unusable file."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
            raise InvalidInput(
                f"{self.option}: {self.ca} must be a file with certificates in PEM form: {reason or 'it has none'}"
            ) from error


@dataclass(frozen=True, slots=True)
class ControlClient:
    """The REST API at `url`. Every method raises ControlUnreachable or ControlRefused."""

    url: str = DEFAULT_CONTROL_URL
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """Certificates of the only authority that is trusted; None: those of the system."""

    def listing(self) -> dict[str, Any]:
        """`value`: every endpoint's view; `skipped`, if there are any: `name` and `message` of those not served."""
        return self._object("GET", f"{API}/endpoints")

    def endpoints(self) -> list[dict[str, Any]]:
        """View of every endpoint: declaration and `status`."""
        return list(self.listing()["value"])

    def endpoint(self, name: str) -> dict[str, Any]:
        """One endpoint's view."""
        return self._object("GET", _path(name))

    def apply(self, name: str, document: Mapping[str, Any]) -> str:
        """Declare an endpoint; the outcome: created, changed or unchanged."""
        reply = self._exchange("PUT", _path(name), document)
        return reply.headers.get(OUTCOME_HEADER) or ("created" if reply.status == 201 else "changed")

    def delete(self, name: str) -> None:
        """Remove an endpoint and its replicas."""
        self._exchange("DELETE", _path(name))

    def keys(self, name: str) -> dict[str, Any]:
        """`primaryKey` and `secondaryKey`."""
        return self._object("GET", _path(name, "keys"))

    def regenerate_key(self, name: str, key_type: str) -> dict[str, Any]:
        """Both keys, after the `primary` or `secondary` one was made anew."""
        return self._object("POST", _path(name, "keys/regenerate"), {"keyType": key_type})

    def issue_token(self, name: str) -> dict[str, Any]:
        """`accessToken`, `tokenType`, `refreshAfter` and `expiryOn` (unix seconds)."""
        return self._object("POST", _path(name, "token"))

    def revoke_tokens(self, name: str) -> dict[str, Any]:
        """A new token, as `issue_token` gives it, after every token issued so far was made invalid."""
        return self._object("POST", _path(name, "token/revoke"))

    def set_traffic(
        self, name: str, percentiles: Mapping[str, float], default: str | None, control: str | None
    ) -> dict[str, Any]:
        """Change the split; versions that are not named keep their percentage. Returns the view."""
        body = {"percentiles": percentiles, "default": default, "control": control}
        return self._object("PATCH", _path(name, "traffic"), body)

    def decisions(self, name: str, last: int, version: str | None) -> list[dict[str, Any]]:
        """Scaling decisions, newest last."""
        return list(self._call("GET", _path(name, "decisions", last=last, version=version))["value"])

    def front_end_decisions(self, last: int) -> list[dict[str, Any]]:
        """Decisions on the number of router workers and of routers, newest last."""
        return list(self._call("GET", f"{API}/front-end/decisions?last={last}")["value"])

    def logs(self, name: str, version: str | None, tail: int, follow: bool) -> Iterator[dict[str, Any]]:
        """`version`, `replica` and `line` of each log line; with `follow` for as long as the replicas live."""
        path = _path(name, "logs", version=version, tail=tail, follow=str(follow).lower())
        # a model may be silent for hours, so the wait for a followed line has no end; Ctrl-C ends it
        with closing(_connect(self.url, None if follow else ANSWER_TIMEOUT_S, self.trust)) as connection:
            response = _request(connection, self.url, "GET", path, self._headers(), None)
            if response.status != 200:
                raise _refusal(self.url, _read(response, self.url))
            for line in _lines(response, self.url):
                yield _json(line, self.url, response.status)

    def _object(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return dict(self._call(method, path, body))

    def _call(self, method: str, path: str, body: object = None) -> Any:
        reply = self._exchange(method, path, body)
        answer = _json(reply.body, self.url, reply.status)
        if not isinstance(answer, dict):
            raise _not_a_control_plane(self.url, reply.status)
        return answer

    def _exchange(self, method: str, path: str, body: object = None) -> Reply:
        headers = self._headers()
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        reply = exchange(self.url, method, path, headers, data, ANSWER_TIMEOUT_S, self.trust)
        if reply.status not in (200, 201, 204):
            raise _refusal(self.url, reply)
        return reply

    @property
    def trust(self) -> "ServerTrust":
        """Verification of the server certificate."""
        return ServerTrust("--control-ca (or SCOREFRONT_CA)", self.ca)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json, application/x-ndjson"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def score(uri: str, data: bytes | None, credential: str | None, version: str | None) -> Reply:
    """One scoring request: POST with data, else GET. Any status is returned, not raised. Raises ControlUnreachable."""
    headers = {"Accept": "application/json"}
    if data is not None:
        headers["Content-Type"] = "application/json"
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    if version:
        headers[PINNED_VERSION] = version
    parts = urlsplit(uri)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    base = f"{parts.scheme}://{parts.netloc}"
    return exchange(base, "GET" if data is None else "POST", path, headers, data, SCORING_TIMEOUT_S)


def exchange(
    base: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    data: bytes | None,
    timeout_s: float,
    trust: ServerTrust = ServerTrust(),
) -> Reply:
    """One request and its whole response.

    base: URL of the server, or `unix:PATH`. method, path, headers, data: of the request.
    timeout_s: longest silence in seconds.
    trust: verification of the certificate; default: the authorities of the system.
    Raises ControlUnreachable, InvalidInput.
    """
    with closing(_connect(base, timeout_s, trust)) as connection:
        return _read(_request(connection, base, method, path, headers, data), base)


def checked_control_url(url: str) -> str:
    """`unix:` with an absolute path, or an URL as in `checked_url`. Raises InvalidInput."""
    if url.startswith(UNIX):
        return f"{UNIX}{unix_path(CONTROL_URL_OPTION, url)}"
    return checked_url(url, CONTROL_URL_OPTION, " or unix:PATH")


def checked_url(url: str, option: str, alternative: str = "") -> str:
    """`url` without a slash at its end. Raises InvalidInput unless it is http(s)://host[:port][/path]."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username or not re.fullmatch(r"[!-~]+", url):
        raise InvalidInput(f"{option} must be http(s)://HOST[:PORT]{alternative}, got {url!r}")
    return url.rstrip("/")


def unix_path(option: str, text: str) -> Path:
    """Absolute path of `unix:PATH`. Raises InvalidInput if it cannot be the path of a Unix socket."""
    path = Path(os.path.abspath(text.removeprefix(UNIX)))
    if text == UNIX or "\0" in text or len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        rule = f"PATH must have 1 to {UNIX_PATH_MAX_BYTES} bytes when written as an absolute path"
        raise InvalidInput(f"{option}: must be unix:PATH; {rule}; got {text!r}")
    return path


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket that belongs to this user or to root."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Raises OSError; PermissionError if another user listens, because the control token would go there."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        owner = unix_peer_uid(self.sock)
        if owner not in (os.geteuid(), 0) and os.geteuid() != 0:
            self.close()
            raise PermissionError(errno.EPERM, f"uid {owner} listens there, not you")


def _path(name: str, rest: str = "", **query: object) -> str:
    path = f"{API}/endpoints/{quote(name, safe='')}" + (f"/{rest}" if rest else "")
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


# ---- HTTP, and what can go wrong with it


def _connect(base: str, timeout_s: float | None, trust: ServerTrust) -> http.client.HTTPConnection:
    connection = _connection(base, trust)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        hint = f"name its authority's file in {trust.option}"
        raise ControlUnreachable(
            f"the certificate of {base} is not trusted ({error.verify_message}); {hint}"
        ) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise _unreachable(base, error) from error
    connection.sock.settimeout(timeout_s)
    return connection


def _connection(base: str, trust: ServerTrust) -> http.client.HTTPConnection:
    if base.startswith(UNIX):
        return UnixConnection(base.removeprefix(UNIX))
    parts = urlsplit(base)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_TIMEOUT_S, context=trust.context())
    return http.client.HTTPConnection(host, parts.port, timeout=CONNECT_TIMEOUT_S)


def _request(
    connection: http.client.HTTPConnection,
    base: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    data: bytes | None,
) -> http.client.HTTPResponse:
    try:
        prefix = "" if base.startswith(UNIX) else urlsplit(base).path
        connection.request(method, prefix + path, body=data, headers=dict(headers))
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(base, error) from error


def _read(response: http.client.HTTPResponse, base: str) -> Reply:
    try:
        with response:
            body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(base, error) from error
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, body)


def _lines(response: http.client.HTTPResponse, base: str) -> Iterator[bytes]:
    try:
        with response:
            while line := response.readline():
                if line.strip():
                    yield line
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(base, error) from error


def _unreachable(base: str, error: Exception) -> ControlUnreachable:
    if isinstance(error, TimeoutError):
        return ControlUnreachable(f"{base} did not answer in time")
    if isinstance(error, http.client.HTTPException):
        hint = "; does it speak HTTPS?" if base.startswith("http://") else ""
        return ControlUnreachable(f"{base} does not answer in HTTP ({type(error).__name__}){hint}")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ControlUnreachable(f"cannot reach {base}: nothing listens there; is `scorefront up` running?")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ControlUnreachable(f"cannot reach {base}: {reason}")


# ---- responses of the control plane


def _json(body: bytes, base: str, status: int) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise _not_a_control_plane(base, status) from None


def _not_a_control_plane(base: str, status: int) -> ControlUnreachable:
    return ControlUnreachable(
        f"{base} does not answer like a scorefront control plane (status {status}); see --control-url"
    )


def _refusal(base: str, reply: Reply) -> CommandError:
    try:
        error = json.loads(reply.body)["error"]
        message = str(error["message"])
        faults = [str(Fault(fault["path"], fault.get("value"), fault["rule"])) for fault in error.get("faults", ())]
    except (ValueError, TypeError, KeyError, AttributeError):
        return _not_a_control_plane(base, reply.status)
    if reply.status == 401:
        message += "\nput the control token (STATE_DIR/control-token, on the machine of `up`) into SCOREFRONT_TOKEN"
    return ControlRefused(reply.status, "\n".join(faults) or message)
