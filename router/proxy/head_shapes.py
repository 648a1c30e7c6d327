"""Shapes of heads: a head with the field names and deciding values of a parsed one needs no parser. Pure.

Most heads differ from an earlier one, of any connection, in values that are only passed on: ids, traces, lengths. One
regular expression per list of field names recognises them and cuts out what decides and what is passed on: no loop in
Python. A head must be plain, or it is parsed: each value is not empty, has no blank at an end and no control character,
and is separated by a colon and one space.
"""

import re
from collections.abc import Callable, Sequence
from enum import Enum
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from router.core.header_fields import Field

MAX_HEADS = 512
"""Parsed heads kept by one worker for one direction."""
MAX_SHAPES = 16
"""Shapes with the same number of fields: they are tried one after the other."""
MAX_PATTERNS = 128
"""Shapes of one direction."""
PATTERN_CREDIT = 16
"""Heads to be parsed for each new pattern: it costs 300 µs, and a client may invent names without end."""
FIRST_PATTERNS = 64
"""Patterns that need no heads before them."""
CACHED_HEAD_BYTES = 4096
"""Largest head that is kept."""
CLIENT_ID, TRAIL = b"x-ms-client-request-id", b"x-forwarded-for"
_LENGTH = b"content-length"
_PLAIN_VALUE = rb"(?! )[ -~\x80-\xff]++(?<! )"
_DIGITS = rb"[0-9]{1,18}+"

Values = tuple[bytes, ...]
"""Parts of a head, as cut out by the pattern of its shape."""


class Role(Enum):
    """Part that the value of a field plays."""

    IGNORED = "ignored"
    DECIDES = "decides"
    """A head with another value may have another meaning."""
    PASSED = "passed"
    """Its line is passed on."""
    BOTH = "both"
    """It decides, and its line is passed on."""
    LENGTH = "length"
    """Content-Length."""
    CLIENT_ID = "client id"
    """The first x-ms-client-request-id."""
    TRAIL = "trail"
    """X-Forwarded-For."""


_ROLES = {
    (False, False): Role.IGNORED,
    (True, False): Role.DECIDES,
    (False, True): Role.PASSED,
    (True, True): Role.BOTH,
}
_KEPT = {_LENGTH: Role.LENGTH, TRAIL: Role.TRAIL}


def roles(fields: list[Field], decides: Sequence[bool], passed: Sequence[bool]) -> tuple[Role, ...]:
    """The role of each field. `decides`, `passed`: for each field, if its value decides, if its line is passed on."""
    found: list[Role] = []
    for (name, _, _), *flags in zip(fields, decides, passed, strict=True):
        role = _KEPT.get(name)
        if name == CLIENT_ID and Role.CLIENT_ID not in found:
            role = Role.CLIENT_ID
        found.append(role or _ROLES[flags[0], flags[1]])
    return tuple(found)


def fields_like(model: list[Field], raw: bytes) -> list[Field]:
    """The fields of a head of the same shape as another one. `model`: fields of that one. `raw`: the head."""
    lines = raw.split(b"\r\n")[1:-2]
    return [(name, sent, line[len(sent) + 2 :]) for (name, sent, _), line in zip(model, lines, strict=True)]


