"""Response heads of replicas: bytes in, a checked record out (RFC 9110, RFC 9112). No I/O."""

import re
from collections.abc import Collection

import httptools

from router.core.cors import OF_REPLICAS
from router.core.forwarding import REFERENCES
from router.core.header_fields import Field, connection_tokens
from router.core.router_errors import BadRequest, ReplicaFailed
from router.proxy.head_parsing import (
    BOTH_FRAMINGS,
    NOT_A_LENGTH,
    UNKNOWN_CODING,
    FieldCollector,
    feed_parser,
    framing_fault,
    is_malformed,
    is_persistent,
    values_by_name,
)
from router.proxy.head_shapes import fields_like

STATUS_LINE = "the status line must be HTTP/1.1, a status from 100 to 599 and a reason"
_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")
_length_line = re.compile(rb"\r\ncontent-length:[^\r]*(?=\r\n)", re.IGNORECASE)
_coding_line = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_digits = re.compile(rb"[0-9]{1,18}")


def _of_cors(name: bytes) -> bool:
    return name.startswith(OF_REPLICAS)


class ResponseHead:
    """A checked response head of a replica."""

    __slots__ = (
        *("_fields", "_model", "broken_rule", "depends_on_request"),
        *("chunked", "content_length", "keep_alive", "lines", "names", "nominated", "observed", "raw", "reason"),
        *("size", "status", "until_close", "version_minor"),
    )

    def __init__(self, raw: bytes, status: int, reason: bytes, version_minor: int) -> None:
        """The other attributes are set by `parse_response` or `varied`. `raw`: its bytes."""
        self.raw = raw
        self.size = len(raw)
        self.status = status
        self.version_minor = version_minor
        self.reason = reason
        self.names: Collection[bytes] = ()
        """Lower-case names of the fields."""
        self.depends_on_request = False
        """True if a field is rendered for each request by itself."""
        self.nominated: frozenset[bytes] = frozenset()
        self.keep_alive = False
        self.broken_rule = ""
        """A rule that the head breaks and that does not make it ambiguous; for the log."""
        self.chunked = False
        self.content_length = 0
        """-1: unknown, in a response to HEAD."""
        self.until_close = False
        self.lines = b""
        """Rendered for the client without common fields and empty line; cached by the exchange."""
        self.observed: bytes | None = None
        """Description made by an observer; kept for a head that repeats."""
        self._fields: list[Field] | None = None
        self._model: ResponseHead | None = None

    @property
    def fields(self) -> list[Field]:
        """The fields, in order."""
        fields = self._fields
        if fields is None:
            assert self._model is not None
            fields = self._fields = fields_like(self._model.fields, self.raw)
            self._model = None  # a known head is one itself: no chain of them is kept
        return fields

    def set_fields(self, fields: list[Field], values: dict[bytes, list[bytes]]) -> None:
        """Set the fields and what follows from their values.

        `fields`: parsed, in order. `values`: lower-case name -> values of its fields, in order.
        """
        self._fields = fields
        self.names = values.keys()
        self.depends_on_request = not REFERENCES.isdisjoint(self.names) or any(map(_of_cors, self.names))
        self.nominated = connection_tokens(values.get(b"connection", ()))
        self.keep_alive = is_persistent(self.version_minor, self.nominated)

    def varied(self, raw: bytes, content_length: int) -> "ResponseHead":
        """Another head that differs from this one in values that do not decide.

        `raw`: its bytes, with the same names. `content_length`: of its body.
        """
        head = ResponseHead(raw, self.status, self.reason, self.version_minor)
        head.names, head.depends_on_request, head.nominated = self.names, self.depends_on_request, self.nominated
        head.keep_alive, head.chunked, head.until_close = self.keep_alive, self.chunked, self.until_close
        head.content_length = content_length
        head._model = self
        return head


def parse_response(raw: bytes, to_head: bool = False) -> ResponseHead:
    """Parse and check a response head. Raises ReplicaFailed.

    `raw`: ends with the empty line. `to_head`: the request was HEAD, so no body follows; default False.
    """
    try:
        return _parsed(raw, to_head)
    except ReplicaFailed:
        if not (_coding_line.search(raw) and _length_line.search(raw)):
            raise
    # The coding overrides the length (RFC 9112 section 6.3); the connection is not trusted with another request.
    head = _parsed(_length_line.sub(b"", raw), to_head)
    head.broken_rule, head.keep_alive = BOTH_FRAMINGS, False
    return head


def _parsed(raw: bytes, to_head: bool) -> ResponseHead:
    line = _status_line.match(raw)
    if line is None:
        raise ReplicaFailed(STATUS_LINE)
    if is_malformed(raw):
        raise ReplicaFailed("control characters, bare CR or LF, or a folded line")
    collector = FieldCollector()
    try:
        feed_parser(httptools.HttpResponseParser(collector), raw)
    except BadRequest as error:
        raise ReplicaFailed(error.rule) from error
    values = values_by_name(collector.fields)
    head = ResponseHead(raw, int(line[2]), line[3] or b"", int(line[1]))
    head.set_fields(collector.fields, values)
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if broken := framing_fault(lengths, codings, int(line[1])):
        raise ReplicaFailed(broken)
    if to_head:
        head.keep_alive = False  # some servers send a body all the same: it must not become the next response
    if has_no_body(head.status):
        return head
    if codings:
        if codings[0].lower() != b"chunked":
            raise ReplicaFailed(UNKNOWN_CODING)
        head.chunked = True
    elif lengths:
        if not _digits.fullmatch(lengths[0]):
            raise ReplicaFailed(NOT_A_LENGTH)
        head.content_length = int(lengths[0])
    elif to_head:
        head.content_length = -1
    else:
        head.until_close = True
        head.keep_alive = False
    return head


def has_no_body(status: int) -> bool:
    """True if a response with this status never has a body (RFC 9112 section 6.3)."""
    return status < 200 or status in (204, 304)
