"""Messages on single requests for request records and spans, from a router worker to the collector. Pure.

Kind ACCESS of `telemetry.payload_messages`. They name no credential, no query and no body.
"""

import math
import struct
from dataclasses import dataclass
from typing import Final

MAX_PATH_BYTES: Final = 256
MAX_AGENT_CHARACTERS: Final = 70
SAMPLED, RECORDED, FROM_PARENT, HTTP_1_1 = 1, 2, 4, 8
"""Bits: a span is wanted, a request record is wanted, the client has a span, the version of HTTP."""

_access = struct.Struct("<ddddQQHHB36s32s16s16s")
ACCESS_BYTES: Final = _access.size
"""Bytes of a message before the texts."""
pack_access = struct.Struct("<II" + _access.format[1:]).pack
"""Beginning of a message: its frame (bytes after it, kind), unix seconds of the end, seconds in total, in the queue and
of the replica (NaN: of none), bytes of both bodies, status, status of the replica (0: none), bits, request id, trace
id, span id, span id of the client. Texts follow, separated by NUL: endpoint, version, kind of credential, method, path,
user agent, id of the client, replica, error code, tracestate."""
_TEXTS: Final = 10


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """The facts of one request."""

    ended: float
    """Unix seconds."""
    total_s: float
    queue_s: float
    replica_s: float | None
    """None: no replica was tried."""
    request_bytes: int
    response_bytes: int
    """Size of the body that the replica sent."""
    status: int
    replica_status: int
    """Status code of the replica; 0: it sent none."""
    sampled: bool
    """True: its span is wanted."""
    recorded: bool
    """True: its request record is wanted."""
    http_version: str
    request_id: str
    trace_id: str
    """Zeros: it has no trace."""
    span_id: str
    """Span id of the router; of the client where the router has no span."""
    parent_id: str
    """Span of the client; "" without one."""
    endpoint: str
    version: str
    """"" for a request that reached none."""
    auth: str
    """key, token or none."""
    method: str
    path: str
    user_agent: str
    client_request_id: str
    replica: str
    code: str
    """Error code of the response; "" without one."""
    trace_state: str


def decode_access(message: bytes) -> AccessRecord:
    """The content of a message of kind ACCESS. Raises ValueError."""
    try:
        fields = _access.unpack_from(message)
        texts = message[_access.size :].decode("utf-8", "replace").split("\0")
        ids = [each.decode("ascii") for each in fields[9:]]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if len(texts) != _TEXTS:
        raise ValueError(f"an access record of {len(texts)} texts should have {_TEXTS}")
    ended, total_s, queue_s, replica_s, request_bytes, response_bytes, status, replica_status, bits = fields[:9]
    request_id, trace_id, span_id, parent_id = ids
    endpoint, version, auth, method, path, agent, client_id, replica, code, state = texts
    return AccessRecord(
        ended=ended,
        total_s=total_s,
        queue_s=queue_s,
        replica_s=None if math.isnan(replica_s) else replica_s,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        status=status,
        replica_status=replica_status,
        sampled=bool(bits & SAMPLED),
        recorded=bool(bits & RECORDED),
        http_version="1.1" if bits & HTTP_1_1 else "1.0",
        request_id=request_id,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id if bits & FROM_PARENT else "",
        endpoint=endpoint,
        version=version,
        auth=auth,
        method=method,
        path=path,
        user_agent=agent[:MAX_AGENT_CHARACTERS],
        client_request_id=client_id,
        replica=replica,
        code=code,
        trace_state=state,
    )


def endpoint_of(message: bytes) -> str:
    """The endpoint of a message of kind ACCESS."""
    end = message.find(b"\0", _access.size)
    return message[_access.size : end].decode("utf-8", "replace")
