"""Blocking client of the command line: REST API of the control plane, and one scoring request.

Connections ignore the proxy settings of the environment. Redirects are not followed, because they would carry the token
elsewhere. Every wait is bounded, except for a followed log.
"""

import errno
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from cluster.local.socket_owner import unix_peer_uid
from controlplane.openapi import OUTCOME_HEADER
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.command_hints import DEFAULT_CONTROL_URL
from serving.faults import Fault

if TYPE_CHECKING:
    from httpcore import Response

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

    def apply(self, name: str, document: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Declare an endpoint: the outcome (created, changed or unchanged), and lines on fields without effect."""
        reply = self._whole("PUT", _path(name), document)
        outcome = reply.headers.get(OUTCOME_HEADER) or ("created" if reply.status == 201 else "changed")
        view = _json(reply.body, self.url, reply.status)
        return outcome, list(view.get("status", {}).get("notes", ())) if isinstance(view, dict) else []

    def delete(self, name: str) -> None:
        """Remove an endpoint and its replicas."""
        self._whole("DELETE", _path(name))

    def keys(self, name: str) -> dict[str, Any]:
        """`primaryKey` and `secondaryKey`."""
        return self._object("GET", _path(name, "keys"))

    def replace_key(self, name: str, key_type: str, key: str | None = None) -> dict[str, Any]:
        """Both keys, after the `primary` or `secondary` one was made anew, or became `key`."""
        given = {} if key is None else {"keyValue": key}
        return self._object("POST", _path(name, "keys/regenerate"), {"keyType": key_type, **given})

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

    def restart(self, name: str, version: str | None) -> dict[str, Any]:
        """Replace the replicas of a version, or of all (None). Returns the view."""
        return self._object("POST", _path(name, "restart"), {"version": version})

    def decisions(self, name: str, last: int, version: str | None) -> list[dict[str, Any]]:
        """Scaling decisions, newest last."""
        return list(self._object("GET", _path(name, "decisions"), last=last, version=version)["value"])

    def front_end_decisions(self, last: int) -> list[dict[str, Any]]:
        """Decisions on the number of router workers and of routers, newest last."""
        return list(self._object("GET", f"{API}/front-end/decisions", last=last)["value"])

    def logs(self, name: str, version: str | None, tail: int, follow: bool) -> Iterator[dict[str, Any]]:
        """`version`, `replica` and `line` of each log line; with `follow` for as long as the replicas live."""
        query = {"version": version, "tail": tail, "follow": follow}
        # a model may be silent for hours, so the wait for a followed line has no end; Ctrl-C ends it
        timeout_s = None if follow else ANSWER_TIMEOUT_S
        with self._response("GET", _path(name, "logs"), query=query, timeout_s=timeout_s) as response:
            for line in _lines(response):
                yield _json(line, self.url, response.status)

    def _object(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        reply = self._whole(method, path, body, query)
        answer = _json(reply.body, self.url, reply.status)
        if not isinstance(answer, dict):
            raise _not_a_control_plane(self.url, reply.status)
        return answer

    def _whole(self, method: str, path: str, body: object = None, query: Mapping[str, object] = {}) -> Reply:
        with self._response(method, path, body, query) as response:
            return _read(response)

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] = {},
        timeout_s: float | None = ANSWER_TIMEOUT_S,
    ) -> Iterator["Response"]:
        """A response of status 2xx with its body unread.

        method, path, body, query: of the request; null parameters are left out.
        timeout_s: longest silence in seconds; None: unlimited.
        """
        headers = {"Accept": "application/json, application/x-ndjson"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        if given := {key: str(value).lower() for key, value in query.items() if value is not None}:
            path = f"{path}?{urlencode(given)}"
        trust = ServerTrust("--control-ca (or SCOREFRONT_CA)", self.ca)
        with _sent(self.url, method, path, headers, data, timeout_s, trust) as response:
            if response.status not in (200, 201, 204):
                raise _refusal(self.url, _read(response))
            yield response


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
    base, path = f"{parts.scheme}://{parts.netloc}", f"{parts.path}?{parts.query}" if parts.query else parts.path
    method = "GET" if data is None else "POST"
    with _sent(base, method, path, headers, data, SCORING_TIMEOUT_S, ServerTrust()) as response:
        return _read(response)


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


def _path(name: str, rest: str = "") -> str:
    return f"{API}/endpoints/{quote(name, safe='')}" + (f"/{rest}" if rest else "")


# ---- HTTP and its errors


@contextmanager
def _sent(
    base: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    data: bytes | None,
    timeout_s: float | None,
    trust: ServerTrust,
) -> Iterator["Response"]:
    """A response with its body unread.

    base: URL of the server, or `unix:PATH`. method, path, headers, data: of the request.
    timeout_s: longest silence in seconds; None: unlimited.
    trust: verification of the certificate.
    Raises ControlUnreachable, also in place of the errors of reading the body; InvalidInput.
    """
    import httpcore  # late: --help, size and invalid calls need no client

    unix = base.removeprefix(UNIX) if base.startswith(UNIX) else None
    url = "http://localhost" if unix else base
    context = trust.context() if base.startswith("https:") else None
    fields = [("Host", urlsplit(url).netloc), *headers.items()]
    waits = {"connect": CONNECT_TIMEOUT_S, "read": timeout_s, "write": timeout_s}
    extensions = {"timeout": waits, "trace": _check_owner}
    try:
        with (
            httpcore.ConnectionPool(context, uds=unix) as pool,
            pool.stream(method, url + path, headers=fields, content=data, extensions=extensions) as response,
        ):
            yield response
    except httpcore.TimeoutException as error:
        raise ControlUnreachable(f"{base} did not answer in time") from error
    except httpcore.ProtocolError as error:
        hint = "; does it speak HTTPS?" if base.startswith("http://") else ""
        raise ControlUnreachable(f"{base} does not answer in HTTP ({error}){hint}") from error
    except (httpcore.NetworkError, OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise _unreachable(base, error, trust) from error


def _check_owner(event: str, info: Mapping[str, Any]) -> None:
    """Close a Unix socket of another user than this one and root, because the control token would go there."""
    if event != "connection.connect_unix_socket.complete":
        return
    stream = info["return_value"]
    owner = unix_peer_uid(stream.get_extra_info("socket"))
    if owner not in (os.geteuid(), 0) and os.geteuid() != 0:
        stream.close()
        raise PermissionError(errno.EPERM, f"uid {owner} listens there, not you")


def _unreachable(base: str, error: Exception, trust: ServerTrust) -> ControlUnreachable:
    cause: BaseException = error
    while below := cause.__cause__ or cause.__context__:  # down to the error of the socket
        cause = below
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = f"name its authority's file in {trust.option}"
        return ControlUnreachable(f"the certificate of {base} is not trusted ({cause.verify_message}); {hint}")
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return ControlUnreachable(f"cannot reach {base}: nothing listens there; is `scorefront up` running?")
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return ControlUnreachable(f"cannot reach {base}: {reason}")


def _read(response: "Response") -> Reply:
    body = response.read()
    return Reply(response.status, {name.decode().lower(): value.decode() for name, value in response.headers}, body)


def _lines(response: "Response") -> Iterator[bytes]:
    """Lines that are not empty."""
    rest = b""
    for piece in response.iter_stream():
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


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
