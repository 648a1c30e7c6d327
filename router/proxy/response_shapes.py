"""Known response heads of the replicas of one worker."""

from router.core.header_fields import passed_to_client
from router.proxy.head_shapes import CACHED_HEAD_BYTES, MAX_HEADS, HeadShape, HeadShapes, roles
from router.proxy.response_head import ResponseHead, has_no_body
from router.proxy.responses import framing_line, status_lines

_DECIDE = frozenset({b"connection", b"transfer-encoding", b"upgrade"})
"""Fields that decide on framing and reuse, but for Content-Length."""
_START = rb"([ -~\x80-\xff]++)"
"""Status line."""


class ResponseShapes:
    """Recognises final responses with the same status line, field names and deciding values."""

    def __init__(self, most: int = MAX_HEADS) -> None:
        """`most`: bound on the known heads."""
        self._heads: HeadShapes[ResponseHead] = HeadShapes(_START, most)
        self._shapes = self._heads.table()
        self._last: HeadShape[ResponseHead] | None = None
        """The shape of the last response that was found: most replicas have one."""

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> ResponseHead | None:
        """The head that `data` begins with, made from a known one; None if it must be parsed.

        `data`: of a response to another method than HEAD.
        """
        last = self._last
        if last is not None:
            head = _head_of(last, data, CACHED_HEAD_BYTES)
            if head is not None:
                return head
        end = data.find(b"\r\n\r\n", 0, CACHED_HEAD_BYTES) + 4
        if end < 4:
            return None
        for shape in self._shapes.get(data.count(b"\r\n", 0, end), ()):
            head = _head_of(shape, data, end)
            if head is not None:
                self._last = shape
                return head
        return None

    def learn(self, head: ResponseHead) -> None:
        """Keep a head that was parsed, unless it is unusual."""
        if head.broken_rule or head.size > CACHED_HEAD_BYTES or has_no_body(head.status) or not head.names:
            return
        fields, head.meaning.start_lines = head.fields, status_lines(head)
        decides = [name in _DECIDE for name, _, _ in fields]
        self._heads.learn(self._shapes, head, roles(fields, decides, passed_to_client(fields, head.nominated)))


def _head_of(shape: HeadShape[ResponseHead], data: bytes, limit: int) -> ResponseHead | None:
    """The head that `data` begins with, if it is of the shape and like a known one.

    `limit`: position before which it must end.
    """
    found = shape.match(data, 0, limit)
    if found is None:
        return None
    values = found.groups()
    known = shape.known.get(shape.deciding(values))
    if known is None:
        return None
    meaning = known.meaning
    if shape.length_at >= 0:
        length = int(values[shape.length_at])
        framing = b"Content-Length: %d\r\n" % length
    else:
        length, framing = 0, framing_line(known)
    head = ResponseHead(data[: found.end()], meaning, length, None, known)
    if not meaning.depends_on_request:
        head.lines = b"".join((meaning.start_lines, shape.passed_lines(values), framing))
    return head
