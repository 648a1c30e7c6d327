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


class ResponseMeaning:
    """The part of a response head that its deciding values determine: heads of one shape share it."""

    __slots__ = (
        *("broken_rule", "chunked", "depends_on_request", "has_date", "keep_alive", "names", "nominated", "reason"),
        *("start_lines", "status", "until_close", "version_minor"),
    )

    def __init__(self, status: int, reason: bytes, version_minor: int, names: Collection[bytes] = ()) -> None:
        """`names`: of the fields, in lower case; default none."""
        self.status = status
        self.version_minor = version_minor
        self.reason = reason
        self.names = names
        self.has_date = b"date" in names
        self.depends_on_request = not REFERENCES.isdisjoint(names) or any(map(_of_cors, names))
        """True if a field is rendered for each request by itself."""
        self.nominated: frozenset[bytes] = frozenset()
        self.keep_alive = False
        self.broken_rule = ""
        """A rule that the head breaks and that does not make it ambiguous; for the log."""
        self.chunked = False
        self.until_close = False
        self.start_lines = b""
        """The first lines for the client; set for known heads."""


class ResponseHead:
    """A checked response head of a replica."""

    __slots__ = ("_fields", "_model", "content_length", "lines", "meaning", "observed", "raw", "size")

    def __init__(
        self,
        raw: bytes,
        meaning: ResponseMeaning,
        content_length: int,
        fields: list[Field] | None,
        model: "ResponseHead | None" = None,
    ) -> None:
        """`raw`: its bytes. `content_length`: of the body; -1 if unknown, in a response to HEAD. `fields`: as parsed;
        None for those of the `model`, a head of the same shape, default none.
        """
        self.raw = raw
        self.size = len(raw)
        self.meaning = meaning
        self.content_length = content_length
        self.lines = b""
        """Rendered for the client without common fields and empty line; cached by the exchange."""
        self.observed: bytes | None = None
        """Description made by an observer; kept for a head that repeats."""
        self._fields = fields
        self._model = model

    @property
    def fields(self) -> list[Field]:
        """The fields, in order."""
        fields = self._fields
        if fields is None:
            assert self._model is not None
            fields = self._fields = fields_like(self._model.fields, self.raw)
            self._model = None  # a known head is one itself: no chain of them is kept
        return fields

    @property
    def status(self) -> int:
        """Status code of the status line."""
        return self.meaning.status

    @property
    def reason(self) -> bytes:
        """May be empty."""
        return self.meaning.reason

    @property
    def version_minor(self) -> int:
        """Minor version of HTTP/1: 0 or 1."""
        return self.meaning.version_minor

    @property
    def names(self) -> Collection[bytes]:
        """Lower-case names of the fields."""
        return self.meaning.names

    @property
    def nominated(self) -> frozenset[bytes]:
        """Lower-case names in its Connection fields."""
        return self.meaning.nominated

    @property
    def keep_alive(self) -> bool:
        """True if the connection may be used again."""
        return self.meaning.keep_alive

    @property
    def chunked(self) -> bool:
        """True if the body comes in chunks."""
        return self.meaning.chunked

    @property
    def until_close(self) -> bool:
        """True if the body ends with the connection."""
        return self.meaning.until_close

    @property
    def broken_rule(self) -> str:
        """See ResponseMeaning."""
        return self.meaning.broken_rule

    @property
    def depends_on_request(self) -> bool:
        """See ResponseMeaning."""
        return self.meaning.depends_on_request


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
    head.meaning.broken_rule, head.meaning.keep_alive = BOTH_FRAMINGS, False
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
    meaning = ResponseMeaning(int(line[2]), line[3] or b"", int(line[1]), values.keys())
    meaning.nominated = connection_tokens(values.get(b"connection", ()))
    meaning.keep_alive = is_persistent(meaning.version_minor, meaning.nominated)
    head = ResponseHead(raw, meaning, 0, collector.fields, None)
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if broken := framing_fault(lengths, codings, meaning.version_minor):
        raise ReplicaFailed(broken)
    if to_head:
        meaning.keep_alive = False  # some servers send a body all the same: it must not become the next response
    if has_no_body(meaning.status):
        return head
    if codings:
        if codings[0].lower() != b"chunked":
            raise ReplicaFailed(UNKNOWN_CODING)
        meaning.chunked = True
    elif lengths:
        if not _digits.fullmatch(lengths[0]):
            raise ReplicaFailed(NOT_A_LENGTH)
        head.content_length = int(lengths[0])
    elif to_head:
        head.content_length = -1
    else:
        meaning.until_close = True
        meaning.keep_alive = False
    return head


def has_no_body(status: int) -> bool:
    """True if a response with this status never has a body (RFC 9112 section 6.3)."""
    return status < 200 or status in (204, 304)
