"""Replicas that read bodies wrongly, late or not at all: no answer at the wrong client, no neighbour failed."""

from collections.abc import Awaitable, Callable

import pytest

from cluster.link import RemoveReplica, UpsertReplica
from loadtests.desync import FAILED, OK, REFUSED, WRONG, play
from loadtests.desync_server import KINDS, serve
from tests.integration.router.rig import Rig, declared, endpoint, version

Rigs = Callable[..., Awaitable[Rig]]

ON_EVERY_LOOP = True
REQUESTS = 60


@pytest.mark.parametrize("collect_bytes", [8_000_000, 65_536], ids=["collected", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
async def test_each_client_gets_its_own_answers(rigs: Rigs, kind: str, collect_bytes: int) -> None:
    rig = await rigs(collect_bytes=collect_bytes)
    rig.declare(endpoint(version(queue_wait_s=30.0)))
    server = await serve(kind, 0)
    async with server:
        rig.tell(UpsertReplica(declared("odd", server.sockets[0].getsockname()[1], 2)))
        clients = await play(rig.port, "iris", kind, REQUESTS)
        rig.tell(RemoveReplica("odd"))
    for client in clients:
        assert client.outcomes[WRONG] == client.outcomes[FAILED] == 0, client.faults[:3]
        assert client.outcomes[OK] + client.outcomes[REFUSED] == REQUESTS
        if collect_bytes > 65_536:
            assert client.outcomes[REFUSED] == 0
