"""W3C Trace Context: `traceparent` and `tracestate` of requests; the sample of the traces. Pure."""

import re
from dataclasses import dataclass
from typing import Final

MAX_STATE_MEMBERS: Final = 32
MAX_STATE_BYTES: Final = 2048
_EITHER: Final = b"\r\ntrace"
_PARENT: Final = b"\r\ntraceparent:"
_STATE: Final = b"\r\ntracestate:"
_parent = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?"
)
_usual = re.compile(rb" 00-([0-9a-f]{32})-([0-9a-f]{16})-0([01])\r\n")
"""As nearly all are written; read in a third of the time."""
_member = re.compile(
    rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


ParentSpan = tuple[bytes, bytes, bool, bytes]
"""The span of the client: trace id (32 hexadecimal digits), span id (16), its sampled flag, value of `tracestate`."""


NO_SPAN: Final = b"0" * 16
NO_TRACE: Final = b"0" * 32
NO_PARENT: Final = (NO_TRACE, NO_SPAN, False, b"")
"""Without a trace."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Rule for the traces of which spans are exported, as in OTEL_TRACES_SAMPLER."""

    follows_parent: bool = True
    """True: the client's decision counts, where there is one."""
    share: float = 1.0
    """Of the other traces, in [0, 1]."""

    @property
    def bound(self) -> bytes:
        """Bound of the lower half of the trace ids in the sample, the same in every implementation, in hexadecimal."""
        return b"g" if self.share == 1 else b"%016x" % round(self.share * (1 << 64))


def parent_span(raw: bytes, lowered: bytes) -> ParentSpan | None:
    """The span of the client; None without one, and for a malformed one.

    raw: head of the request. lowered: the same in lower case.
    """
    fields = lowered.count(_EITHER)
    if not fields:
        return None
    start = lowered.find(_PARENT) + len(_PARENT)
    if start < len(_PARENT) or (fields > 1 and lowered.find(_PARENT, start) >= 0):
        return None
    state = _trace_state(raw, lowered) if fields > 1 else b""
    usual = _usual.match(raw, start)
    if usual is not None:
        trace_id, span_id, flag = usual.groups()
        return (trace_id, span_id, flag == b"1", state) if trace_id != NO_TRACE and span_id != NO_SPAN else None
    found = _parent.fullmatch(raw[start : raw.index(b"\r\n", start)].strip(b" \t"))
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    return found[2], found[3], bool(int(found[4], 16) & 1), state


def _trace_state(raw: bytes, lowered: bytes) -> bytes:
    """The members of all `tracestate` fields, in order; none if one of them is malformed or named twice."""
    members: list[bytes] = []
    at = lowered.find(_STATE)
    while at >= 0:
        start = at + len(_STATE)
        value = raw[start : raw.index(b"\r\n", start)]
        members += [member for each in value.split(b",") if (member := each.strip(b" \t"))]
        at = lowered.find(_STATE, start)
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > MAX_STATE_MEMBERS or len(keys) < len(members) or not all(map(_member.fullmatch, members)):
        return b""
    state = b",".join(members)
    return state if len(state) <= MAX_STATE_BYTES else b""
