"""The cost of the pure parts of a request, timed one by one in this process."""

import hashlib
import timeit
from collections.abc import Callable

from loadtests.bench.figures import Table
from loadtests.installation import manifest
from loadtests.peers.rig import Target
from loadtests.peers.scorefront import routed
from router.core.dispatcher import Dispatcher, Ticket
from router.core.forwarding import Peer
from router.core.ids import RequestIds
from router.core.table import Table as RoutingTable
from router.metrics import VersionStats, WorkerStats
from router.proxy.request_head import RequestHead, parse_request
from router.proxy.request_plan import Planner, RequestPlan
from router.proxy.request_shapes import RequestShapes
from router.proxy.response_head import parse_response
from router.proxy.response_shapes import ResponseShapes
from router.proxy.responses import replica_lines
from router.settings import RouterSettings
from serving.credentials import KeyDigests
from serving.endpoint import VersionKey
from serving.manifest import parse, to_endpoint
from serving.replica import Replica, ReplicaState

REPLICAS = 8
REPEATS = 5
KEY = "k" * 43
ANSWER_HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"

Part = Callable[[], object]


def parts() -> dict[str, Part]:
    """Name of a part -> the function to time."""
    fields = (("Authorization", f"Bearer {KEY}"), ("Content-Length", "60"))
    raw = Target("", 80, "/api/v1/service/bench/score", fields).head()
    settings, ids = RouterSettings(), RequestIds(bytes(range(16)))
    return {
        "a request head: llhttp, and the rules that llhttp lacks": lambda: parse_request(raw, settings),
        "its plan: route, key, head lines for the replica": _planning(raw, settings),
        "instead of both, for a head like an earlier one": _planning(raw, settings, is_known=True),
        "a replica's answer head: parsed, checked, cleaned": lambda: replica_lines(parse_response(ANSWER_HEAD)),
        "instead of that, for an answer like an earlier one": _known_answer(),
        f"a slot of {REPLICAS} replicas, taken and given back": _slots(),
        "a request id": ids.next,
        "accounting: three histograms and a counter": _accounting(),
    }


def table(loops: int = 20_000) -> Table:
    """Nanoseconds of each part: the best of some repetitions, as `timeit` recommends."""
    rows = []
    for name, part in parts().items():
        best_s = min(timeit.repeat(part, number=loops, repeat=REPEATS)) / loops
        rows.append((name, f"{best_s * 1e9:,.0f}"))
    return Table(("pure part", "ns"), tuple(rows))


def _planning(raw: bytes, settings: RouterSettings, is_known: bool = False) -> Part:
    """`is_known`: the head is like an earlier one; default False."""
    table = RoutingTable()
    table.upsert(to_endpoint(parse(manifest("bench", [routed("blue", [80])]))))
    table.set_keys(KeyDigests("bench", (hashlib.sha256(KEY.encode()).digest(), bytes(32))))
    peer = Peer(b"127.0.0.1", b"http")
    planner = Planner(table, Dispatcher(), WorkerStats(), peer, {}, {}, RequestShapes(settings, table))
    head = parse_request(raw, settings)

    def plan() -> RequestPlan:
        made = planner.plan(head, 0.0)
        if made.fixed is not None:
            planner.render(head, made.fixed)
        return made

    def known() -> RequestHead | None:
        found = planner.known(raw)
        if found is not None and found.plan is not None and found.plan.fixed is not None:
            planner.render(found, found.plan.fixed)
        return found

    return known if is_known else plan


def _known_answer() -> Part:
    heads = ResponseShapes()
    heads.learn(parse_response(ANSWER_HEAD))
    return lambda: heads.find(ANSWER_HEAD)


def _slots() -> Part:
    dispatcher, key, ticket = Dispatcher(), VersionKey("bench", "blue"), Ticket()
    for number in range(REPLICAS):
        dispatcher.upsert(Replica(f"r{number}", *key, "127.0.0.1", 80, ReplicaState.READY, 1), 0.0)
    queue = dispatcher.queue(key)

    def use() -> None:
        lease = queue.enqueue(ticket, 0.0)
        assert lease is not None
        queue.release(lease, 0.0)

    return use


def _accounting() -> Part:
    stats = VersionStats()

    def count() -> None:
        stats.requests[200] += 1
        stats.duration.observe(0.0004)
        stats.queue_wait.observe(0.0)
        stats.routing.observe(0.00003)

    return count
