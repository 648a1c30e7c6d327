"""Planted mistakes: each wrong cache of heads must be found by the comparison with the parser.

Each is one function of the caches in a wrong version.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from router.core.forwarding import Peer
from router.proxy import head_shapes, request_shapes, response_shapes
from router.proxy.head_shapes import HeadShapes
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
    def learn(self: Any, shapes: Any, lines: list[bytes], head: Any, *selected: Any) -> None:
        """Learns a head although the parser read other fields, as in a name with a colon."""
        pairs = [line.partition(b": ")[::2] for line in lines[1:]]
        read, head._fields = head.fields, [(name.lower(), name, value) for name, value in pairs]
        try:
            right(self, shapes, lines, head, *selected)
        finally:
            head._fields = read

    return learn


def _takes_tabs(right: Callable[..., Any]) -> Callable[..., Any]:
    def split(raw: bytes) -> list[bytes] | None:
        """A tab counts as plain; a value keeps it where the parser cuts it off."""
        lines = right(raw.replace(b"\t", b"\xa0"))
        return None if lines is None else [line.replace(b"\xa0", b"\t") for line in lines]

    return split


def _ignores_repetition(right: Callable[..., Any]) -> Callable[..., Any]:
    def split(raw: bytes) -> list[bytes] | None:
        """A repeated field counts once, and its last value."""
        lines = right(raw)
        return None if lines is None else list({line.partition(b": ")[0]: line for line in lines}.values())

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
    def length(self: Any, lines: list[bytes]) -> int:
        """The sign of a length is overlooked."""
        found = right(self, lines)
        if found < 0:
            digits = lines[self.length_at].partition(b": ")[2].lstrip(b"+")
            return int(digits) if digits.isdigit() else -1
        return found

    return length


def _counts_lines_only(right: Callable[..., bool]) -> Callable[..., bool]:
    def matches(self: Any, lines: list[bytes]) -> bool:
        """Other names pass for the same if they are as many."""
        return right(self, lines) or len(lines) == len(self.beginnings)

    return matches


SPLITTERS = (head_shapes, request_shapes, response_shapes)
MISTAKES: dict[str, Wrong] = {
    "learns from Content-Length: 0": ((RequestShapes,), "learn", _learns_from_length_0),
    "a name with a colon": ((HeadShapes,), "learn", _trusts_its_own_split),
    "a tab in a value": (SPLITTERS, "split", _takes_tabs),
    "a field that is repeated": (SPLITTERS, "split", _ignores_repetition),
    "X-Forwarded-For of another client": ((RequestHead,), "varied", _shares_the_trail),
    "names that differ": ((head_shapes.HeadShape,), "matches", _counts_lines_only),
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
