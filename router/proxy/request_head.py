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


class RequestHead:
    """A checked request head, the plan that was made for it, and its lines for replica and client."""

    __slots__ = (
        *("_fields", "_model"),
        *("authorization", "chunked", "client_request_id", "content_length", "expect_continue", "has_body"),
        *(
            "host",
            "keep_alive",
            "method",
            "nominated",
            "observed",
            "passed_lines",
            "path",
            "pin",
            "plan",
            "query",
            "raw",
        ),
        *("rendered", "size", "to_head", "trail", "version_minor", "web_socket"),
    )

    def __init__(self, raw: bytes, method: bytes, version_minor: int) -> None:
        """The other attributes are set by `parse_request` or `varied`.

        `raw`: its bytes. `version_minor`: of HTTP/1.
        """
        self.raw = raw
        self.size = len(raw)
        self.method = method
        self.to_head = method == b"HEAD"
        """True: no response to it has a body."""
        self.version_minor = version_minor
        self.host = b""
        self.path = b""
        self.query = b""
        """With the question mark, or empty."""
        self.content_length = 0
        self.chunked = False
        self.has_body = False
        self.nominated: frozenset[bytes] = frozenset()
        """Lower-case names in its Connection fields."""
        self.keep_alive = False
        self.authorization: tuple[bytes, ...] = ()
        self.client_request_id = b""
        self.trail: tuple[bytes, ...] = ()
        """Values of X-Forwarded-For."""
        self.pin: frozenset[bytes] = frozenset()
        """Versions named in the field, which proxies may have joined to a list; an empty value names none."""
        self.expect_continue = False
        self.web_socket = False
        self.plan: RequestPlan | None = None
        """Made by `Planner.plan`; valid while its generation is that of the table."""
        self.rendered: RenderedHead | None = None
        """Its lines for the version that was chosen last."""
        self.passed_lines: bytes | None = None
        """Lines that are passed on to the replica; None: not known without its fields."""
        self.observed: bytes | None = None
        """Description made by an observer; kept for a head that repeats."""
        self._fields: list[Field] | None = None
        self._model: RequestHead | None = None

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
        self.nominated = connection_tokens(values.get(b"connection", ()))
        self.keep_alive = is_persistent(self.version_minor, self.nominated)
        self.authorization = tuple(values.get(b"authorization", ()))
        self.client_request_id = values.get(CLIENT_ID, [b""])[0]
        self.trail = tuple(values.get(TRAIL, ()))
        pins = values.get(b"azureml-model-deployment", ())
        self.pin = frozenset(pin for pin in map(bytes.strip, b",".join(pins).split(b",")) if pin)
        self.expect_continue = self.version_minor == 1 and any(
            value.lower() == b"100-continue" for value in values.get(b"expect", ())
        )
        self.web_socket = (
            self.method == b"GET"
            and self.version_minor == 1
            and b"upgrade" in self.nominated
            and [value.lower() for value in values.get(b"upgrade", ())] == [b"websocket"]
        )

    def varied(self, raw: bytes, query: bytes, content_length: int) -> "RequestHead":
        """The head of another request that differs from this one in values that do not decide.

        `client_request_id`, `trail` and `passed_lines` are set by the caller. `raw`: its bytes, with the
        same names. `query`: of its target, with the question mark. `content_length`: 0 exactly if this one has 0.
        """
        head = RequestHead(raw, self.method, self.version_minor)
        head.host, head.path, head.query = self.host, self.path, query
        head.content_length, head.chunked, head.has_body = content_length, self.chunked, self.has_body
        head.nominated, head.keep_alive, head.authorization = self.nominated, self.keep_alive, self.authorization
        head.pin, head.expect_continue, head.web_socket = self.pin, self.expect_continue, self.web_socket
        head.plan, head._model = self.plan, self
        return head


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
    head = RequestHead(raw, line[1], int(line[3]))
    head.set_fields(collector.fields, values)
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
