"""Requests of browsers from other origins (CORS protocol, https://fetch.spec.whatwg.org/#http-cors-protocol). Pure."""

import re
from collections.abc import Sequence

from router.core.header_fields import Field
from router.core.router_errors import SCORING_METHODS
from serving.endpoint import Cors

ALLOWED_METHODS = (*SCORING_METHODS, b"OPTIONS")
"""Methods of an endpoint that declares `cors`."""
EXPOSED = b"x-ms-request-id, x-ms-client-request-id, x-ms-error-code, azureml-model-deployment, Retry-After"
"""Fields of responses that scripts may read beside those that the Fetch standard allows."""
OF_REPLICAS = b"access-control-"
"""Prefix of the fields that a replica does not send where the router does."""
FROM_REPLICAS = b"access-control-expose-headers"
"""The exception: a list to which the router adds its own fields."""
_subdomain = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_names = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


class CorsRule:
    """The declaration `cors` of an endpoint, precomputed."""

    __slots__ = ("_any_header", "_any_origin", "_headers", "_max_age", "_origins", "_wildcards")

    def __init__(self, cors: Cors) -> None:
        origins = [_canonical(origin.encode()) for origin in cors.allow_origins]
        self._any_origin = b"*" in origins
        self._origins = frozenset(origin for origin in origins if b"*" not in origin)
        self._wildcards = [origin.split(b"*", 1) for origin in origins if b"://*." in origin]
        self._any_header = "*" in cors.allow_headers
        self._headers = ", ".join(cors.allow_headers).encode()
        self._max_age = b"%d" % cors.max_age_s

    def allows(self, origin: bytes) -> bool:
        """True if scripts of this origin may read responses. `origin`: value of the Origin field."""
        if self._any_origin or origin in self._origins:
            return bool(origin)
        return any(
            _subdomain.fullmatch(origin[len(scheme) : -len(parent)])
            for scheme, parent in self._wildcards
            if origin.startswith(scheme) and origin.endswith(parent)
        )

    def response_lines(self, origin: bytes) -> bytes:
        """Lines of every response of the endpoint. `origin`: value of the Origin field, empty without one."""
        if not self.allows(origin):
            return b"Vary: Origin\r\n"
        shown = b"*" if self._any_origin else origin
        return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: %b\r\nVary: Origin\r\n" % (
            shown,
            EXPOSED,
        )

    def preflight_lines(self, fields: Sequence[Field]) -> bytes:
        """Lines of the response to OPTIONS. `fields`: of the request; only a preflight is told what is allowed."""
        origin = origin_of(fields)
        allow = b"Allow: %b\r\n" % b", ".join(ALLOWED_METHODS)
        asked: dict[bytes, bytes] = {}
        for name, _, value in fields:
            if name.startswith(b"access-control-request-"):
                asked[name] = b"%b, %b" % (asked[name], value) if name in asked else value
        if b"access-control-request-method" not in asked or not self.allows(origin):
            return allow + self.response_lines(origin)
        headers = self._headers
        if self._any_header:
            # A literal "*" would not cover Authorization.
            wanted = asked.get(b"access-control-request-headers", b"")
            headers = wanted if _names.fullmatch(wanted) else b""
        return b"".join(
            [
                allow,
                b"Access-Control-Allow-Origin: %b\r\n" % (b"*" if self._any_origin else origin),
                b"Access-Control-Allow-Methods: %b\r\n" % b", ".join(SCORING_METHODS),
                b"Access-Control-Allow-Headers: %b\r\n" % headers if headers else b"",
                b"Access-Control-Max-Age: %b\r\n" % self._max_age,
                b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n",
            ]
        )


def origin_of(fields: Sequence[Field]) -> bytes:
    """The value of the Origin field; empty without one, or with two."""
    origins = [value for name, _, value in fields if name == b"origin"]
    return origins[0] if len(origins) == 1 else b""


def _canonical(origin: bytes) -> bytes:
    """An origin as browsers send it: without the default port of its scheme."""
    scheme = origin.partition(b"://")[0]
    return origin.removesuffix({b"http": b":80", b"https": b":443"}.get(scheme, b"\0"))
