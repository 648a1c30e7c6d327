"""Which header fields travel through a proxy, both ways (RFC 9110 section 7.6.1), and which the router sets itself.

A field is `(lower-case name, name as sent, value)`, all bytes.
"""

from collections.abc import Iterable

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

# CGI and WSGI servers cannot tell X_Forwarded_For from X-Forwarded-For (CVE-2025-64484 is of this class).
_GUARDED = HOP_BY_HOP | ROUTER_REQUEST | ROUTER_RESPONSE | {b"via"}

# A Connection field may not take these away (CVE-2022-31813 is of this class).
_NOT_NOMINABLE = frozenset({b"host", b"content-length", b"authorization", b"content-type"})


def connection_tokens(fields: Iterable[Field]) -> frozenset[bytes]:
    """The lower-case tokens of every Connection field."""
    return frozenset(
        token
        for name, _, value in fields
        if name == b"connection"
        for token in (part.strip().lower() for part in value.split(b","))
        if token
    )


def _look_alike(name: bytes) -> bool:
    dashed = name.replace(b"_", b"-")
    return b"_" in name and (dashed in _GUARDED or dashed.startswith((b"x-forwarded-", b"x-ms-", b"azureml-")))


def _travelling(fields: Iterable[Field], nominated: frozenset[bytes], own: frozenset[bytes]) -> Iterable[Field]:
    for field in fields:
        name = field[0]
        if name in HOP_BY_HOP or name in own or name.startswith(b"x-forwarded-"):
            continue
        if (name in nominated and name not in _NOT_NOMINABLE) or _look_alike(name):
            continue
        yield field


def for_replica(fields: list[Field], nominated: frozenset[bytes], host: bytes, proto: bytes, client: bytes) -> bytes:
    """The head lines a replica gets, without request line, framing, ids and the final empty line.

    `client` is the address the request came from; it is appended to X-Forwarded-For.
    """
    forwarded = [value for name, _, value in fields if name == b"x-forwarded-for"]
    lines = [b"Host: %b\r\n" % host]
    lines += [b"%b: %b\r\n" % (name, value) for _, name, value in _travelling(fields, nominated, ROUTER_REQUEST)]
    lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join([*forwarded, client]))
    lines.append(b"X-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nVia: 1.1 scorefront\r\n" % (proto, host))
    return b"".join(lines)


def for_client(fields: list[Field], nominated: frozenset[bytes]) -> bytes:
    """The head lines a client gets of what the replica sent, without status line, framing and the final empty line."""
    return b"".join(
        [b"%b: %b\r\n" % (name, value) for _, name, value in _travelling(fields, nominated, ROUTER_RESPONSE)]
    )
