"""Known response heads of the replicas of one worker."""

from router.core.header_fields import passed_to_client
from router.proxy.head_shapes import CACHED_HEAD_BYTES, MAX_HEADS, HeadShapes, known_head, split
from router.proxy.response_head import ResponseHead, has_no_body
from router.proxy.responses import framing_line, status_lines

_DECIDE = frozenset({b"connection", b"transfer-encoding", b"upgrade"})
"""Fields that decide on framing and reuse, but for Content-Length."""


class ResponseShapes:
    """Recognises final responses with the same status line, field names and deciding values."""

    def __init__(self, most: int = MAX_HEADS) -> None:
        """`most`: bound on the known heads."""
        self._heads: HeadShapes[ResponseHead] = HeadShapes(most)
        self._shapes = self._heads.table()

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, raw: bytes) -> ResponseHead | None:
        """The head `raw`, made from a known one; None if it must be parsed.

        `raw`: ends with the empty line, of a response to another method than HEAD.
        """
        if len(raw) > CACHED_HEAD_BYTES or not self._shapes:
            return None
        lines = split(raw)
        if lines is None:
            return None
        known = known_head(self._shapes, lines[0], lines)
        if known is None:
            return None
        length = known.shape.length(lines)
        if length < 0:
            return None
        head = known.head.varied(raw, length)
        if not head.depends_on_request:
            head.lines = b"".join((status_lines(head), known.passed_lines(lines), framing_line(head)))
        return head

    def learn(self, head: ResponseHead) -> None:
        """Keep a head that was parsed, unless it is unusual."""
        if head.broken_rule or head.size > CACHED_HEAD_BYTES or has_no_body(head.status) or not head.names:
            return
        lines = split(head.raw)
        if lines is None:
            return
        fields = head.fields
        decides = tuple(name in _DECIDE for name, _, _ in fields)
        self._heads.learn(self._shapes, lines, head, decides, passed_to_client(fields, head.nominated))
