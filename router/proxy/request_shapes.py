"""Known request heads of one worker: parsed and admitted by an endpoint, valid for one generation of the table."""

from router.core.forwarding import Peer, PeerTrust
from router.core.header_fields import HOP_BY_HOP, passed_to_replica
from router.core.table import Table
from router.proxy.head_shapes import CACHED_HEAD_BYTES, MAX_HEADS, HeadShape, HeadShapes, Shapes, Values, roles
from router.proxy.request_head import RequestHead
from router.settings import RouterSettings
from serving.endpoint import Auth

_DECIDE = HOP_BY_HOP | {b"authorization", b"host", b"expect", b"azureml-model-deployment"}
"""Fields that decide on routing, framing or admission, but for Content-Length."""
_OF_PROXIES = frozenset({b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix"})
_START = rb'([!->@-~]++ [!->@-~]++)((?:\?[!-"$-~]*+)?)( HTTP/1\.[01])'
"""Request line: method and path, query, version."""


class RequestShapes:
    """Recognises heads for the planners of all connections of a worker.

    A head is known by its request line without query, its field names, its deciding values and the kind of its peer.
    """

    def __init__(self, settings: RouterSettings, table: Table, most: int = MAX_HEADS) -> None:
        """`table`: a change of it makes the cache empty. `most`: bound on the known heads."""
        self._max_body_bytes = settings.max_body_bytes
        self._max_line_bytes = settings.max_target_bytes
        self._limit_bytes = min(CACHED_HEAD_BYTES, settings.max_head_bytes)
        self._routes = table
        self._generation = table.generation
        self._heads: HeadShapes[RequestHead] = HeadShapes(_START, most)

    def __len__(self) -> int:
        return len(self._heads)

    def of_peer(self, peer: Peer) -> Shapes[RequestHead]:
        """The shapes for the kind of a peer; its address is never part of what is kept."""
        return self._heads.table((peer.proto, peer.trust))

    def find(self, shapes: Shapes[RequestHead], data: bytes) -> RequestHead | None:
        """The head that `data` begins with, made from a known one; None if it must be parsed.

        `shapes`: of the kind of the peer. `data`: as received.
        """
        end = data.find(b"\r\n\r\n", 0, self._limit_bytes) + 4
        if end < 4 or self._generation != self._routes.generation:
            return None
        for shape in shapes.get(data.count(b"\r\n", 0, end), ()):
            found = shape.match(data, 0, end)
            if found is not None:
                values = found.groups()
                known = shape.known.get(shape.deciding(values))
                if known is not None:
                    if values[1] and found.end(3) > self._max_line_bytes:
                        return None
                    return self._like(known, shape, data[:end], values)
        return None

    def _like(
        self, known: RequestHead, shape: HeadShape[RequestHead], raw: bytes, values: Values
    ) -> RequestHead | None:
        """A head with the same deciding values as a known one; None if its length must be judged by the parser.

        `shape`: of both. `raw`: its bytes. `values`: cut out of them.
        """
        length = 0
        if shape.length_at >= 0:
            length = int(values[shape.length_at])
            if not 0 < length <= self._max_body_bytes:
                return None
        head = RequestHead(raw, known.meaning, length, None, known)
        head.plan, head.query = known.plan, values[1]
        head.passed_lines = shape.passed_lines(values)
        if shape.client_id_at >= 0:
            head.client_request_id = values[shape.client_id_at]
        if shape.trail_at:
            head.trail = tuple([values[index] for index in shape.trail_at])
        return head

    def learn(self, shapes: Shapes[RequestHead], peer: Peer, head: RequestHead) -> None:
        """Keep a head with its plan, by which it is admitted, unless it is unusual.

        `shapes`: of the kind of the peer. `peer`: of the connection. `head`: with its plan.
        """
        plan = head.plan
        if head.size > CACHED_HEAD_BYTES or plan is None or not plan.admitted:
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
        decides = [name in decisive for name in names]
        passed = passed_to_replica(head.fields, head.nominated, route.auth is Auth.NONE, route.traced)
        self._heads.learn(shapes, head, roles(head.fields, decides, passed))
