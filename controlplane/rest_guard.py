"""Who may speak to the REST API, and how it says no: middlewares around every handler.

On loopback the user who runs `up` and root may (`controlplane.callers`); a web page that someone visits may not (DNS
rebinding, cross-site requests). Elsewhere a credential is asked for on everything but the probes.
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
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from controlplane.control_errors import ControlError, InvalidCall, MissingCredential, NotPermitted
from serving.faults import InvalidManifest, shown

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_SHOWN_VALUE_CHARACTERS = 1000

CALLER: Final = web.RequestKey("caller", str)
"""The caller's identity once a credential or a user is accepted, as text for the audit log: `uid 1000`."""
VISIBLE: Final = web.RequestKey("visible", frozenset[str])
"""Names of the endpoints that the caller may list; all where it is not set."""
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
"""On every answer: nothing is sniffed, framed, cached, read by other sites or told to them."""
FETCHED_FROM_HERE = ("same-origin", "none")
"""Values of Sec-Fetch-Site of a request that no other site's page has caused."""

_PASSED_ON = {404: "NotFound", 405: "MethodNotAllowed", 408: "RequestTimeout", 413: "PayloadTooLarge"}
_PATH = re.compile(r"/[!-~]*")
_log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or ::1 (with or without brackets); a name that would need a resolver is not."""
    bare = host.strip("[]")
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


async def add_security_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Set `SECURITY_HEADERS` where the handler has not; fits `Application.on_response_prepare`."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SERVER  # aiohttp has set its own by then


def json_errors() -> Middleware:
    """Whatever is refused or fails is told as {"error": {code, message, faults}}."""

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
                # Basic lets a browser ask for the token (as the password), which makes the dashboard reachable.
                response.headers.add("WWW-Authenticate", 'Bearer realm="scorefront"')
                response.headers.add("WWW-Authenticate", 'Basic realm="scorefront", charset="UTF-8"')
            return response
        except web.HTTPException as error:
            code = _PASSED_ON.get(error.status, "BadRequest" if error.status < 500 else "Internal")
            response = error_response(error.status, code, _said(error, request))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:
            raise  # the client is gone: nobody to tell
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return error_response(500, "Internal", "internal error; the log of scorefront tells more")

    return translate


def origin_form_only() -> Middleware:
    """Refuse a request target that is not a path (absolute-form, `*`, the authority of CONNECT) or not ASCII."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "CONNECT" or not _PATH.fullmatch(request.raw_path):
            raise InvalidCall(
                "the request target must be a path of printable ASCII characters, as in /api/v1/endpoints"
            )
        return await handler(request)

    return check


def same_site_only(pages: Collection[str] = ()) -> Middleware:
    """Refuse what another site's page has caused, reading included; a port of the same host is another site.

    `pages`: paths that a link of another site may open in a window of its own; default none.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and not _is_same_site(origin, request.host):
            raise NotPermitted("requests from pages of another origin are refused")
        fetched_from = request.headers.get("Sec-Fetch-Site", "none").lower()
        if fetched_from not in FETCHED_FROM_HERE and not (request.path in pages and _is_navigation(request)):
            raise NotPermitted("requests from pages of another site are refused (Sec-Fetch-Site)")
        return await handler(request)

    return check


def _is_navigation(request: web.Request) -> bool:
    fetch = (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest"))
    return request.method == "GET" and fetch == ("navigate", "document")


def loopback_names_only() -> Middleware:
    """Refuse a Host that is not a name of this machine: a page whose name was rebound to 127.0.0.1 reads nothing."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_loopback(_host_of(request.headers.get("Host", ""))):
            raise NotPermitted("the Host header must name localhost, 127.0.0.0/8 or [::1]")
        return await handler(request)

    return check


class Authenticator(Protocol):
    """Knows one kind of credential."""

    accepts: str
    """The kind, in words."""

    async def caller(self, credential: str, request: web.Request) -> str | None:
        """The caller's name for the audit log; None: not a credential of this kind. Raises ControlError."""


def credential_required(authenticators: Sequence[Authenticator], open_paths: Collection[str]) -> Middleware:
    """Demand a credential that one of `authenticators` knows, asked in their order, on every path but `open_paths`."""
    if not authenticators:
        raise ValueError("without an authenticator no caller could be accepted")
    accepted = " or ".join(authenticator.accepts for authenticator in authenticators)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in open_paths:
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
    """The one shape of an error."""
    error: dict[str, Any] = {"code": code, "message": message}
    if faults is not None:
        error["faults"] = faults
    return web.json_response({"error": error}, status=status)


def bare_error(status: int, code: str, message: str) -> bytes:
    """The whole answer as bytes, for a connection that ends without a request; the shape of `error_response`."""
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
    """What a single Authorization header presents: a bearer token, or the password of Basic; '' for anything else."""
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
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_same_site(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _plain(value: Any) -> Any:
    """The value, if JSON can carry it and it is small; else as it would be shown to people."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return shown(value)
    return value if len(text) <= MAX_SHOWN_VALUE_CHARACTERS else shown(value)


def _said(error: web.HTTPException, request: web.Request) -> str:
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
