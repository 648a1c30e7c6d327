"""Planted mistakes: each wrong cache of heads must be found by the comparison with the parser.

Each is one function or constant of the caches in a wrong version.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from router.core.forwarding import Peer
from router.core.header_fields import Field
from router.proxy import head_shapes, request_shapes, response_shapes
from router.proxy.head_shapes import HeadShapes, Role
from router.proxy.request_head import RequestHead
from router.proxy.request_shapes import RequestShapes

Wrong = tuple[tuple[Any, ...], str, Callable[[Any], Any]]
"""Owners of the function or constant, its name, and what makes it wrong."""


def _learns_from_length_0(right: Callable[..., None]) -> Callable[..., None]:
    def learn(self: RequestShapes, shapes: Any, peer: Peer, head: RequestHead) -> None:
        """Skips the rule by pretending that the length is not 0 while the head is judged."""
        length, head.content_length = head.content_length, head.content_length or 1
        try:
            right(self, shapes, peer, head)
        finally:
            head.content_length = length

    return learn


def _trusts_its_own_reading(right: Callable[..., None]) -> Callable[..., None]:
    def learn(self: Any, shapes: Any, head: Any, roles: Any) -> None:
        """Learns a head although the parser read other fields, as in a name with a colon."""
        pairs = [line.partition(b": ")[::2] for line in head.raw.split(b"\r\n")[1:-2]]
        read, head._fields = head.fields, [(name.lower(), name, value) for name, value in pairs]
        try:
            right(self, shapes, head, roles)
        finally:
            head._fields = read

    return learn


def _shares_the_trail(right: Callable[..., RequestHead | None]) -> Callable[..., RequestHead | None]:
    def like(self: RequestShapes, known: RequestHead, *values: Any) -> RequestHead | None:
        """The lines for the replica, with the address of the first client, are kept."""
        head = right(self, known, *values)
        if head is not None and known.trail:
            head.rendered = known.rendered
        return head

    return like


def _value(wrong: bytes) -> Callable[[bytes], bytes]:
    """A pattern of values in place of the right one."""
    return lambda right: wrong


def _any_name(right: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda name: rb"[!-9;-~]++: "


def _ignores_repetition(right: Callable[..., tuple[Role, ...]]) -> Callable[..., tuple[Role, ...]]:
    def roles(fields: list[Field], *flags: Any) -> tuple[Role, ...]:
        """A repeated field counts once."""
        names = [name for name, _, _ in fields]
        return tuple(
            role if names.index(name) == at else Role.IGNORED
            for at, (name, role) in enumerate(zip(names, right(fields, *flags), strict=True))
        )

    return roles


MISTAKES: dict[str, Wrong] = {
    "learns from Content-Length: 0": ((RequestShapes,), "learn", _learns_from_length_0),
    "a name with a colon": ((HeadShapes,), "learn", _trusts_its_own_reading),
    "a tab in a value": ((head_shapes,), "_PLAIN_VALUE", _value(rb"(?! )[\t -~\x80-\xff]++(?<! )")),
    "a blank at the end of a value": ((head_shapes,), "_PLAIN_VALUE", _value(rb"(?! )[ -~\x80-\xff]++")),
    "a line end in a value": ((head_shapes,), "_PLAIN_VALUE", _value(rb"(?! )(?:[ -~\x80-\xff]|\r\n )++(?<! )")),
    "a field that is repeated": ((request_shapes, response_shapes), "roles", _ignores_repetition),
    "X-Forwarded-For of another client": ((RequestShapes,), "_like", _shares_the_trail),
    "names that differ": ((head_shapes,), "_beginning", _any_name),
    "a length with a sign": ((head_shapes,), "_DIGITS", _value(rb"[+-]?[0-9]{1,18}")),
    "a value that decides on a request": ((request_shapes,), "_DECIDE", lambda right: right - {b"expect"}),
    "a value that decides on an answer": ((response_shapes,), "_DECIDE", lambda right: right - {b"connection"}),
    "a fragment in the query": (
        (request_shapes,),
        "_START",
        _value(rb"([!->@-~]++ [!->@-~]++)((?:\?[!-~]*+)?)( HTTP/1\.[01])"),
    ),
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
