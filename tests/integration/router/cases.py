"""Plays the cases of tests/data/http/cases.json through a router, byte by byte, and judges the observations of
both ends.

A case has the bytes of the client, the behaviour of the replica, and the allowed outcomes. Every case has a replica
and
an endpoint of its own, so that all of them can be played at once; requests at a replica must also be free of
anything ambiguous for another reader.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.clock import eventually
from tests.integration.router.replicas import Replica, Request

CASES = Path(__file__).parents[2] / "data" / "http" / "cases.json"
PATIENCE_S = 4.0
CLOSE_S = 1.0
"""Longest wait for a connection that must be closed."""
SETTLE_S = 0.15
NO_ANSWER = -1
"""Stands in the cases for: closed without an answer."""

Case = dict[str, Any]
Expected = dict[str, Any]


def load() -> list[Case]:
    cases: list[Case] = json.loads(CASES.read_text())["cases"]
    return cases


@dataclass(slots=True)
class Response:
    """One final answer, as lenient a reader as possible makes it out."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False

    def names(self) -> list[str]:
        return [name for name, _ in self.fields]


@dataclass(slots=True)
class Observation:
    """The bytes at both ends of a case."""

    replica: Replica
    data: bytes = b""
    responses: list[Response] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    ended: bool = False
    elapsed_s: float = 0.0
    first_byte_s: float | None = None
    released_s: float | None = None
    """From the client's leaving to the end of the replica's connection."""

    @property
    def closed(self) -> bool:
        said = bool(self.responses) and ("connection", "close") in self.responses[-1].fields
        return self.ended or said

    @property
    def status(self) -> int | None:
        return self.responses[0].status if self.responses else NO_ANSWER if self.closed else None

    @property
    def first(self) -> Request | None:
        return self.replica.seen[0] if self.replica.seen else None

    def __str__(self) -> str:
        lines = [seen.line.decode("latin-1")[:80] for seen in self.replica.seen]
        return (
            f"{[each.status for each in self.responses]} closed={self.closed} replica saw {lines}: {self.data[:300]!r}"
        )


# ---- the client


