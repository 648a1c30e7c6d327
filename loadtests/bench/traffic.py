"""Requests of a benchmark, made before it: one that repeats, values that vary, heads of six clients mixed. Pure."""

import random
from collections.abc import Callable
from enum import StrEnum

from loadtests.peers.rig import Target

COUNT = 20_000
"""Distinct requests of a kind that varies: more than any cache of whole heads keeps."""
SEED = 14
BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]], "x":1}'[:60]

Fields = list[tuple[str, str]]


class Heads(StrEnum):
    """Kind of request heads."""

    SAME = "same"
    """One head and one body."""
    VARY = "vary"
    """One client: the same names in the same order, other values and lengths."""
    MIXED = "mixed"
    """Six clients on the same connections, as behind an ingress: other names, and other values."""


def requests(heads: Heads, target: Target, count: int = COUNT) -> list[bytes]:
    """Whole requests to the target, the same for a kind and a count. `count`: of them; one of the kind SAME."""
    if heads is Heads.SAME:
        return [_post(target, [], BODY)]
    chance = random.Random(SEED)
    clients = CLIENTS[:1] if heads is Heads.VARY else CLIENTS
    return [_post(target, clients[number % len(clients)](chance), _body(chance)) for number in range(count)]


def _post(target: Target, fields: Fields, body: bytes) -> bytes:
    return target.head("POST", *fields, ("Content-Length", str(len(body)))) + body


def _body(chance: random.Random) -> bytes:
    return b'{"data": [[%b]]}' % b", ".join(b"%.1f" % chance.uniform(0, 9) for _ in range(chance.randint(4, 16)))


def _id(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"


def _trace(chance: random.Random) -> tuple[str, str]:
    return "traceparent", f"00-{_id(chance, 32)}-{_id(chance, 16)}-01"


def _traced_sdk(chance: random.Random) -> Fields:
    return [
        ("User-Agent", f"scoring-client/1.{chance.randrange(9)}.{chance.randrange(100)}"),
        ("Accept", "*/*"),
        ("x-ms-client-request-id", _id(chance, 32)),
        _trace(chance),
        ("X-User", f"user-{chance.randrange(10 ** chance.randint(1, 6))}"),
    ]


def _script(chance: random.Random) -> Fields:
    agent = f"python-requests/2.{chance.randrange(20, 33)}.0"
    return [
        ("User-Agent", agent),
        ("Accept-Encoding", "gzip, deflate"),
        ("Accept", "*/*"),
        ("Connection", "keep-alive"),
    ]


def _shell(chance: random.Random) -> Fields:
    return [("User-Agent", f"curl/8.{chance.randrange(12)}.1"), ("Accept", "*/*"), ("X-Run", _id(chance, 8))]


def _service(chance: random.Random) -> Fields:
    return [
        ("User-Agent", "Go-http-client/1.1"),
        ("Accept-Encoding", "gzip"),
        _trace(chance),
        ("tracestate", f"vendor={_id(chance, 16)}"),
        ("baggage", f"tenant={chance.randrange(1000)}"),
    ]


def _browser(chance: random.Random) -> Fields:
    return [
        ("User-Agent", f"Mozilla/5.0 (X11; Linux x86_64; rv:{chance.randrange(100, 140)}.0) Gecko/20100101"),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Language", "en-GB,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Origin", f"https://app{chance.randrange(10)}.example.com"),
        ("Referer", f"https://app.example.com/cases/{chance.randrange(10**6)}"),
        ("Cookie", f"session={_id(chance, 32)}; theme=dark"),
    ]


def _gateway(chance: random.Random) -> Fields:
    address = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    return [
        ("X-Request-ID", _id(chance, 32)),
        ("X-Real-IP", address),
        ("X-Forwarded-For", address),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "models.example.com"),
        ("User-Agent", f"okhttp/4.{chance.randrange(13)}.0"),
        _trace(chance),
    ]


CLIENTS: tuple[Callable[[random.Random], Fields], ...] = (
    *(_traced_sdk, _script, _shell),
    *(_service, _browser, _gateway),
)
