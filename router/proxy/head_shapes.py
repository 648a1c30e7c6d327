"""Shapes of heads: a head with the start line, field names and deciding values of a parsed one needs no parser. Pure.

Most heads differ from an earlier one, of any connection, in values that are only passed on: ids, traces, lengths. They
are split into lines, which are compared with the names of known shapes, without a loop in Python. A head must be plain,
or it is parsed: each value is not empty, has no blank at an end and no control character, and is separated by a colon
and one space.
"""

from itertools import compress
from typing import Generic, Protocol, TypeVar

from router.core.header_fields import Field

MAX_HEADS = 512
"""Parsed heads kept by one worker for one direction."""
MAX_SHAPES = 16
"""Shapes with the same start line and number of fields: they are compared with a head one after the other."""
CACHED_HEAD_BYTES = 4096
"""Largest head that is kept."""
_PLAIN = bytes(octet for octet in range(256) if octet >= 0x20 and octet != 0x7F)
_LENGTH, CLIENT_ID, TRAIL = b"content-length", b"x-ms-client-request-id", b"x-forwarded-for"


def split(raw: bytes) -> list[bytes] | None:
    """Start line and field lines of a head; None if it is not plain. `raw`: ends with the empty line."""
    lines = raw.split(b"\r\n")
    if raw.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1) or b" \r\n" in raw or b":  " in raw:
        return None
    del lines[-2:]
    return lines


def fields_like(model: list[Field], raw: bytes) -> list[Field]:
    """The fields of a head of the same shape as another one. `model`: fields of that one. `raw`: the head."""
    lines = raw.split(b"\r\n")[1:-2]
    return [(name, sent, line[len(sent) + 2 :]) for (name, sent, _), line in zip(model, lines, strict=True)]


class ParsedHead(Protocol):
    """The attributes of a head that its shape depends on."""

    @property
    def fields(self) -> list[Field]:
        """As parsed, in order."""


Head = TypeVar("Head", bound=ParsedHead)


class KnownHead(Generic[Head]):
    """A parsed head, for others of the same shape with the same deciding values."""

    __slots__ = ("head", "passed", "shape")

    def __init__(self, head: Head, shape: "HeadShape[Head]", passed: tuple[bool, ...]) -> None:
        self.head = head
        self.shape = shape
        self.passed = passed
        """For each line: True if it is passed on."""

    def passed_lines(self, lines: list[bytes]) -> bytes:
        """The lines of a head of this shape that are passed on."""
        return b"\r\n".join((*compress(lines, self.passed), b""))


class HeadShape(Generic[Head]):
    """Field names of known heads, and the fields that decide. Line 0 of a head is its start line."""

    __slots__ = ("beginnings", "client_id_at", "decides", "known", "length_at", "trail")

    def __init__(self, fields: list[Field], decides: tuple[bool, ...]) -> None:
        """`fields`: of one of the heads. `decides`: see the attribute."""
        names = [b"", *(name for name, _, _ in fields)]
        self.beginnings = (b"", *(sent + b": " for _, sent, _ in fields))
        """Beginning of each line: name and separator."""
        self.decides = decides
        """For each line: True if a head with another value may have another meaning."""
        self.length_at = names.index(_LENGTH) if _LENGTH in names else -1
        """Index of Content-Length; -1 without one."""
        self.client_id_at = names.index(CLIENT_ID) if CLIENT_ID in names else -1
        """Index of the first x-ms-client-request-id; -1 without one."""
        self.trail = tuple(name == TRAIL for name in names) if TRAIL in names else ()
        """For each line: True if it is an X-Forwarded-For; empty without one."""
        self.known: dict[tuple[bytes, ...], KnownHead[Head]] = {}

    def matches(self, lines: list[bytes]) -> bool:
        """True if a head with as many lines has the same names."""
        return all(map(bytes.startswith, lines, self.beginnings))

    def find(self, lines: list[bytes]) -> KnownHead[Head] | None:
        """The known head with the same deciding values; None without one."""
        return self.known.get(tuple(compress(lines, self.decides)))

    def length(self, lines: list[bytes]) -> int:
        """The Content-Length of a head of this shape; 0 without the field, -1 if it must be judged by the parser."""
        if self.length_at < 0:
            return 0
        digits = lines[self.length_at][len(_LENGTH) + 2 :]
        return int(digits) if digits.isdigit() and len(digits) <= 18 else -1

    def client_id(self, lines: list[bytes]) -> bytes:
        """The first x-ms-client-request-id of a head of this shape; empty without one."""
        return lines[self.client_id_at][len(CLIENT_ID) + 2 :] if self.client_id_at >= 0 else b""

    def trail_values(self, lines: list[bytes]) -> tuple[bytes, ...]:
        """The values of X-Forwarded-For of a head of this shape."""
        return tuple([line[len(TRAIL) + 2 :] for line in compress(lines, self.trail)]) if self.trail else ()


Shapes = dict[tuple[bytes, int], list[HeadShape[Head]]]
"""By start line and number of lines."""


def known_head(shapes: Shapes[Head], start: bytes, lines: list[bytes]) -> KnownHead[Head] | None:
    """The known head like a plain one; None without one.

    `shapes`: of its kind. `start`: start line by which it is known. `lines`: as split.
    """
    for shape in shapes.get((start, len(lines)), ()):
        if shape.matches(lines):
            known = shape.find(lines)
            if known is not None:
                return known
    return None


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
        shapes: Shapes[Head],
        lines: list[bytes],
        head: Head,
        decides: tuple[bool, ...],
        passed: tuple[bool, ...],
    ) -> None:
        """Keep a parsed head, if the split read the same fields as the parser.

        `shapes`: of its kind. `lines`: the head as split; the first is the start line by which it is known. `head`: as
        parsed, and accepted. `decides`: for each field, if its value decides. `passed`: for each field, if its line is
        passed on.
        """
        fields = head.fields
        if lines[1:] != [b"%b: %b" % (sent, value) for _, sent, value in fields]:
            return
        if self._count >= self._most:
            self.clear()
        decides = (False, *decides)
        alike = shapes.setdefault((lines[0], len(lines)), [])
        shape = next((each for each in alike if each.decides == decides and each.matches(lines)), None)
        if shape is None:
            if len(alike) == MAX_SHAPES:
                self._count -= len(alike.pop(0).known)
            shape = HeadShape(fields, decides)
            alike.append(shape)
        deciding = tuple(compress(lines, decides))
        self._count += deciding not in shape.known
        shape.known[deciding] = KnownHead(head, shape, (False, *passed))
