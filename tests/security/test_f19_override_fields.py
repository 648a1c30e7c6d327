"""F19: no header field reaches a replica that would have it serve another method or path than was authorized."""

import itertools

import pytest

from router.core.header_fields import for_client, for_replica
from tests.integration.router.clients import request
from tests.integration.router.replicas import echo
from tests.integration.router.rig import Rig

OVERRIDING = (
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"),
    *("X-Original-URL", "X-Original-Method", "X-Rewrite-URL"),
    *("X-Original-URI", "X-Original-Path", "X-Rewrite-URI", "X-Rewrite-Path", "X-HTTP-Path-Override"),
)


def spellings(name: str) -> list[str]:
    """The name in several cases, with every choice of dash or underscore."""
    words = name.split("-")
    spelled = []
    for marks in itertools.product("-_", repeat=len(words) - 1):
        joined = "".join(itertools.chain(*itertools.zip_longest(words, marks, fillvalue="")))
        spelled += [joined, joined.lower(), joined.upper(), joined.swapcase()]
    return spelled


@pytest.mark.parametrize("name", OVERRIDING)
def test_an_override_is_dropped_in_every_spelling(name: str) -> None:
    fields = [(spelled.lower().encode(), spelled.encode(), b"DELETE") for spelled in spellings(name)]
    kept = (b"x-original-input", b"X-Original-Input", b"1")
    lines = for_replica([*fields, kept], frozenset(), b"front")
    assert b"DELETE" not in lines
    assert b"X-Original-Input: 1\r\n" in lines


def test_an_answer_keeps_these_fields() -> None:
    assert for_client([(b"x-rewrite-url", b"X-Rewrite-URL", b"/a")], frozenset()) == b"X-Rewrite-URL: /a\r\n"


async def test_no_override_passes_a_worker_even_on_a_head_that_is_known() -> None:
    rig = Rig()
    await rig.start()
    replica = await rig.replica(echo)
    client = await rig.client()
    for value in ("DELETE", "PURGE", "DELETE"):
        fields = tuple(f"{spelled}: {value}" for name in OVERRIDING[:6] for spelled in spellings(name)[:4])
        assert (await client.ask(request(b"x", fields=fields))).status == 200
    assert len(replica.seen) == 3
    for received in replica.seen:
        assert not any(value in (b"DELETE", b"PURGE") for _, value in received.fields)
    await rig.stop()
