"""Blocking client of the command line: REST API of the control plane, and one scoring request.

Every wait is bounded, except for a followed log.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from controlplane.openapi import OUTCOME_HEADER
from scorefront.cli.command_errors import CommandError, InvalidInput
from scorefront.command_hints import DEFAULT_CONTROL_URL
from scorefront.http_client import (
    UNIX,
    Reply,
    ServerTrust,
    ServerUnreachable,
    UnusableAuthority,
    lines_of,
    read_whole,
    sent,
)
from serving.faults import Fault

if TYPE_CHECKING:
    from httpcore import Response

UNIX_PATH_MAX_BYTES = 107
CONTROL_URL_OPTION = "--control-url (or SCOREFRONT_URL)"
API = "/api/v1"
ANSWER_TIMEOUT_S = 60.0
"""`apply` and `delete` answer once the change is taken over, not once replicas are ready."""
SCORING_TIMEOUT_S = 660.0
"""More than the longest a router may take: 300 s of scoring, and as long a wait for a slot."""
PINNED_VERSION = "azureml-model-deployment"


class ControlUnreachable(CommandError):
    """No answer, no valid HTTP, or a timeout."""


@contextmanager
def _sent(*arguments: Any) -> Iterator["Response"]:
    """As `http_client.sent`, with the errors of commands."""
    try:
        with sent(*arguments) as response:
            yield response
    except ServerUnreachable as error:
        raise ControlUnreachable(str(error)) from error
    except UnusableAuthority as error:
        raise InvalidInput(str(error)) from error


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
class ByteStream:
    """The body of a request, sent in pieces."""

    pieces: Iterator[bytes]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ControlClient:
    """The REST API at `url`. Every method raises ControlUnreachable or ControlRefused."""

    url: str = DEFAULT_CONTROL_URL
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """Certificates of the only authority that is trusted; None: those of the system."""

    def listing(self) -> dict[str, Any]:
        """`value`: every endpoint's view; `skipped`, if there are any: `name` and `message` of those not served."""
        return self.json_object("GET", f"{API}/endpoints")

    def endpoints(self) -> list[dict[str, Any]]:
        """View of every endpoint: declaration and `status`."""
        return list(self.listing()["value"])

    def endpoint(self, name: str) -> dict[str, Any]:
        """One endpoint's view."""
        return self.json_object("GET", _path(name))

    def apply(self, name: str, document: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Declare an endpoint: the outcome (created, changed or unchanged), and lines on fields without effect."""
        reply = self.whole("PUT", _path(name), document)
        outcome = reply.headers.get(OUTCOME_HEADER) or ("created" if reply.status == 201 else "changed")
        view = _json(reply.body, self.url, reply.status)
        return outcome, list(view.get("status", {}).get("notes", ())) if isinstance(view, dict) else []

    def delete(self, name: str) -> None:
        """Remove an endpoint and its replicas."""
        self.whole("DELETE", _path(name))

    def keys(self, name: str) -> dict[str, Any]:
        """`primaryKey` and `secondaryKey`."""
        return self.json_object("GET", _path(name, "keys"))

    def replace_key(self, name: str, key_type: str, key: str | None = None) -> dict[str, Any]:
        """Both keys, after the `primary` or `secondary` one was made anew, or became `key`."""
        given = {} if key is None else {"keyValue": key}
        return self.json_object("POST", _path(name, "keys/regenerate"), {"keyType": key_type, **given})

    def issue_token(self, name: str) -> dict[str, Any]:
        """`accessToken`, `tokenType`, `refreshAfter` and `expiryOn` (unix seconds)."""
        return self.json_object("POST", _path(name, "token"))

    def revoke_tokens(self, name: str) -> dict[str, Any]:
        """A new token, as `issue_token` gives it, after every token issued so far was made invalid."""
        return self.json_object("POST", _path(name, "token/revoke"))

    def set_traffic(
        self, name: str, percentiles: Mapping[str, float], default: str | None, control: str | None
    ) -> dict[str, Any]:
        """Change the split; versions that are not named keep their percentage. Returns the view."""
        body = {"percentiles": percentiles, "default": default, "control": control}
        return self.json_object("PATCH", _path(name, "traffic"), body)

    def restart(self, name: str, version: str | None) -> dict[str, Any]:
        """Replace the replicas of a version, or of all (None). Returns the view."""
        return self.json_object("POST", _path(name, "restart"), {"version": version})

    def decisions(self, name: str, last: int, version: str | None) -> list[dict[str, Any]]:
        """Scaling decisions, newest last."""
        return list(self.json_object("GET", _path(name, "decisions"), last=last, version=version)["value"])

    def what_if(self, name: str, policy: str, version: str | None) -> list[dict[str, Any]]:
        """Scaling decisions of the last hour under a changed policy, one object per version."""
        path = f"{_path(name, 'decisions')}/what-if"
        return list(self.json_object("GET", path, policy=policy, version=version)["value"])

    def front_end_decisions(self, last: int) -> list[dict[str, Any]]:
        """Decisions on the number of router workers and of routers, newest last."""
        return list(self.json_object("GET", f"{API}/front-end/decisions", last=last)["value"])

    def logs(self, name: str, version: str | None, tail: int, follow: bool) -> Iterator[dict[str, Any]]:
        """`version`, `replica` and `line` of each log line; with `follow` for as long as the replicas live."""
        query = {"version": version, "tail": tail, "follow": follow}
        # a model may be silent for hours, so the wait for a followed line has no end; Ctrl-C ends it
        timeout_s = None if follow else ANSWER_TIMEOUT_S
        with self.response("GET", _path(name, "logs"), query=query, timeout_s=timeout_s) as response:
            for line in lines_of(response):
                yield _json(line, self.url, response.status)

    def data(self, name: str, version: str | None, collection: str | None, since: float | None) -> Iterator[bytes]:
        """Lines of collected payloads.

        name: of the endpoint. version, collection: None: all.
        since: unix seconds; None: from the beginning.
        """
        query = {"version": version, "collection": collection, "since": since}
        with self.response("GET", _path(name, "data"), query=query) as response:
            yield from lines_of(response)

    def trace(self, name: str, version: str | None, since_s: int) -> str:
        """Arrivals, service times and sizes as CSV. `since_s`: longest age."""
        with self.response("GET", _path(name, "trace"), query={"version": version, "since": since_s}) as response:
            return "".join(f"{line.decode()}\n" for line in lines_of(response))

    def operations(self, endpoint: str | None) -> list[dict[str, Any]]:
        """Operations of an endpoint, or of all (None), newest first."""
        return list(self.json_object("GET", f"{API}/operations", endpoint=endpoint)["value"])

    def operation(self, identifier: str) -> dict[str, Any]:
        """One operation with its steps."""
        return self.json_object("GET", _operation(identifier))

    def operation_log(self, identifier: str, follow: bool) -> Iterator[dict[str, Any]]:
        """`at` (unix seconds) and `line` of each log line; with `follow` until the operation ends."""
        timeout_s = None if follow else ANSWER_TIMEOUT_S
        with self.response("GET", _operation(identifier, "logs"), None, {"follow": follow}, timeout_s) as response:
            for line in lines_of(response):
                yield _json(line, self.url, response.status)

    def cancel_operation(self, identifier: str) -> dict[str, Any]:
        """Cancel an operation; returns it."""
        return self.json_object("POST", _operation(identifier, "cancel"))

    def json_object(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        """JSON object of a response. Parameters as in `response`."""
        reply = self.whole(method, path, body, query)
        answer = _json(reply.body, self.url, reply.status)
        if not isinstance(answer, dict):
            raise _not_a_control_plane(self.url, reply.status)
        return answer

    def whole(self, method: str, path: str, body: object = None, query: Mapping[str, object] = {}) -> Reply:
        """A response with its body. Parameters as in `response`."""
        with self.response(method, path, body, query) as response:
            return read_whole(response)

    @contextmanager
    def response(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] = {},
        timeout_s: float | None = ANSWER_TIMEOUT_S,
        accepted: Collection[int] = (200, 201, 202, 204),
    ) -> Iterator["Response"]:
        """A response with its body unread.

        method, path, query: of the request; null parameters are left out.
        body: of the request: JSON values, or a stream; None: none.
        timeout_s: longest silence in seconds; None: unlimited.
        accepted: statuses that are no error.
        """
        headers = {"Accept": "application/json, application/x-ndjson"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data: bytes | Iterator[bytes] | None = None
        if isinstance(body, ByteStream):
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.size_bytes)}
            data = body.pieces
        elif body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        if given := {key: _parameter(value) for key, value in query.items() if value is not None}:
            path = f"{path}?{urlencode(given, doseq=True)}"
        trust = ServerTrust("--control-ca (or SCOREFRONT_CA)", self.ca)
        with _sent(self.url, method, path, headers, data, timeout_s, trust) as response:
            if response.status not in accepted:
                raise _refusal(self.url, read_whole(response))
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
        return read_whole(response)


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


def _parameter(value: object) -> str | list[str]:
    """Text of a query parameter; a list is repeated."""
    if isinstance(value, list):
        return [str(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(name: str, rest: str = "") -> str:
    return f"{API}/endpoints/{quote(name, safe='')}" + (f"/{rest}" if rest else "")


def _operation(identifier: str, rest: str = "") -> str:
    return f"{API}/operations/{quote(identifier, safe='')}" + (f"/{rest}" if rest else "")


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
