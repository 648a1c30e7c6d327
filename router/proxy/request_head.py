"""Request heads: bytes in, a checked record out (RFC 9110, RFC 9112). No I/O.

llhttp splits a head into fields; stricter rules follow here, because ambiguous framing is how requests are smuggled.
Most heads are like an earlier one (`router.proxy.request_shapes`) and are not parsed.
"""

import re
from typing import TYPE_CHECKING

import httptools

from router.core.header_fields import Field, connection_tokens
from router.core.router_errors import (
    BadRequest,
    CodingNotImplemented,
    HeadersTooLarge,
    PayloadTooLarge,
    RouterError,
    UriTooLong,
)
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
from router.proxy.head_shapes import CLIENT_ID, TRAIL, fields_like
from router.settings import RouterSettings

if TYPE_CHECKING:
    from router.proxy.request_plan import RenderedHead, RequestPlan

REQUEST_LINE = "the request line must be METHOD target HTTP/1.1"
_request_line = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([!-~]+) HTTP/1\.([01])\r\n")
_host = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
_digits = re.compile(rb"[0-9]{1,18}")
_absolute = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)([/?][^#]*)?")
_fields_of_response = re.compile(rb"\r\n(origin|x-ms-client-request-id):[ \t]*([^\r\n]*?)[ \t]*(?=\r)", re.IGNORECASE)
_codings = frozenset({b"chunked", b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity"})


class RequestMeaning:
    """The part of a request head that its deciding values determine: heads of one shape share it."""

    __slots__ = (
        *("authorization", "chunked", "expect_continue", "has_body", "host", "keep_alive", "method", "nominated"),
        *("path", "pin", "to_head", "version_minor", "web_socket"),
    )

    def __init__(self, method: bytes, version_minor: int, values: dict[bytes, list[bytes]]) -> None:
        """Host, path and framing are set by `parse_request`.

        `version_minor`: of HTTP/1. `values`: lower-case name -> values of its fields, in order.
        """
        self.method = method
        self.to_head = method == b"HEAD"
        """True: no response to it has a body."""
        self.version_minor = version_minor
        self.host = b""
        self.path = b""
        self.chunked = False
        self.has_body = False
        self.nominated = connection_tokens(values.get(b"connection", ()))
        """Lower-case names in its Connection fields."""
        self.keep_alive = is_persistent(version_minor, self.nominated)
        self.authorization = tuple(values.get(b"authorization", ()))
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


class RequestHead:
    """A checked request head, the plan that was made for it, and its lines for replica and client."""

    __slots__ = (
        *("_fields", "_model", "client_request_id", "content_length", "meaning", "observed", "passed_lines", "plan"),
        *("query", "raw", "recorded", "rendered", "size", "trail", "whole_size"),
    )

    def __init__(
        self,
        raw: bytes,
        meaning: RequestMeaning,
        content_length: int,
        fields: list[Field] | None,
        model: "RequestHead | None" = None,
    ) -> None:
        """The attributes that differ between heads of one shape are set by the caller.

        `raw`: its bytes. `content_length`: 0 without one. `fields`: as parsed; None for those of the `model`, a head of
        the same shape, default none.
        """
        self.raw = raw
        self.size = size = len(raw)
        self.meaning = meaning
        self.content_length = content_length
        self.whole_size = -1 if meaning.chunked else size + content_length
        """Size with the body; -1 if it is not known."""
        self.query = b""
        """With the question mark, or empty."""
        self.client_request_id = b""
        self.trail: tuple[bytes, ...] = ()
        """Values of X-Forwarded-For."""
        self.plan: RequestPlan | None = None
        """Made by `Planner.plan`; valid while its generation is that of the table."""
        self.rendered: RenderedHead | None = None
        """Its lines for the version that was chosen last."""
        self.passed_lines: bytes | None = None
        """Lines that are passed on to the replica; None: not known without its fields."""
        self.observed: bytes | None = None
        """Description made by an observer; kept for a head that repeats."""
        self.recorded: tuple[object, bytes] | None = None
        """Client's span and texts, made by a recorder; kept for a head that repeats."""
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
    def method(self) -> bytes:
        """As sent."""
        return self.meaning.method

    @property
    def path(self) -> bytes:
        """Path of the target, without query."""
        return self.meaning.path

    @property
    def host(self) -> bytes:
        """Host and port that the request names."""
        return self.meaning.host

    @property
    def version_minor(self) -> int:
        """Minor version of HTTP/1: 0 or 1."""
        return self.meaning.version_minor

    @property
    def to_head(self) -> bool:
        """See RequestMeaning, as for the properties below."""
        return self.meaning.to_head

    @property
    def chunked(self) -> bool:
        """True if the body comes in chunks."""
        return self.meaning.chunked

    @property
    def has_body(self) -> bool:
        """True if a body follows."""
        return self.meaning.has_body

    @property
    def nominated(self) -> frozenset[bytes]:
        """Lower-case names in its Connection fields."""
        return self.meaning.nominated

    @property
    def keep_alive(self) -> bool:
        """True if the client may send another request on the connection."""
        return self.meaning.keep_alive

    @property
    def authorization(self) -> tuple[bytes, ...]:
        """Values of Authorization."""
        return self.meaning.authorization

    @property
    def pin(self) -> frozenset[bytes]:
        """Versions that it names."""
        return self.meaning.pin

    @property
    def expect_continue(self) -> bool:
        """True if the client waits for 100 before it sends the body."""
        return self.meaning.expect_continue

    @property
    def web_socket(self) -> bool:
        """True if it asks for a WebSocket."""
        return self.meaning.web_socket


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
    meaning = RequestMeaning(line[1], int(line[3]), values)
    query = _set_target(meaning, line[2], values)
    length = _set_framing(meaning, settings, values)
    head = RequestHead(raw, meaning, length, collector.fields)
    head.query = query
    head.client_request_id = values.get(CLIENT_ID, [b""])[0]
    head.trail = tuple(values.get(TRAIL, ()))
    return head


def is_request_line(raw: bytes | bytearray) -> bool:
    """True if `raw` begins with a complete request line."""
    return _request_line.match(raw) is not None


def _set_target(meaning: RequestMeaning, target: bytes, values: dict[bytes, list[bytes]]) -> bytes:
    """Set host and path; return the query."""
    hosts = values.get(b"host", [])
    if len(hosts) > 1 or (not hosts and meaning.version_minor == 1):
        raise BadRequest("there must be one Host field")
    meaning.host = hosts[0] if hosts else b"scorefront"
    if target == b"*" and meaning.method == b"OPTIONS":
        meaning.path = target
        return b""
    if not target.startswith(b"/"):
        absolute = _absolute.fullmatch(target)
        if absolute is None:
            raise BadRequest("the target must be a path or an http URL")  # not an authority, "*", another scheme
        meaning.host = absolute[1]  # RFC 9112 section 3.2.2: the target's authority replaces the field
        target = absolute[2] or b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    if b"#" in target:
        raise BadRequest("the target must not have a fragment")
    if not _host.fullmatch(meaning.host):
        raise BadRequest("the host must be a name or an address, with or without a port")
    if len(values.get(b"content-type", ())) > 1:
        # A singleton (RFC 9110 section 8.3): some readers take the first, some the last.
        raise BadRequest("there must not be two Content-Type fields")
    path, mark, query = target.partition(b"?")
    meaning.path = path
    return mark + query


def _refuse_coding(codings: list[bytes]) -> None:
    """Raise 501 if all codings of the list exist but are not supported."""
    names = [name.strip().lower() for name in codings[0].split(b",")] if len(codings) == 1 else []
    if names != [b"chunked"] and names and all(name in _codings for name in names):
        raise CodingNotImplemented


def _set_framing(meaning: RequestMeaning, settings: RouterSettings, values: dict[bytes, list[bytes]]) -> int:
    """RFC 9112 section 6: one length or one coding, never both, never twice. Returns the length, 0 without one."""
    lengths = values.get(b"content-length", [])
    codings = values.get(b"transfer-encoding", [])
    if broken := framing_fault(lengths, codings, meaning.version_minor):
        raise BadRequest(broken)
    if codings:
        _refuse_coding(codings)
        if codings[0].lower() != b"chunked":
            raise BadRequest(UNKNOWN_CODING)
        meaning.chunked = meaning.has_body = True
    elif lengths:
        if not _digits.fullmatch(lengths[0]):
            raise BadRequest(NOT_A_LENGTH)
        length = int(lengths[0])
        meaning.has_body = length > 0
        if length > settings.max_body_bytes:
            raise PayloadTooLarge
        return length
    return 0
