"""Shapes of heads: a head with the start line, field names and deciding values of a parsed one needs no parser. Pure.

Most heads differ from an earlier one, of any connection, in values that are only passed on: ids, traces, lengths. They
are split into lines, names and values without a loop in Python. A head must be plain, or it is parsed: each value
is not empty, has no blank at an end and no control character, and is separated by a colon and one space.
"""

from itertools import compress, repeat
from typing import Generic, NamedTuple, Protocol, TypeVar

from router.core.header_fields import Field

MAX_HEADS = 512
"""Parsed heads kept by one worker for one direction."""
CACHED_HEAD_BYTES = 4096
"""Largest head that is kept."""
_SEPARATORS = repeat(b": ")
_PLAIN = bytes(octet for octet in range(256) if octet >= 0x20 and octet != 0x7F)
_LENGTH, CLIENT_ID, TRAIL = b"content-length", b"x-ms-client-request-id", b"x-forwarded-for"


class PlainHead(NamedTuple):
    """A head that was split."""

    start: bytes
    """The request line or the status line."""
    lines: list[bytes]
    """Those of the fields."""
    names: tuple[bytes, ...]
    values: tuple[bytes, ...]


def split(raw: bytes) -> PlainHead | None:
    """Lines, names and values of a head; None if it is not plain. `raw`: ends with the empty line."""
    lines = raw.split(b"\r\n")
    if raw.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1) or b" \r\n" in raw or b":  " in raw:
        return None
    start = lines[0]
    del lines[0], lines[-2:]
    if not lines:
        return PlainHead(start, lines, (), ())
    names, _, values = zip(*map(bytes.partition, lines, _SEPARATORS), strict=True)
    return None if b"" in values else PlainHead(start, lines, names, values)  # "": a line without the separator, too


class ParsedHead(Protocol):
    """The attributes of a head that its shape depends on."""

    @property
    def fields(self) -> list[Field]:
        """As parsed, in order."""


Head = TypeVar("Head", bound=ParsedHead)


class KnownHead(Generic[Head]):
    """A parsed head, for others of the same shape with the same deciding values."""

    __slots__ = ("head", "passed")

    def __init__(self, head: Head, passed: tuple[bool, ...]) -> None:
        self.head = head
        self.passed = passed
        """For each field: True if its line is passed on."""

    def passed_lines(self, plain: PlainHead) -> bytes:
        """The lines of a head of this shape that are passed on."""
        return b"\r\n".join((*compress(plain.lines, self.passed), b""))


class HeadShape(Generic[Head]):
    """Start line and field names of known heads, and the fields that decide."""

    __slots__ = ("client_id_at", "decides", "known", "length_at", "trail")

    def __init__(self, names: list[bytes], decides: tuple[bool, ...]) -> None:
        """`names`: in lower case. `decides`: see the attribute."""
        self.decides = decides
        """For each field: True if a head with another value may have another meaning."""
        self.length_at = names.index(_LENGTH) if _LENGTH in names else -1
        """Index of Content-Length; -1 without one."""
        self.client_id_at = names.index(CLIENT_ID) if CLIENT_ID in names else -1
        """Index of the first x-ms-client-request-id; -1 without one."""
        self.trail = tuple(name == TRAIL for name in names) if TRAIL in names else ()
        """For each field: True if it is an X-Forwarded-For; empty without one."""
        self.known: dict[tuple[bytes, ...], KnownHead[Head]] = {}

    def find(self, plain: PlainHead) -> KnownHead[Head] | None:
        """The known head with the same deciding values; None without one."""
        return self.known.get(tuple(compress(plain.values, self.decides)))

    def length(self, plain: PlainHead) -> int:
        """The Content-Length of a head of this shape; 0 without the field, -1 if it must be judged by the parser."""
        if self.length_at < 0:
            return 0
        digits = plain.values[self.length_at]
        return int(digits) if digits.isdigit() and len(digits) <= 18 else -1


Shapes = dict[tuple[bytes, tuple[bytes, ...]], HeadShape[Head]]


class HeadShapes(Generic[Head]):
    """The known heads of one worker in one direction: bounded together, empty again when they are too many."""

    def __init__(self, most: int = MAX_HEADS) -> None:
        """`most`: bound on the known heads, at least 1."""
        self._most = most
        self._tables: dict[object, Shapes[Head]] = {}
        self._count = 0

    def table(self, kind: object = None) -> Shapes[Head]:
        """The shapes of one kind of peers. `kind`: decides together with the head; default the only one."""
        return self._tables.setdefault(kind, {})

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Forget all heads."""
        self._count = 0
        for table in self._tables.values():
            table.clear()

    def learn(
        self,
        table: Shapes[Head],
        plain: PlainHead,
        head: Head,
        decides: tuple[bool, ...],
        passed: tuple[bool, ...],
    ) -> None:
        """Keep a parsed head, if the split read the same fields as the parser.

        `table`: of its kind. `plain`: the head as split. `head`: as parsed, and accepted. `decides`: for each field,
        if its value decides. `passed`: for each field, if its line is passed on.
        """
        fields = head.fields
        if [(sent, value) for _, sent, value in fields] != list(zip(plain.names, plain.values, strict=True)):
            return
        if self._count >= self._most:
            self.clear()
        shape = table.get((plain.start, plain.names))
        if shape is None or shape.decides != decides:
            shape = table[plain.start, plain.names] = HeadShape([name for name, _, _ in fields], decides)
        deciding = tuple(compress(plain.values, decides))
        self._count += deciding not in shape.known
        shape.known[deciding] = KnownHead(head, passed)
