"""Request heads: bytes in, a checked record out (RFC 9110, RFC 9112). No I/O.

llhttp splits a head into fields; stricter rules follow here, because ambiguous framing is how requests are smuggled. A
head is parsed once per connection and reused while its bytes repeat: this code is off the hot path of most clients.
"""

import re
from typing import TYPE_CHECKING

import httptools

from router.core.header_fields import HOP_BY_HOP, Field, connection_tokens
from router.core.router_errors import (
    BadRequest,
    CodingNotImplemented,
    HeadersTooLarge,
    PayloadTooLarge,
    RouterError,
    UriTooLong,
)
from router.proxy.head_cache import HeadPattern, length_of, with_values
from router.proxy.head_parsing import (
    NOT_A_LENGTH,
    UNKNOWN_CODING,
    FieldCollector,
    feed_parser,
    framing_fault,
    is_malformed,
    is_persistent,
    values_by_name,
)
from router.settings import RouterSettings

if TYPE_CHECKING:
    from router.proxy.request_plan import RequestPlan

REQUEST_LINE = "the request line must be METHOD target HTTP/1.1"
_request_line = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([!-~]+) HTTP/1\.([01])\r\n")
_host = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
_digits = re.compile(rb"[0-9]{1,18}")
_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_absolute = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)([/?][^#]*)?")
_fields_of_response = re.compile(rb"\r\n(origin|x-ms-client-request-id):[ \t]*([^\r\n]*?)[ \t]*(?=\r)", re.IGNORECASE)
_JUDGED = HOP_BY_HOP | {b"authorization", b"host", b"expect", b"azureml-model-deployment"}
"""Fields that decide on routing, framing or admission, but for Content-Length: their values must not differ."""
_codings = frozenset({b"chunked", b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity"})


class RequestHead:
    """A checked request head and the plan that was made for it."""

    __slots__ = (
        *("_after_length", "_before_length", "_pattern"),
        *("authorization", "chunked", "client_request_id", "content_length", "expect_continue", "fields", "has_body"),
        *("host", "keep_alive", "method", "nominated", "path", "pin", "plan", "query", "raw", "size"),
        *("to_head", "version_minor", "web_socket"),
    )

    def __init__(
        self, raw: bytes, method: bytes, version_minor: int, fields: list[Field], values: dict[bytes, list[bytes]]
    ) -> None:
        """The target and the framing are set by `parse_request`.

        `raw`: its bytes. `version_minor`: of HTTP/1. `fields`: parsed, in order. `values`: lower-case name -> values of
        its fields, in order.
        """
        self.raw = raw
        self.size = len(raw)
        self.method = method
        self.to_head = method == b"HEAD"
        """True: no response to it has a body."""
        self.version_minor = version_minor
        self.fields = fields
        self.host = b""
        self.path = b""
        self.query = b""
        """With the question mark, or empty."""
        self.content_length = 0
        self.chunked = False
        self.has_body = False
        self.nominated = connection_tokens(values.get(b"connection", ()))
        self.keep_alive = is_persistent(version_minor, self.nominated)
        self.authorization = tuple(values.get(b"authorization", ()))
        self.client_request_id = values.get(b"x-ms-client-request-id", [b""])[0]
        pins = values.get(b"azureml-model-deployment", ())
        self.pin = frozenset(pin for pin in map(bytes.strip, b",".join(pins).split(b",")) if pin)
        """Versions named in the field, which proxies may have joined to a list; an empty value names none."""
        self.expect_continue = version_minor == 1 and any(
            value.lower() == b"100-continue" for value in values.get(b"expect", ())
        )
        self.web_socket = (
            method == b"GET"
            and version_minor == 1
            and b"upgrade" in self.nominated
            and [value.lower() for value in values.get(b"upgrade", ())] == [b"websocket"]
        )
        self.plan: RequestPlan | None = None
        """Made by `Planner.plan`; valid while its generation is that of the table."""
        self._before_length = b""
        self._after_length = b""
        self._pattern: HeadPattern | None = None

    def repeated(self, data: bytes, max_length: int) -> tuple[int, int]:
        """Size and Content-Length of the head at the start of `data` if equal but for the length; else 0, 0.

        Most clients repeat their head: comparing takes 0.5 µs, parsing and planning 20 µs. `max_length`: largest body.
        """
        if data.startswith(self.raw):
            return self.size, self.content_length
        before, after = self._before_length, self._after_length
        if not before or not data.startswith(before):
            return 0, 0
        begin = len(before)
        end = data.find(b"\r", begin, begin + 19)
        digits = data[begin:end]
        if not digits.isdigit() or not data.startswith(after, end) or not 0 < int(digits) <= max_length:
            return 0, 0
        return end + len(after), int(digits)

    def allow_other_lengths(self) -> None:
        """Enable `repeated` for other values of Content-Length; only for a head with a body of known length."""
        found = _length.search(self.raw)
        if found is not None:
            self._before_length, self._after_length = self.raw[: found.start(1)], self.raw[found.end(1) :]

    def varied(self, raw: bytes, max_length: int) -> "RequestHead | None":
        """The head `raw` if only pass-through values differ from this one; None if it must be parsed.

        `raw`: ends with the empty line, within the size limit. `max_length`: largest body.
        """
        if self._pattern is None:
            self._pattern = HeadPattern.of(self.raw, self.fields, _JUDGED)
        found = self._pattern.match(raw)
        if found is None:
            return None
        pattern, changes = found
        length = length_of(changes, self.fields, self.content_length)
        if length != self.content_length and not (self.has_body and 0 < length <= max_length):
            return None
        head = RequestHead.__new__(RequestHead)
        for name in _SHARED:
            setattr(head, name, getattr(self, name))
        head.raw, head.size, head._pattern = raw, len(raw), pattern
        head._before_length = head._after_length = b""
        head.fields, head.content_length = with_values(self.fields, changes), length
        for index, value in changes:
            if self.fields[index][0] == b"x-ms-client-request-id":
                head.client_request_id = value
        head.plan = self.plan.varied(head) if self.plan is not None else None
        return head


_OWN = {"raw", "size", "fields", "content_length", "plan", "_pattern", "_before_length", "_after_length"}
_SHARED = tuple(name for name in RequestHead.__slots__ if name not in _OWN)
"""Attributes that a varied head shares with the previous one."""


def parse_request(raw: bytes, settings: RouterSettings) -> RequestHead:
    """Parse and check a request head. Raises BadRequest and the other 4xx and 501 errors of framing.

    `raw`: ends with the empty line.
    """
    line = _request_line.match(raw)
    if line is None:
        raise BadRequest(REQUEST_LINE)
    try:
        return _parsed(raw, line, settings)
    except RouterError as error:
        note_refused_head(error, raw)
        raise


def note_refused_head(error: RouterError, raw: bytes | bytearray) -> None:
    """Set the parts of a refused head that its response and its access record need.

    `raw`: its bytes; a part of them if it is incomplete.
    """
    line = _request_line.match(raw)
    if line is None:
        return
    error.method, error.path = line[1], line[2].partition(b"?")[0]
    end = raw.find(b"\r\n\r\n")
    fields = _fields_of_response.findall(raw, 0, end + 2 if end >= 0 else len(raw))
    ids = [value for name, value in fields if name.lower() != b"origin"]
    origins = [value for name, value in fields if name.lower() == b"origin"]
    error.client_request_id = ids[0] if ids else b""
    error.origin = origins[0] if len(origins) == 1 else b""


def _parsed(raw: bytes, line: re.Match[bytes], settings: RouterSettings) -> RequestHead:
    if is_malformed(raw):
        raise BadRequest("control characters, bare CR or LF, or a folded line")
    if len(line[2]) > settings.max_target_bytes:
        raise UriTooLong
    if raw.count(b"\r\n") - 2 > settings.max_fields:
        raise HeadersTooLarge
    collector = FieldCollector()
    try:
        feed_parser(httptools.HttpRequestParser(collector), raw)
    except BadRequest:
        # llhttp has read all fields when it refuses a coding; 400 or 501 is decided here.
        _refuse_coding(values_by_name(collector.fields).get(b"transfer-encoding", []))
        raise
    values = values_by_name(collector.fields)
    head = RequestHead(raw, line[1], int(line[3]), collector.fields, values)
    _set_target(head, line[2], values)
    _set_framing(head, settings, values)
    return head


def is_request_line(raw: bytes | bytearray) -> bool:
    """True if `raw` begins with a complete request line."""
    return _request_line.match(raw) is not None


def _set_target(head: RequestHead, target: bytes, values: dict[bytes, list[bytes]]) -> None:
    hosts = values.get(b"host", [])
    if len(hosts) > 1 or (not hosts and head.version_minor == 1):
        raise BadRequest("there must be one Host field")
    head.host = hosts[0] if hosts else b"scorefront"
    if target == b"*" and head.method == b"OPTIONS":
        head.path = target
        return
    if not target.startswith(b"/"):
        absolute = _absolute.fullmatch(target)
        if absolute is None:
            raise BadRequest("the target must be a path or an http URL")  # not an authority, "*", another scheme
        head.host = absolute[1]  # RFC 9112 section 3.2.2: the target's authority replaces the field
        target = absolute[2] or b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    if b"#" in target:
        raise BadRequest("the target must not have a fragment")
    if not _host.fullmatch(head.host):
        raise BadRequest("the host must be a name or an address, with or without a port")
    if len(values.get(b"content-type", ())) > 1:
        # A singleton (RFC 9110 section 8.3): some readers take the first, some the last.
        raise BadRequest("there must not be two Content-Type fields")
    path, mark, query = target.partition(b"?")
    head.path, head.query = path, mark + query


def _refuse_coding(codings: list[bytes]) -> None:
    """Raise 501 if all codings of the list exist but are not supported."""
    names = [name.strip().lower() for name in codings[0].split(b",")] if len(codings) == 1 else []
    if names != [b"chunked"] and names and all(name in _codings for name in names):
        raise CodingNotImplemented


def _set_framing(head: RequestHead, settings: RouterSettings, values: dict[bytes, list[bytes]]) -> None:
    """RFC 9112 section 6: one length or one coding, never both, never twice."""
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if broken := framing_fault(lengths, codings, head.version_minor):
        raise BadRequest(broken)
    if codings:
        _refuse_coding(codings)
        if codings[0].lower() != b"chunked":
            raise BadRequest(UNKNOWN_CODING)
        head.chunked = head.has_body = True
    elif lengths:
        if not _digits.fullmatch(lengths[0]):
            raise BadRequest(NOT_A_LENGTH)
        head.content_length = int(lengths[0])
        head.has_body = head.content_length > 0
        if head.content_length > settings.max_body_bytes:
            raise PayloadTooLarge
        if head.has_body:
            head.allow_other_lengths()