class ParsedHead(Protocol):
    """The attributes of a head that its shape depends on."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""

    @property
    def fields(self) -> list[Field]:
        """As parsed, in order."""


Head = TypeVar("Head", bound=ParsedHead)


class HeadShape(Generic[Head]):
    """Names and roles of the fields of known heads, with the pattern that such heads match."""

    __slots__ = ("client_id_at", "deciding", "known", "length_at", "match", "names", "passed_at", "roles", "trail_at")

    def __init__(self, start: bytes, fields: list[Field], roles: tuple[Role, ...]) -> None:
        """`start`: pattern of the start line, with groups of which the first decides and the last, too, if there are
        three. `fields`: of one of the heads. `roles`: of the fields.
        """
        self.names = names_of(fields)
        self.roles = roles
        pattern = _Pattern(start)
        for name, role in zip(self.names, roles, strict=True):
            pattern.add(name, role)
        self.match: Callable[[bytes, int, int], re.Match[bytes] | None] = pattern.compiled().match
        """Matches a head within two positions of some bytes."""
        self.deciding: Callable[[Values], object] = itemgetter(*pattern.at[Role.DECIDES])
        """Picks the values that decide."""
        self.passed_at = tuple(pattern.at[Role.PASSED])
        """Indices of the lines that are passed on, as far as possible together."""
        self.length_at = next(iter(pattern.at[Role.LENGTH]), -1)
        """Index of Content-Length; -1 without one."""
        self.client_id_at = next(iter(pattern.at[Role.CLIENT_ID]), -1)
        """Index of the first x-ms-client-request-id; -1 without one."""
        self.trail_at = tuple(pattern.at[Role.TRAIL])
        """Indices of the values of X-Forwarded-For."""
        self.known: dict[object, Head] = {}
        """Parsed heads by the values that decide."""

    def passed_lines(self, values: Values) -> bytes:
        """The lines of a head that are passed on. `values`: of the head."""
        at = self.passed_at
        if len(at) == 1:
            return values[at[0]]
        return b"".join([values[index] for index in at])


class _Pattern:
    """A pattern in the making."""

    def __init__(self, start: bytes) -> None:
        groups = re.compile(start).groups
        self._parts = [start, rb"\r\n"]
        self._groups = groups
        self._in_passed = False
        self.at: dict[Role, list[int]] = {role: [] for role in Role}
        """Indices of the groups of a role."""
        self.at[Role.DECIDES] += sorted({0, groups - 1})

    def add(self, name: bytes, role: Role) -> None:
        """Append the line of a field."""
        passed = role in (Role.PASSED, Role.BOTH)
        if passed and not self._in_passed:
            self._open(Role.PASSED)
        elif self._in_passed and not passed:
            self._parts.append(b")")
        self._in_passed = passed
        value = _DIGITS if role is Role.LENGTH else _PLAIN_VALUE
        self._parts.append(_beginning(name))
        if role in (Role.IGNORED, Role.PASSED):
            self._parts.append(value)
        else:
            self._open(Role.DECIDES if role is Role.BOTH else role)
            self._parts.append(value + b")")
        self._parts.append(rb"\r\n")

    def _open(self, role: Role) -> None:
        self._parts.append(b"(")
        self.at[role].append(self._groups)
        self._groups += 1

    def compiled(self) -> re.Pattern[bytes]:
        """The whole pattern."""
        return re.compile(b"".join([*self._parts, b")" if self._in_passed else b"", rb"\r\n"]))


def _beginning(name: bytes) -> bytes:
    """Pattern of name and separator of a line."""
    return re.escape(name) + b": "


def names_of(fields: list[Field]) -> tuple[bytes, ...]:
    """Names as sent."""
    return tuple([sent for _, sent, _ in fields])


Shapes = dict[int, list[HeadShape[Head]]]
"""By number of lines."""


class HeadShapes(Generic[Head]):
    """The known heads of one worker in one direction: bounded together, empty again when they are too many."""

    def __init__(self, start: bytes, most: int = MAX_HEADS) -> None:
        """`start`: pattern of start lines, see `HeadShape`. `most`: bound on the known heads; 0 for none."""
        self._start = start
        self._most = most
        self._tables: dict[object, Shapes[Head]] = {}
        self._count = 0
        self._patterns = 0
        self._credit = FIRST_PATTERNS * PATTERN_CREDIT

    def table(self, kind: object = None) -> Shapes[Head]:
        """The shapes of one kind of peers. `kind`: decides together with the head; default the only one."""
        return self._tables.setdefault(kind, {})

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Forget all heads; the shapes are kept."""
        self._count = 0
        for table in self._tables.values():
            for alike in table.values():
                for shape in alike:
                    shape.known.clear()

    def learn(self, shapes: Shapes[Head], head: Head, roles: tuple[Role, ...]) -> None:
        """Keep a parsed head, if its shape reads the same fields as the parser.

        `shapes`: of its kind. `head`: as parsed, and accepted. `roles`: of its fields.
        """
        if not self._most:
            return
        self._credit = min(self._credit + 1, FIRST_PATTERNS * PATTERN_CREDIT)
        raw, fields = head.raw, head.fields
        if raw.split(b"\r\n", 1)[1] != b"".join(
            [*(b"%b: %b\r\n" % (sent, value) for _, sent, value in fields), b"\r\n"]
        ):
            return
        shape = self._shape(shapes, head, roles)
        found = shape.match(raw, 0, len(raw)) if shape is not None else None
        if shape is None or found is None:
            return
        if self._count >= self._most:
            self.clear()
        deciding = shape.deciding(found.groups())
        self._count += deciding not in shape.known
        shape.known[deciding] = head

    def _shape(self, shapes: Shapes[Head], head: Head, roles: tuple[Role, ...]) -> HeadShape[Head] | None:
        """The shape of a head, made if necessary; None if too few heads came since others were made."""
        fields = head.fields
        lines, names = head.raw.count(b"\r\n"), names_of(fields)
        for shape in shapes.get(lines, ()):
            if shape.names == names and shape.roles == roles:
                return shape
        if self._credit < PATTERN_CREDIT:
            return None
        self._credit -= PATTERN_CREDIT
        if self._patterns >= MAX_PATTERNS:
            self._count = self._patterns = 0
            for table in self._tables.values():
                table.clear()
        alike = shapes.setdefault(lines, [])
        if len(alike) == MAX_SHAPES:
            self._count -= len(alike.pop(0).known)
            self._patterns -= 1
        made: HeadShape[Head] = HeadShape(self._start, fields, roles)
        alike.append(made)
        self._patterns += 1
        return made
