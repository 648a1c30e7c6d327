"""Header fields forwarded in both directions (RFC 9110 section 7.6.1), and those set by the router.

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

# A replica honouring these would serve another method or path than the routed and authorized one.
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

# Set or evaluated by the router; not forwarded when sent by a client or a replica.
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

_NOT_FORWARDED_TO_REPLICA = HOP_BY_HOP | ROUTER_REQUEST | OVERRIDES
TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})
"""Written anew for endpoints with telemetry, with the span of the router."""
_STOPPED = {
    (credential, traced): (_NOT_FORWARDED_TO_REPLICA | (TRACE_CONTEXT if traced else set()))
    - ({b"authorization"} if credential else set())
    for credential in (False, True)
    for traced in (False, True)
}
"""Names not forwarded to a replica, by the arguments of `for_replica`."""
_NOT_FORWARDED_TO_CLIENT = HOP_BY_HOP | ROUTER_RESPONSE

# CGI and WSGI servers do not distinguish X_Forwarded_For from X-Forwarded-For (as in CVE-2025-64484).
_GUARDED = HOP_BY_HOP | ROUTER_REQUEST | ROUTER_RESPONSE | OVERRIDES | {b"via"}

# A Connection field cannot remove these (as in CVE-2022-31813).
_NOT_NOMINABLE = frozenset({b"host", b"content-length", b"authorization", b"content-type"})
_NO_TOKENS: frozenset[bytes] = frozenset()


def connection_tokens(values: Sequence[bytes]) -> frozenset[bytes]:
    """Lower-case tokens of all Connection field values."""
    if not values:
        return _NO_TOKENS
    return frozenset(token for part in b",".join(values).split(b",") if (token := part.strip().lower()))


def _look_alike(name: bytes) -> bool:
    dashed = name.replace(b"_", b"-")
    return dashed in _GUARDED or dashed.startswith((b"x-forwarded-", b"x-ms-", b"azureml-"))


def _passes(name: bytes, nominated: frozenset[bytes], stopped: frozenset[bytes]) -> bool:
    """True if a field is forwarded.

    `name`: in lower case. `nominated`: names listed in Connection. `stopped`: names never forwarded in this direction.
    Look-alikes of guarded names are dropped, too.
    """
    return (
        name not in stopped
        and not name.startswith(b"x-forwarded-")
        and (name not in nominated or name in _NOT_NOMINABLE)
        and (b"_" not in name or not _look_alike(name))
    )


def _forwarded(fields: list[Field], nominated: frozenset[bytes], stopped: frozenset[bytes]) -> list[bytes]:
    """Header lines to forward; see `_passes`."""
    return [b"%b: %b\r\n" % (sent, value) for name, sent, value in fields if _passes(name, nominated, stopped)]


def passed_to_replica(
    fields: list[Field], nominated: frozenset[bytes], credential: bool, traced: bool
) -> tuple[bool, ...]:
    """For each field: True if it is among the lines of `for_replica`, with the same arguments."""
    stopped = _STOPPED[credential, traced]
    return tuple(_passes(name, nominated, stopped) for name, _, _ in fields)


def passed_to_client(fields: list[Field], nominated: frozenset[bytes]) -> tuple[bool, ...]:
    """For each field: True if it is among the lines of `for_client`, with the same arguments."""
    return tuple(_passes(name, nominated, _NOT_FORWARDED_TO_CLIENT) for name, _, _ in fields)


def for_replica(
    fields: list[Field], nominated: frozenset[bytes], host: bytes, credential: bool = False, traced: bool = False
) -> bytes:
    """Header lines for the replica, without request line, X-Forwarded-*, framing, ids and the final empty line.

    `fields`: fields of the request. `nominated`: names listed in its Connection fields. `host`: value of Host.
    `credential`: pass on Authorization, which is not for the router; default False. `traced`: leave out the trace
    context, which the router writes; default False.
    """
    lines = [b"Host: %b\r\n" % host]
    lines += _forwarded(fields, nominated, _STOPPED[credential, traced])
    return b"".join(lines)


def for_client(fields: list[Field], nominated: frozenset[bytes]) -> bytes:
    """Header lines for the client from a replica's response, without status line, framing and the final empty line."""
    return b"".join(_forwarded(fields, nominated, _NOT_FORWARDED_TO_CLIENT))
