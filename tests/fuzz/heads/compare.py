"""The caches of heads beside the parser alone: the same messages, the same outcomes."""

import asyncio
from random import Random
from typing import NamedTuple

from tests.fuzz.heads.generator import Message, cut, request, response
from tests.fuzz.heads.worker import KEY, PEERS, FuzzedWorker, Outcome

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKED = (
    b"POST /api/v1/service/iris/score HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer %b\r\n" % KEY.encode()
    + b"Content-Length: 2\r\n\r\nhi",
    b"GET /api/v1/service/open/score HTTP/1.1\r\nHost: front\r\nOrigin: https://a.test\r\n\r\n",
    b"HEAD /api/v1/service/open/score HTTP/1.1\r\nHost: front\r\n\r\n",
    b"POST /api/v1/service/pair/score HTTP/1.0\r\nHost: front\r\nContent-Length: 2\r\n\r\nhi",
    b"GET /api/v1/service/open/score HTTP/1.1\r\nHost: front\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
)
FORGET_AFTER = 5_000
"""Messages after which the caches begin empty: what was learned first decides about mistakes."""


class HeadsDiffer(AssertionError):
    """A message has another outcome through the caches."""


class Exchanged(NamedTuple):
    """What was exchanged: sent by the client, answered by the replica."""

    peer: str
    pieces: list[bytes]
    answers: list[bytes]
    drawn: int


class Pair:
    """A worker with caches and one without, in the same state otherwise. Used within a running loop."""

    def __init__(self, direction: str, proxies: bool) -> None:
        """`direction`: "requests" or "responses". `proxies`: one peer is a trusted proxy, the others are not."""
        self._cached, self._parser = FuzzedWorker("", proxies), FuzzedWorker(direction, proxies)
        self._direction = direction

    @property
    def found(self) -> int:
        """Heads that the cache found."""
        cached = self._cached
        return cached.requests_found.found if self._direction == "requests" else cached.responses_found

    def exchange(self, exchanged: Exchanged) -> Outcome:
        """Raises HeadsDiffer."""
        got, expected = self._cached.ask(*exchanged), self._parser.ask(*exchanged)
        if got != expected:
            differing = [
                f"  {name}:\n    cache  {mine!r}\n    parser {theirs!r}"
                for name, mine, theirs in zip(Outcome._fields, got, expected, strict=True)
                if mine != theirs
            ]
            raise HeadsDiffer("\n".join([repr(exchanged), *differing]))
        return got

    async def close(self) -> None:
        await self._cached.close()
        await self._parser.close()


def exchanged(chance: Random, direction: str) -> Exchanged:
    """One exchange. `direction`: "requests" or "responses", which are the changed ones."""
    if direction == "requests":
        asked = cut(chance, request(chance))
        return Exchanged(chance.choice(PEERS), asked, [ANSWER], chance.randrange(2))
    answers = cut(chance, response(chance))
    if chance.random() < 0.05:
        answers = [*cut(chance, Message(b"HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n", b"")), *answers]
    return Exchanged(PEERS[0], [chance.choice(ASKED)], answers, 0)


class Tally(NamedTuple):
    """What a run has compared."""

    heads: int
    found: int
    passed: int
    """Of these, 200 or another answer of a replica."""


async def _compare(heads: int, seed: int, direction: str) -> Tally:
    chance = Random(seed)
    found = passed = 0
    for begin in range(0, heads, FORGET_AFTER):
        pair = Pair(direction, proxies=chance.random() < 0.5)
        try:
            for _ in range(min(FORGET_AFTER, heads - begin)):
                passed += b" 200 OK\r\n" in pair.exchange(exchanged(chance, direction)).to_client
            found += pair.found
        finally:
            await pair.close()
    return Tally(heads, found, passed)


def compare_drawn(chances: list[Random], direction: str) -> None:
    """Compare one exchange of each; the caches begin empty. Raises HeadsDiffer."""

    async def run() -> None:
        pair = Pair(direction, proxies=len(chances) % 2 == 0)
        try:
            for chance in chances:
                pair.exchange(exchanged(chance, direction))
        finally:
            await pair.close()

    asyncio.run(run())


def compare(heads: int, seed: int, direction: str) -> Tally:
    """Compare so many heads. Raises HeadsDiffer.

    `seed`: of the run. `direction`: "requests" or "responses".
    """
    return asyncio.run(_compare(heads, seed, direction))
