"""Known request heads of one worker: parsed and admitted by an endpoint, valid for one generation of the table."""

from router.core.forwarding import Peer, PeerTrust
from router.core.header_fields import HOP_BY_HOP, passed_to_replica
from router.core.table import Table
from router.proxy.head_shapes import CACHED_HEAD_BYTES, MAX_HEADS, HeadShapes, Shapes, known_head, split
from router.proxy.request_head import RequestHead
from router.settings import RouterSettings
from serving.endpoint import Auth

_DECIDE = HOP_BY_HOP | {b"authorization", b"host", b"expect", b"azureml-model-deployment"}
"""Fields that decide on routing, framing or admission, but for Content-Length."""
_OF_PROXIES = frozenset({b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"})
_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")
_IN_QUERY = bytes(octet for octet in range(0x21, 0x7F) if octet != 0x23)


class RequestShapes:
    """Recognises heads for the planners of all connections of a worker.

    A head is known by its request line without query, its field names, its deciding values and the kind of its peer.
    """

    def __init__(self, settings: RouterSettings, table: Table, most: int = MAX_HEADS) -> None:
        """`table`: a change of it makes the cache empty. `most`: bound on the known heads."""
        self._max_body_bytes = settings.max_body_bytes
        self._max_line_bytes = settings.max_target_bytes
        self._routes = table
        self._generation = table.generation
        self._heads: HeadShapes[RequestHead] = HeadShapes(most)

    def __len__(self) -> int:
        return len(self._heads)

    def of_peer(self, peer: Peer) -> Shapes[RequestHead]:
        """The shapes for the kind of a peer; its address is never part of what is kept."""
        return self._heads.table((peer.proto, peer.trust))

    def find(self, shapes: Shapes[RequestHead], raw: bytes) -> RequestHead | None:
        """The head `raw`, made from a known one; None if it must be parsed.

        `shapes`: of the kind of the peer. `raw`: ends with the empty line, within the limits on heads.
        """
        if not shapes or self._generation != self._routes.generation or len(raw) > CACHED_HEAD_BYTES:
            return None
        lines = split(raw)
        if lines is None:
            return None
        line = lines[0]
        start, query = _without_query(line) if b"?" in line else (line, b"")
        known = known_head(shapes, start, lines)
        if known is None or len(line) > self._max_line_bytes:
            return None
        if query and query.translate(None, _IN_QUERY):
            return None
        shape = known.shape
        length = shape.length(lines)
        if shape.length_at >= 0 and not 0 < length <= self._max_body_bytes:
            return None
        head = known.head.varied(raw, query, length)
        head.passed_lines = known.passed_lines(lines)
        head.client_request_id = shape.client_id(lines)
        head.trail = shape.trail_values(lines)
        return head

    def learn(self, shapes: Shapes[RequestHead], peer: Peer, head: RequestHead) -> None:
        """Keep a head with its plan, by which it is admitted, unless it is unusual.

        `shapes`: of the kind of the peer. `peer`: of the connection. `head`: with its plan.
        """
        plan = head.plan
        lines = split(head.raw) if head.size <= CACHED_HEAD_BYTES else None
        if lines is None or plan is None or not plan.admitted:
            return
        names = [name for name, _, _ in head.fields]
        if b"content-length" in names and not head.content_length:
            return  # a head with another length would have a body, and this one has none
        if self._generation != self._routes.generation:
            self._heads.clear()
            self._generation = self._routes.generation
        route = plan.match.route
        decisive = _DECIDE
        if route.cors is not None:
            decisive |= {b"origin"}
        if peer.trust is PeerTrust.TRUSTED:
            decisive |= _OF_PROXIES
        lines[0] = _without_query(lines[0])[0]
        self._heads.learn(
            shapes,
            lines,
            head,
            tuple(name in decisive for name in names),
            passed_to_replica(head.fields, head.nominated, route.auth is Auth.NONE),
        )


def _without_query(line: bytes) -> tuple[bytes, bytes]:
    """A request line without its query, and the query with its question mark; a strange line is unchanged."""
    path, mark, rest = line.partition(b"?")
    if not mark or not rest.endswith(_VERSIONS):
        return line, b""
    return path + rest[-9:], b"?" + rest[:-9]