class Player:
    """One case on one connection."""

    def __init__(self, case: Case, port: int, endpoint: str, replica: Replica) -> None:
        base = f"/api/v1/service/{endpoint}/score"
        target = f"{base}?id={case['id']}"
        self._case = case
        self._port = port
        self._wanted = case.get("n", 1)
        self._patience_s = min(case.get("timeout", PATIENCE_S), 10.0)
        self._words = {
            "{P}": target + (f"&b={case['b']}" if "b" in case else ""),
            "{P2}": f"{target}&b=ok2",
            "{S}": f"{base}?id=SMUGGLED",
            "{H}": f"127.0.0.1:{port}",
            "{A}": "",
            "{UP}": str(replica.port),
        }
        self.seen = Observation(replica)

    async def play(self) -> Observation:
        loop = asyncio.get_running_loop()
        if self._case.get("b") == "REFUSE":
            self.seen.replica.refuse()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        began = loop.time()
        reading = loop.create_task(self._read(began), name=f"read the answers of {self._case['id']}")
        try:
            for step in self._case["send"]:
                if not self.seen.ended:
                    await self._take(step)
            await self._until(lambda: self._answered(self._wanted), self._patience_s)
            self.seen.elapsed_s = loop.time() - began
            closes = any(each.get("close") for each in self._case["expect"])
            await self._until(lambda: False, CLOSE_S if closes else SETTLE_S)
        finally:
            self._writer.transport.abort()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        self.seen.responses, self.seen.interim = parsed(self.seen.data, self.seen.ended)
        return self.seen

    async def _take(self, step: Any) -> None:
        match step:
            case str():
                await self._send(self._bytes(step))
            case {"rep": [piece, times]}:
                await self._send(self._bytes(piece) * times)
            case {"drip": [text, pause_s]}:
                for byte in self._bytes(text):
                    await self._send(bytes([byte]))
                    if await self._until(lambda: False, pause_s):
                        return
            case {"sleep": seconds}:
                await self._until(lambda: False, seconds)
            case {"wait": _}:
                await self._until(lambda: self._answered(1), self._patience_s)
            case {"wait100": seconds}:
                await self._until(lambda: bool(self.seen.data), seconds)
            case {"shutdown": _}:
                self._writer.write_eof()
            case {"abort": _}:
                await self._abort()
            case _:
                raise ValueError(f"unknown step {step}")

    def _bytes(self, text: str) -> bytes:
        for word, meaning in self._words.items():
            text = text.replace(word, meaning)
        data = text.encode("latin-1")
        rest = data.partition(b"\r\n\r\n")[2]
        return data.replace(b"{CLREST}", b"%d" % len(rest))

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass  # earlier answers are still read

    async def _abort(self) -> None:
        loop = asyncio.get_running_loop()
        replica, began = self.seen.replica, loop.time()
        self._writer.transport.abort()
        self.seen.ended = True
        await eventually(lambda: replica.left_by_router)
        self.seen.released_s = loop.time() - began

    async def _read(self, began: float) -> None:
        seen = self.seen
        try:
            while data := await self._reader.read(1 << 18):
                if seen.first_byte_s is None:
                    seen.first_byte_s = asyncio.get_running_loop().time() - began
                seen.data += data
        except ConnectionError:
            pass
        seen.ended = True

    def _answered(self, number: int) -> bool:
        return sum(each.complete for each in parsed(self.seen.data, self.seen.ended)[0]) >= number

    async def _until(self, reached: Callable[[], bool], within_s: float) -> bool:
        """True if the connection ended meanwhile."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        known = -1
        while not self.seen.ended and loop.time() < end:
            if len(self.seen.data) != known:
                known = len(self.seen.data)
                if reached():
                    break
            await asyncio.sleep(0.01)
        return self.seen.ended


def parsed(data: bytes, ended: bool) -> tuple[list[Response], list[int]]:
    """Final answers and interim statuses in a response stream."""
    responses: list[Response] = []
    interim: list[int] = []
    at = 0
    while (end := data.find(b"\r\n\r\n", at)) >= 0:
        line, *lines = data[at:end].decode("latin-1").split("\r\n")
        status = re.match(r"HTTP/\d\.\d (\d{3})", line)
        fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
        at = end + 4
        if status is None:
            return [*responses, Response(0, [], data[at:])], interim
        if status[1].startswith("1") and status[1] != "101":
            interim.append(int(status[1]))
            continue
        response = Response(int(status[1]), fields)
        at = _take_body(response, data, at, ended)
        responses.append(response)
    return responses, interim


def _take_body(response: Response, data: bytes, at: int, ended: bool) -> int:
    """Fill in the body that begins at `at`; returns its end."""
    named = dict(response.fields)
    if response.status in (204, 304):
        response.complete = True
        return at
    if "transfer-encoding" in named:
        while (line_end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line_end], 16)
            piece = data[line_end + 2 : line_end + 2 + size]
            response.body += piece
            at = line_end + 4 + size
            if not size and len(data) >= at:
                response.complete = True
                return at
            if len(piece) < size:
                break
        return len(data)
    if "content-length" in named:
        size = int(named["content-length"])
        response.body = data[at : at + size]
        response.complete = len(response.body) == size
        return at + size
    response.body, response.complete = data[at:], ended
    return len(data)


# ---- the judge


def broken_invariants(seen: Observation) -> Iterator[str]:
    """Violations of the rules for all cases: bytes that must never reach a replica or a client."""
    for request in seen.replica.seen:
        names = [name for name, _ in request.fields]
        head = request.raw_head.partition(b"\r\n\r\n")[0]
        if b"SMUGGLED" in request.line:
            yield "a hidden request reached the replica"
        framing = names.count(b"transfer-encoding") + names.count(b"content-length")
        if framing > 1 or names.count(b"host") > 1:
            yield "the replica could read the request in two ways"
        if re.search(rb"\r(?!\n)|\x00|(?<!\r)\n|\r\n[ \t]", head):
            yield "a bare CR, LF, NUL or a folded line reached the replica"
        if any(not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name) for name in names):
            yield "a field name that is no token reached the replica"
    for response in seen.responses:
        if {"transfer-encoding", "content-length"} <= set(response.names()):
            yield "the client got two framings"


def _in(value: int, allowed: Any) -> bool:
    low, high = allowed if isinstance(allowed, list) else (allowed, allowed)
    return bool(low <= value <= high)


def _sent(seen: Observation) -> str:
    """Everything that the replica got: head, framing with trailers, body."""
    first = seen.first
    return (first.raw_head + first.raw_body + first.body).decode("latin-1") if first else ""


def _names(seen: Observation) -> set[str]:
    return {name.decode("latin-1") for name, _ in seen.first.fields} if seen.first else set()


def _sent_fields(seen: Observation) -> set[tuple[str, str]]:
    return (
        {(name.decode("latin-1"), value.decode("latin-1")) for name, value in seen.first.fields}
        if seen.first
        else set()
    )


def _full(seen: Observation) -> str:
    return seen.data.decode("latin-1")


def _body(seen: Observation) -> bytes:
    return seen.responses[0].body if seen.responses else b""


def _status_fits(seen: Observation, allowed: list[int]) -> bool:
    whole = not seen.responses or seen.responses[0].complete or NO_ANSWER in allowed
    return seen.status in allowed and whole


RULES: dict[str, Callable[[Observation, Any], bool]] = {
    "status": _status_fits,
    "close": lambda seen, _: seen.closed,
    "up": lambda seen, number: _in(len(seen.replica.seen), number),
    "up_complete": lambda seen, number: sum(each.complete for each in seen.replica.seen) == number,
    "up_body": lambda seen, body: seen.first is None or seen.first.body == body.encode("latin-1"),
    "up_body_len": lambda seen, size: seen.first is not None and seen.first.body_size == size,
    "up_re": lambda seen, pattern: bool(re.search(pattern, _sent(seen))),
    "up_not_re": lambda seen, pattern: not re.search(pattern, _sent(seen)),
    "up_has": lambda seen, names: set(names) <= _names(seen),
    "up_absent": lambda seen, names: not set(names) & _names(seen),
    "up_hdr": lambda seen, fields: set(fields.items()) <= _sent_fields(seen),
    "up_cancel": lambda seen, seconds: seen.released_s is not None and seen.released_s <= seconds,
    "n_resp": lambda seen, number: sum(each.complete for each in seen.responses) == number,
    "n_resp_max": lambda seen, number: len(seen.responses) <= number,
    "no_interim": lambda seen, _: not seen.interim,
    "resp_absent": lambda seen, names: not seen.responses or not set(names) & set(seen.responses[0].names()),
    "resp_not_re": lambda seen, pattern: not re.search(pattern, _full(seen)),
    "resp_body0": lambda seen, body: _body(seen) == body.encode("latin-1"),
    "resp_body_len": lambda seen, size: len(_body(seen)) == size,
    "resp_body_re": lambda seen, pattern: bool(re.search(pattern, _body(seen).decode("latin-1"), re.DOTALL)),
    "resp_one_framing": lambda seen, _: True,  # an invariant already
    "truncated": lambda seen, _: not (seen.responses and seen.responses[0].complete),
    "first_byte": lambda seen, seconds: seen.first_byte_s is not None and seen.first_byte_s <= seconds,
    "max_time": lambda seen, seconds: seen.elapsed_s <= seconds,
    "h2": lambda seen, _: seen.data.startswith(b"\0\0"),
    "what": lambda seen, _: True,  # a name
}


def faults(case: Case, seen: Observation) -> list[str]:
    """Differences from each allowed outcome; empty if one fits."""
    broken = sorted(set(broken_invariants(seen)))
    if broken:
        return broken
    told = []
    for expected in case["expect"]:
        failed = [rule for rule, value in expected.items() if not RULES[rule](seen, value)]
        if not failed:
            return []
        told.append(f"not '{expected.get('what', '')}': {', '.join(failed)}")
    return told
