"""Which header fields travel through a proxy, both ways (RFC 9110 section 7.6.1), and which the router sets itself.

A field is `(lower-case name, name as sent, value)`, all bytes.
"""

from collections.abc import Sequence

Field = tuple[bytes, bytes, bytes]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"proxy-authenticate",
        b"proxy-authorization",
    }
)

# A replica that believes these would serve another method or path than the one that was routed and authorized.
OVERRIDES = frozenset(
    {
        b"x-http-method",
        b"x-http-method-override",
        b"x-http-path-override",
        b"x-method-override",
        b"x-original-method",
        b"x-original-path",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-path",
        b"x-rewrite-uri",
        b"x-rewrite-url",
    }
)

# What the router says about itself or decides by; what a client or a replica sends under these names is not passed on.
ROUTER_REQUEST = frozenset(
    {
        b"authorization",
        b"content-length",
        b"host",
        b"expect",
        b"forwarded",
        b"x-real-ip",
        b"x-ms-request-id",
        b"x-ms-client-request-id",
        b"azureml-model-deployment",
        b"x-forwarded-for",
    }
)
ROUTER_RESPONSE = frozenset(
    {b"content-length", b"x-ms-request-id", b"x-ms-client-request-id", b"azureml-model-deployment", b"x-ms-error-code"}
)

_STOPPED_ON_THE_WAY_IN = HOP_BY_HOP | ROUTER_REQUEST | OVERRIDES
_STOPPED_ON_THE_WAY_OUT = HOP_BY_HOP | ROUTER_RESPONSE

# CGI and WSGI servers cannot tell X_Forwarded_For from X-Forwarded-For (CVE-2025-64484 is of this class).
_GUARDED = HOP_BY_HOP | ROUTER_REQUEST | ROUTER_RESPONSE | OVERRIDES | {b"via"}

# A Connection field may not take these away (CVE-2022-31813 is of this class).
_NOT_NOMINABLE = frozenset({b"host", b"content-length", b"authorization", b"content-type"})


_NOBODY: frozenset[bytes] = frozenset()


def connection_tokens(values: Sequence[bytes]) -> frozenset[bytes]:
    """The lower-case tokens of the values of all Connection fields."""
    if not values:
        return _NOBODY
    return frozenset(token for part in b",".join(values).split(b",") if (token := part.strip().lower()))


def _look_alike(name: bytes) -> bool:
    dashed = name.replace(b"_", b"-")
    return dashed in _GUARDED or dashed.startswith((b"x-forwarded-", b"x-ms-", b"azureml-"))


def _travelling(fields: list[Field], nominated: frozenset[bytes], stopped: frozenset[bytes]) -> list[bytes]:
    """The lines of the fields that go on: not `stopped`, not nominated by Connection, nothing that looks like ours."""
    return [
        b"%b: %b\r\n" % (sent, value)
        for name, sent, value in fields
        if name not in stopped
        and not name.startswith(b"x-forwarded-")
        and (name not in nominated or name in _NOT_NOMINABLE)
        and (b"_" not in name or not _look_alike(name))
    ]


def for_replica(fields: list[Field], nominated: frozenset[bytes], host: bytes, proto: bytes, client: bytes) -> bytes:
    """The head lines a replica gets, without request line, framing, ids and the final empty line.

    `client` is the address the request came from; it is appended to X-Forwarded-For.
    """
    forwarded = [value for name, _, value in fields if name == b"x-forwarded-for"]
    lines = [b"Host: %b\r\n" % host]
    lines += _travelling(fields, nominated, _STOPPED_ON_THE_WAY_IN)
    lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join([*forwarded, client]))
    lines.append(b"X-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nVia: 1.1 scorefront\r\n" % (proto, host))
    return b"".join(lines)


def for_client(fields: list[Field], nominated: frozenset[bytes]) -> bytes:
    """The head lines a client gets of what the replica sent, without status line, framing and the final empty line."""
    return b"".join(_travelling(fields, nominated, _STOPPED_ON_THE_WAY_OUT))
