"""Planted mistakes: each wrong cache of heads must be found by the comparison with the parser.

Each is one function of the caches in a wrong version.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from router.core.forwarding import Peer
from router.proxy import head_shapes, request_shapes, response_shapes
from router.proxy.head_shapes import HeadShapes, PlainHead
from router.proxy.request_head import RequestHead
from router.proxy.request_shapes import RequestShapes

Wrong = tuple[tuple[Any, ...], str, Callable[[Callable[..., Any]], Callable[..., Any]]]
"""Owners of the function, its name, and what makes it wrong."""


def _learns_from_length_0(right: Callable[..., None]) -> Callable[..., None]:
    def learn(self: RequestShapes, shapes: Any, peer: Peer, head: RequestHead) -> None:
        """Skips the rule by pretending that the length is not 0 while the head is judged."""
        length, head.content_length = head.content_length, head.content_length or 1
        try:
            right(self, shapes, peer, head)
        finally:
            head.content_length = length

    return learn


def _trusts_its_own_split(right: Callable[..., None]) -> Callable[..., None]:
    def learn(self: Any, table: Any, plain: PlainHead, head: Any, *selected: Any) -> None:
        """Learns a head although the parser read other fields, as in a name with a colon."""
        fields = [(name.lower(), name, value) for name, value in zip(plain.names, plain.values, strict=True)]
        read, head._fields = head.fields, fields
        try:
            right(self, table, plain, head, *selected)
        finally:
            head._fields = read

    return learn


def _takes_tabs(right: Callable[..., Any]) -> Callable[..., Any]:
    def split(raw: bytes) -> PlainHead | None:
        """A tab counts as plain; a value keeps it where the parser cuts it off."""
        plain: PlainHead | None = right(raw.replace(b"\t", b"\xa0"))
        if plain is None:
            return None
        lines = [line.replace(b"\xa0", b"\t") for line in plain.lines]
        return plain._replace(lines=lines, values=tuple(value.replace(b"\xa0", b"\t") for value in plain.values))

    return split


def _ignores_repetition(right: Callable[..., Any]) -> Callable[..., Any]:
    def split(raw: bytes) -> PlainHead | None:
        """A repeated field counts once, and its last value."""
        plain: PlainHead | None = right(raw)
        if plain is None or len(set(plain.names)) == len(plain.names):
            return plain
        values = dict(zip(plain.names, plain.values, strict=True))
        lines = dict(zip(plain.names, plain.lines, strict=True))
        return plain._replace(lines=list(lines.values()), names=tuple(values), values=tuple(values.values()))

    return split


def _shares_the_trail(right: Callable[..., RequestHead]) -> Callable[..., RequestHead]:
    def varied(self: RequestHead, *values: Any) -> RequestHead:
        """The lines for the replica, with the address of the first client, are kept."""
        head = right(self, *values)
        if self.trail:
            head.rendered = self.rendered
        return head

    return varied


def _keeps_all_lengths(right: Callable[..., int]) -> Callable[..., int]:
    def length(self: Any, plain: PlainHead) -> int:
        """The sign of a length is overlooked."""
        found = right(self, plain)
        if found < 0:
            digits = plain.values[self.length_at].lstrip(b"+")
            return int(digits) if digits.isdigit() else -1
        return found

    return length


SPLITTERS = (head_shapes, request_shapes, response_shapes)
MISTAKES: dict[str, Wrong] = {
    "learns from Content-Length: 0": ((RequestShapes,), "learn", _learns_from_length_0),
    "a name with a colon": ((HeadShapes,), "learn", _trusts_its_own_split),
    "a tab in a value": (SPLITTERS, "split", _takes_tabs),
    "a field that is repeated": (SPLITTERS, "split", _ignores_repetition),
    "X-Forwarded-For of another client": ((RequestHead,), "varied", _shares_the_trail),
    "a length with a sign": ((head_shapes.HeadShape,), "length", _keeps_all_lengths),
}


@contextmanager
def planted(mistake: str) -> Iterator[None]:
    """Run with a planted mistake."""
    owners, name, make_wrong = MISTAKES[mistake]
    right = getattr(owners[0], name)
    wrong = make_wrong(right)
    for owner in owners:
        setattr(owner, name, wrong)
    try:
        yield
    finally:
        for owner in owners:
            setattr(owner, name, right)
