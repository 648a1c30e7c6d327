"""Access control and error responses of the REST API: middlewares around every handler.

On loopback the user that runs `up` and root have access (`controlplane.callers`); web pages do not (DNS rebinding,
cross-site requests). Elsewhere a credential is required on everything but the probes.
"""

import base64
import binascii
import ipaddress
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from controlplane.control_errors import ControlError, InvalidCall, MissingCredential, NotPermitted
from serving.authority import unmapped
from serving.faults import InvalidManifest, shown

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_SHOWN_VALUE_CHARACTERS = 1000

CALLER: Final = web.RequestKey("caller", str)
"""Identity of the accepted caller, as text for the audit log, e.g. `uid 1000`."""
VISIBLE: Final = web.RequestKey("visible", frozenset[str])
"""Names of the endpoints that the caller may list; all if not set."""
ERROR_CODE: Final = web.RequestKey("error_code", str)
"""The code of a refusal, for the audit log."""
SERVER = "scorefront"
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every response: no sniffing, framing, caching, cross-site reading or referrer."""
FETCHED_FROM_HERE = ("same-origin", "none")
"""Values of Sec-Fetch-Site of requests not caused by pages of other sites."""

_PASSED_ON = {404: "NotFound", 405: "MethodNotAllowed", 408: "RequestTimeout", 413: "PayloadTooLarge"}
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """True for `localhost`, 127.0.0.0/8 and ::1 (with or without brackets); other names are not resolved."""
    bare = host.strip("[]")
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def remote_of(request: web.BaseRequest) -> str:
    """The address of the peer; "" on a Unix socket."""
    return unmapped(request.remote or "")


async def add_security_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Set the absent `SECURITY_HEADERS`; a signal handler of `Application.on_response_prepare`."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SERVER  # aiohttp has set its own by then


def json_errors() -> Middleware:
    """Middleware that converts errors to responses {"error": {code, message, faults}}."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except InvalidManifest as error:
            faults = [{"path": f.path, "value": _plain(f.value), "rule": f.rule} for f in error.faults]
            return error_response(400, "InvalidEndpoint", str(error), faults)
        except ControlError as error:
            if error.status >= 500:
                _log.error("%s %s: %s", request.method, request.path, error)
            request[ERROR_CODE] = error.code
            response = error_response(error.status, error.code, str(error))
            if isinstance(error, MissingCredential):
                # With Basic a browser prompts for the token (as the password), so the dashboard is usable.
                response.headers.add("WWW-Authenticate", 'Bearer realm="scorefront"')
                response.headers.add("WWW-Authenticate", 'Basic realm="scorefront", charset="UTF-8"')
            return response
        except web.HTTPException as error:
            code = _PASSED_ON.get(error.status, "BadRequest" if error.status < 500 else "Internal")
            response = error_response(error.status, code, _message(error, request))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:
            raise  # the client has disconnected
        except Exception:
            _log.exception("%s %s: internal error", request.method, request.path)
            return error_response(500, "Internal", "internal error; see the log of scorefront")

    return translate


def origin_form_only() -> Middleware:
    """Middleware that refuses request targets that are not an ASCII path (absolute-form, `*`, authority of CONNECT)."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "CONNECT" or not _PATH.fullmatch(request.raw_path):
            raise InvalidCall(
                "the request target must be a path of printable ASCII characters, as in /api/v1/endpoints"
            )
        return await handler(request)

    return check


def same_site_only(pages: Collection[str] = ()) -> Middleware:
    """Middleware that refuses requests caused by pages of other sites; another port is another site.

    `pages`: paths that a page of another site may link to; default none.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Each of several fields of the same name is checked: another reader may use another one.
        if not all(_is_same_site(origin, request.host) for origin in request.headers.getall("Origin", [])):
            raise NotPermitted("requests from pages of another origin are refused")
        sites = {site.lower() for site in request.headers.getall("Sec-Fetch-Site", [])}
        if not sites.issubset(FETCHED_FROM_HERE) and not (request.path in pages and _is_navigation(request)):
            raise NotPermitted("requests from pages of another site are refused (Sec-Fetch-Site)")
        return await handler(request)

    return check


def _is_navigation(request: web.Request) -> bool:
    fetch = (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest"))
    return request.method == "GET" and fetch == ("navigate", "document")


def loopback_names_only() -> Middleware:
    """Middleware that refuses a Host other than a loopback name, against DNS rebinding."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_loopback(_host_of(request.headers.get("Host", ""))):
            raise NotPermitted("the Host header must name localhost, 127.0.0.0/8 or [::1]")
        return await handler(request)

    return check


class Authenticator(Protocol):
    """Verifies one kind of credential."""

    accepts: str
    """The kind, as text."""

    async def caller(self, credential: str, request: web.Request) -> str | None:
        """Name of the caller for the audit log; None: not a valid credential of this kind. Raises ControlError."""


def credential_required(authenticators: Sequence[Authenticator], open_ids: Collection[str]) -> Middleware:
    """Middleware that requires a credential accepted by one of `authenticators`, in order.

    `open_ids`: ids of the operations without one.
    """
    if not authenticators:
        raise ValueError("without an authenticator no caller could be accepted")
    accepted = " or ".join(authenticator.accepts for authenticator in authenticators)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name not in open_ids:
            user, name = request.get(CALLER), await _authenticated(authenticators, request)
            if name is None:
                raise MissingCredential(f"the credential is missing or wrong: Authorization: Bearer with {accepted}")
            request[CALLER] = f"{user}, {name}" if user else name
        return await handler(request)

    return check


async def _authenticated(authenticators: Sequence[Authenticator], request: web.Request) -> str | None:
    presented = _credential(request.headers.getall("Authorization", []))
    if presented:
        for authenticator in authenticators:
            if name := await authenticator.caller(presented, request):
                return name
    return None


def error_response(status: int, code: str, message: str, faults: list[dict[str, Any]] | None = None) -> web.Response:
    """An error response.

    status: HTTP status.
    code: machine-readable code.
    message: text for people.
    faults: broken rules of a manifest; default: no such field.
    """
    error: dict[str, Any] = {"code": code, "message": message}
    if faults is not None:
        error["faults"] = faults
    return web.json_response({"error": error}, status=status)


def bare_error(status: int, code: str, message: str) -> bytes:
    """A complete HTTP response as bytes, for a connection closed without a request; as `error_response`."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    fields = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **SECURITY_HEADERS,
        "Server": SERVER,
    }
    lines = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields.items()))
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode() + body


def _credential(headers: list[str]) -> str:
    """The bearer token or Basic password of a single Authorization field; '' for anything else."""
    if len(headers) != 1:
        return ""
    scheme, _, rest = headers[0].partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return ""
        case _:
            return ""


def _host_of(authority: str) -> str:
    """The host of a Host field; "" unless the field is a name or address with an optional port, and nothing more."""
    found = _HOST.fullmatch(authority)
    return found["host"] if found else ""


def _is_same_site(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    return scheme.lower() in ("http", "https") and authority.lower() == host.lower()


def _plain(value: Any) -> Any:
    """The value, if it is small and can be encoded as JSON; else its text for people."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return shown(value)
    return value if len(text) <= MAX_SHOWN_VALUE_CHARACTERS else shown(value)


def _message(error: web.HTTPException, request: web.Request) -> str:
    match error.status:
        case 404:
            return f"there is nothing at {request.path}"
        case 405:
            return f"{request.method} is not possible on {request.path}"
        case 408:
            return "the request body did not arrive in time"
        case 413:
            return "the body is too large"
        case _:
            return error.reason
