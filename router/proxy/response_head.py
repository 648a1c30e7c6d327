"""Response heads of replicas: bytes in, a checked record out (RFC 9110, RFC 9112). No I/O."""

import re

import httptools

from router.core.header_fields import HOP_BY_HOP, Field, connection_tokens
from router.core.router_errors import BadRequest, ReplicaFailed
from router.proxy.head_cache import HeadPattern, length_of, with_values
from router.proxy.head_parsing import FieldCollector, feed_parser, is_malformed, is_persistent, values_by_name

_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")
_digits = re.compile(rb"[0-9]{1,18}")


class ResponseHead:
    """A checked response head of a replica."""

    __slots__ = (
        *("_pattern",),
        *("chunked", "content_length", "fields", "keep_alive", "lines", "names", "nominated", "raw", "reason"),
        *("size", "status", "until_close"),
    )

    def __init__(
        self,
        raw: bytes,
        status: int,
        reason: bytes,
        version_minor: int,
        fields: list[Field],
        values: dict[bytes, list[bytes]],
    ) -> None:
        """`raw`: its bytes. `fields`: parsed, in order. `values`: lower-case name -> values of its fields, in order."""
        self.raw = raw
        self.size = len(raw)
        self.status = status
        self.reason = reason
        self.fields = fields
        self.names = values.keys()
        """Lower-case names of the fields."""
        self.nominated = connection_tokens(values.get(b"connection", ()))
        self.keep_alive = is_persistent(version_minor, self.nominated)
        self.chunked = False
        self.content_length = 0
        """-1: unknown, in a response to HEAD."""
        self.until_close = False
        self.lines = b""
        """Rendered for the client without common fields and empty line; cached by the exchange."""
        self._pattern: HeadPattern | None = None

    def varied(self, raw: bytes) -> "ResponseHead | None":
        """The head `raw` if only pass-through values differ from this one; None if it must be parsed."""
        if self._pattern is None:
            self._pattern = HeadPattern.of(self.raw, self.fields, HOP_BY_HOP)
        found = self._pattern.match(raw)
        if found is None:
            return None
        pattern, changes = found
        length = length_of(changes, self.fields, self.content_length)
        if length < 0 or (length != self.content_length and _has_no_body(self.status)):
            return None
        head = ResponseHead.__new__(ResponseHead)
        for name in _SHARED:
            setattr(head, name, getattr(self, name))
        head.raw, head.size, head.lines, head._pattern = raw, len(raw), b"", pattern
        head.fields, head.content_length = with_values(self.fields, changes), length
        return head


_OWN = {"raw", "size", "fields", "content_length", "lines", "_pattern"}
_SHARED = tuple(name for name in ResponseHead.__slots__ if name not in _OWN)


def parse_response(raw: bytes, to_head: bool = False) -> ResponseHead:
    """Parse and check a response head. Raises ReplicaFailed.

    `raw`: ends with the empty line. `to_head`: the request was HEAD, so no body follows; default False.
    """
    line = _status_line.match(raw)
    if line is None or is_malformed(raw):
        raise ReplicaFailed("The replica's answer is not valid HTTP/1.1.")
    collector = FieldCollector()
    try:
        feed_parser(httptools.HttpResponseParser(collector), raw)
    except BadRequest as error:
        raise ReplicaFailed("The replica's answer is not valid HTTP/1.1.") from error
    values = values_by_name(collector.fields)
    head = ResponseHead(raw, int(line[2]), line[3] or b"", int(line[1]), collector.fields, values)
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings) or (codings and line[1] == b"0"):
        raise ReplicaFailed("The framing of the replica's answer is ambiguous.")
    if to_head:
        head.keep_alive = False  # some servers send a body all the same: it must not become the next response
    if _has_no_body(head.status):
        return head
    if codings:
        if codings[0].lower() != b"chunked":
            raise ReplicaFailed("The transfer coding of the replica's answer is not understood.")
        head.chunked = True
    elif lengths:
        if not _digits.fullmatch(lengths[0]):
            raise ReplicaFailed("The length of the replica's answer is not a number.")
        head.content_length = int(lengths[0])
    elif to_head:
        head.content_length = -1
    else:
        head.until_close = True
        head.keep_alive = False
    return head


def _has_no_body(status: int) -> bool:
    """True if a response with this status never has a body (RFC 9112 section 6.3)."""
    return status < 200 or status in (204, 304)
