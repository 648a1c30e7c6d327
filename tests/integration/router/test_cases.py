"""HTTP/1.1 through the router byte by byte: attacks, odd requests, replicas with wrong answers.

Requirements of the RFCs (MUST) and known attacks have to hold in every case; good practice in nine cases of ten.
"""

import asyncio
import re

import pytest
import uvloop

from cluster.link import UpsertEndpoint, UpsertReplica
from router.settings import RouterSettings
from tests.integration.router.cases import Case, Observation, Player, faults, load
from tests.integration.router.replicas import (
    OK,
    Replica,
    Request,
    Script,
    Wire,
    answer_bytes,
    echo,
    plays,
    silent,
)
from tests.integration.router.rig import Rig, declared, endpoint, version

CASES = load()
MUST = [case for case in CASES if case["level"] == "must"]
SHOULD = [case for case in CASES if case["level"] == "should"]
SHORT = RouterSettings(head_timeout_s=1.0, first_byte_timeout_s=1.0)
"""Waiting is not the subject of the cases."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = answer_bytes(b"SMUGRESP")


async def length(wire: Wire, request: Request) -> None:
    await wire.send(answer_bytes(b"%d" % request.body_size))


async def trickle(wire: Wire, request: Request) -> None:
    await wire.send(CHUNKED)
    leaving = asyncio.create_task(wire.router_left(), name="wait for the router to leave")
    try:
        while not leaving.done():
            await wire.send(b"5\r\nhello\r\n", 0.05)
    finally:
        leaving.cancel()
    raise ConnectionAbortedError


async def reset_midway(wire: Wire, request: Request) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", 0.2)
    wire.reset()


async def early_200(wire: Wire, request: Request) -> None:
    await wire.send(OK)
    await wire.read_body(request)


async def early_413(wire: Wire, request: Request) -> None:
    await wire.send(answer_bytes(b"big", "413 Content Too Large", ("Connection: close",)))
    await wire.reader.read(200_000)
    wire.close()


BEFORE_THE_BODY: dict[str, Script] = {
    "early200": early_200,
    "early401": plays(answer_bytes(b"no", "401 Unauthorized", ("Connection: close",)), close=True),
    "early413": early_413,
}

BEHAVIOURS: dict[str, Script] = {
    "chunked": plays(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"),
    "trunc_cl": plays(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", close=True),
    "trunc_te": plays(CHUNKED + b"5\r\nhello\r\n", close=True),
    "extra": plays(OK + SMUGGLED),
    "idle_poison": plays(OK, 0.25, SMUGGLED),
    "cl_te": plays(CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", close=True),
    "bad_status": plays(b"HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello", close=True),
    "garbage": plays(b"garbage garbage\r\n\r\nhello", close=True),
    "status99": plays(b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello", close=True),
    "early_hints": plays(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK),
    "unasked101": plays(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 0.3, close=True
    ),
    "close_now": plays(close=True),
    "rst_mid": reset_midway,
    "hang": silent,
    "trickle": trickle,
    "resp_nul": plays(HEAD + b"X-A: a\x00b\r\n\r\nhello"),
    "resp_bighdr": plays(HEAD + b"X-A: ", *[b"a" * 65_536] * 16, b"\r\n\r\nhello", close=True),
    "resp_manyhdr": plays(HEAD, *[b"X-A: b\r\n" * 1000] * 20, b"\r\nhello", close=True),
    "resp_badchunk": plays(CHUNKED + b"5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n", close=True),
    "resp_hop": plays(HEAD + b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\n\r\nhello"),
    "resp_negcl": plays(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", close=True),
    "resp_cllist": plays(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!", close=True),
    "resp_lf": plays(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    "stream": plays(CHUNKED + b"3\r\none\r\n", 1.5, b"3\r\ntwo\r\n", 0.1, b"5\r\nthree\r\n0\r\n\r\n"),
    "ver37": plays(b"HTTP/3.7 200 OK\r\nContent-Length: 5\r\n\r\nhello", close=True),
    "big": plays(b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n", *[b"q" * 65_536] * 128),
    "ok2": plays(answer_bytes(b"SECOND")),
    "ws426": plays(answer_bytes(b"", "426 Upgrade Required", ("Sec-WebSocket-Version: 13",))),
    "len": length,
}


async def by_query(wire: Wire, request: Request) -> None:
    """Behaves as the query asks; without a word about it, echoes."""
    named = re.search(rb"[?&]b=([a-z0-9_]+)", request.line)
    name = named[1].decode() if named else ""
    if name in BEFORE_THE_BODY:
        await BEFORE_THE_BODY[name](wire, request)
        return
    await wire.read_body(request)
    await BEHAVIOURS.get(name, echo)(wire, request)


async def play_all() -> dict[str, Observation]:
    rig = Rig(SHORT)
    await rig.start()
    try:
        seen = await asyncio.gather(*(play(rig, case) for case in CASES))
        return {case["id"]: each for case, each in zip(CASES, seen, strict=True)}
    finally:
        await rig.stop()


async def play(rig: Rig, case: Case) -> Observation:
    """One case, with an endpoint and a replica of its own."""
    name = f"case-{case['id'].lower()}"
    replica = rig.replicas[name] = Replica(by_query, reads_body=False)
    await replica.start()
    patience_s = 1.0 if case.get("b") == "hang" else 10.0
    rig.tell(UpsertEndpoint(endpoint(version(scoring_timeout_s=patience_s, queue_wait_s=1.0), name=name)))
    rig.tell(UpsertReplica(declared(name, replica.port, 64, endpoint=name)))
    return await Player(case, rig.port, name, replica).play()


@pytest.fixture(scope="module")
def observed() -> dict[str, Observation]:
    """Every case is played once, all of them at the same time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop of a real worker
        return runner.run(play_all())


def named(case: Case) -> str:
    return f"{case['id']} {case['title']}"


@pytest.mark.parametrize("case", MUST, ids=named)
def test_required_cases_hold(case: Case, observed: dict[str, Observation]) -> None:
    told = faults(case, observed[case["id"]])
    assert not told, f"{case['ref']}: {'; '.join(told)}; {observed[case['id']]}"


def test_good_practice_holds_in_nine_cases_of_ten(observed: dict[str, Observation]) -> None:
    failed = {named(case): told for case in SHOULD if (told := faults(case, observed[case["id"]]))}
    assert len(failed) <= len(SHOULD) / 10, failed


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"status": [418]}, "status"),
        ({"up": 7}, "up"),
        ({"up_body": "other"}, "up_body"),
        ({"resp_body_len": 1}, "resp_body_len"),
        ({"n_resp": 2}, "n_resp"),
    ],
)
def test_the_judge_sees_violations(changed: dict[str, object], told: str, observed: dict[str, Observation]) -> None:
    (case,) = (case for case in CASES if case["id"] == "F11")
    assert faults({**case, "expect": [{"what": "wrong", **changed}]}, observed["F11"]) == [f"not 'wrong': {told}"]
