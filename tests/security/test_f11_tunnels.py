"""F11: a tunnel ends with its credential or its endpoint; tunnels of other credentials stay."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from cluster.link import RemoveEndpoint, ResetAll, SetKeys, SetTrust, UpsertEndpoint
from controlplane.tokens import LIFETIME_S, Keyring, TokenAlgorithm, new_keyring
from router.core.authorization import CLOCK_SKEW_S
from router.core.table import Match
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import Auth
from tests.fakes.clock import eventually, stands_still
from tests.integration.router.clients import SCORE, Answer, Client, get, request
from tests.integration.router.group import Group
from tests.integration.router.replicas import Replica, Request, Wire
from tests.integration.router.rig import Rig, declared, endpoint, keys, version

PRIMARY, SECONDARY, NEW = "primary-key", "secondary-key", "new-key"
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: xyz\r\n\r\n"
LIFE = "incarnation-1"


def asks(credential: str = "", path: str = SCORE) -> bytes:
    """The request for a WebSocket."""
    authorization = (f"Authorization: Bearer {credential}",) if credential else ()
    return get(path, ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc", *authorization))


async def shout(wire: Wire, request: Request) -> None:
    """Switches protocols, then answers in capitals until the router ends the connection."""
    await wire.send(SWITCHED)
    while data := await wire.reader.read(65_536):
        await wire.send(data.upper())
    wire.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.start()
    rig.declare(endpoint(version(web_socket=True, slots_per_replica=20), auth=Auth.KEY))
    rig.lock(PRIMARY, SECONDARY)
    await rig.replica(shout, slots=20)
    yield rig
    await rig.stop()


async def opened(rig: Rig, credential: str = "", path: str = SCORE) -> Client:
    client = await rig.client()
    answer = await client.ask(asks(credential, path))
    assert answer.status == 101
    await passes(client)
    return client


async def passes(client: Client) -> None:
    client.send(b"ping")
    async with asyncio.timeout(5):
        assert await client.reader.readexactly(4) == b"PING"


async def ended(client: Client) -> None:
    """A plain close: no byte more. (The deadline is ample; the trigger is an event, not a timer.)"""
    assert await client.end() == b""


@pytest.fixture
def ring() -> Keyring:
    return new_keyring("here", TokenAlgorithm.EDDSA, 0)


def take_tokens(rig: Rig, ring: Keyring, incarnation: str = LIFE) -> None:
    rig.tell(SetTrust(ring.trust()))
    rig.tell(SetKeys(replace(keys(PRIMARY, SECONDARY), incarnation=incarnation)))
    rig.declare(endpoint(version(web_socket=True, slots_per_replica=20), auth=Auth.TOKEN))


async def test_tunnels_of_a_regenerated_key_end_and_those_of_the_other_key_stay(rig: Rig) -> None:
    primary, secondary = await opened(rig, PRIMARY), await opened(rig, SECONDARY)
    rig.lock(NEW, SECONDARY)
    await ended(primary)
    await passes(secondary)
    assert (await (await rig.client()).ask(asks(PRIMARY))).status == 401
    await passes(await opened(rig, NEW))
    rig.lock(NEW, "another-new-key")
    await ended(secondary)
    assert rig.gateway.stats.counters["tunnels_unauthorized"] == 2
    assert rig.gateway.stats.counters["tunnels_idle"] == 0
    assert rig.busy() == 1


async def test_the_replica_sees_the_end_too(rig: Rig) -> None:
    client = await opened(rig, PRIMARY)
    (replica,) = rig.replicas.values()
    assert replica.open_connections == 1
    rig.lock(NEW, SECONDARY)
    await ended(client)
    await eventually(lambda: replica.open_connections == 0)


async def test_nothing_of_a_client_that_goes_on_sending_reaches_the_replica(rig: Rig) -> None:
    client = await opened(rig, PRIMARY)
    rig.lock(NEW, SECONDARY)
    for _ in range(10):
        client.send(b"more")
    await ended(client)


@pytest.mark.parametrize("path", [SCORE, "/api/v1/service/iris/versions/blue/score", "/api/v1/endpoint/iris/chat"])
async def test_tunnels_end_with_their_endpoint(rig: Rig, path: str) -> None:
    clients = [await opened(rig, PRIMARY, path), await opened(rig, SECONDARY, path)]
    rig.tell(RemoveEndpoint("iris"))
    for client in clients:
        await ended(client)


async def test_tunnels_without_credential_end_with_their_endpoint_too(rig: Rig) -> None:
    rig.declare(endpoint(version(web_socket=True), auth=Auth.NONE))
    client = await opened(rig)
    rig.tell(RemoveEndpoint("iris"))
    await ended(client)


async def test_tunnels_end_when_a_snapshot_leaves_out_their_endpoint_or_key(rig: Rig) -> None:
    primary, secondary = await opened(rig, PRIMARY), await opened(rig, SECONDARY)
    (replica,) = rig.replicas.values()
    there = (declared(rig.id_of(replica), replica.port, 20),)
    whole = endpoint(version(web_socket=True, slots_per_replica=20), auth=Auth.KEY)
    trust = TokenTrust("https://issuer.test")
    rig.tell(ResetAll((whole,), (keys(PRIMARY, SECONDARY),), trust, there))
    await passes(primary)
    rig.tell(ResetAll((whole,), (keys(NEW, SECONDARY),), trust, there))
    await ended(primary)
    await passes(secondary)
    rig.tell(ResetAll((), (), trust, ()))
    await ended(secondary)


@pytest.mark.parametrize("after", [Auth.KEY, Auth.TOKEN])
async def test_tunnels_opened_without_a_credential_end_when_one_is_demanded(rig: Rig, after: Auth) -> None:
    rig.declare(endpoint(version(web_socket=True), auth=Auth.NONE))
    client = await opened(rig)
    rig.declare(endpoint(version(web_socket=True), auth=after))
    await ended(client)


async def test_tunnels_of_keys_end_when_tokens_are_demanded_instead(rig: Rig, ring: Keyring) -> None:
    client = await opened(rig, PRIMARY)
    take_tokens(rig, ring)
    await ended(client)


async def test_tunnels_stay_when_no_credential_is_demanded_any_more(rig: Rig) -> None:
    client = await opened(rig, PRIMARY)
    rig.declare(endpoint(version(web_socket=True), auth=Auth.NONE))
    await passes(client)


async def test_other_changes_leave_tunnels_alone(rig: Rig) -> None:
    client = await opened(rig, PRIMARY)
    rig.lock(PRIMARY, SECONDARY)
    rig.lock(PRIMARY, NEW)
    rig.declare(endpoint(version(web_socket=True), version("green", 0.0, is_default=False), auth=Auth.KEY))
    rig.tell(UpsertEndpoint(endpoint(name="roses", auth=Auth.KEY)))
    rig.lock("x", "y", endpoint="roses")
    rig.tell(RemoveEndpoint("roses"))
    rig.tell(SetTrust(TokenTrust("https://another.test")))
    await passes(client)
    assert rig.gateway.stats.counters["tunnels_unauthorized"] == 0


async def test_tunnels_of_revoked_tokens_end(rig: Rig, ring: Keyring) -> None:
    take_tokens(rig, ring)
    now_s = rig.gateway.unix_now()
    client = await opened(rig, ring.issue("iris", LIFE, now_s, "1").access_token)
    rig.tell(SetKeys(replace(keys(PRIMARY, SECONDARY), incarnation="incarnation-2")))
    await ended(client)
    await passes(await opened(rig, ring.issue("iris", "incarnation-2", now_s, "2").access_token))


async def test_tunnels_of_an_issuer_that_is_no_longer_trusted_end(rig: Rig, ring: Keyring) -> None:
    take_tokens(rig, ring)
    client = await opened(rig, ring.issue("iris", LIFE, rig.gateway.unix_now(), "1").access_token)
    rig.tell(SetTrust(new_keyring("here", TokenAlgorithm.EDDSA, 0).trust()))
    await ended(client)


async def test_a_tunnel_ends_when_its_token_expires(rig: Rig, ring: Keyring) -> None:
    take_tokens(rig, ring)
    now_s = rig.gateway.unix_now()
    soon = ring.issue("iris", LIFE, now_s + 1 - LIFETIME_S - CLOCK_SKEW_S, "1")
    later = ring.issue("iris", LIFE, now_s, "2")
    expiring, lasting = await opened(rig, soon.access_token), await opened(rig, later.access_token)
    await ended(expiring)
    assert rig.gateway.unix_now() >= soon.expires_on + CLOCK_SKEW_S
    await passes(lasting)


async def test_a_credential_that_ends_before_the_replica_switches_opens_no_tunnel(rig: Rig) -> None:
    for replica in list(rig.replicas.values()):
        rig.remove(replica)
    go = asyncio.Event()

    async def late(wire: Wire, request: Request) -> None:
        await go.wait()
        await wire.send(SWITCHED + b"hidden")

    replica = await rig.replica(late)
    client = await rig.client()
    client.send(asks(PRIMARY))
    await eventually(lambda: len(replica.seen) == 1)
    rig.lock(NEW, SECONDARY)
    go.set()
    answer = await client.answer()
    assert (answer.status, answer.code) == (401, "Unauthorized")
    assert b"hidden" not in answer.body
    await eventually(lambda: rig.busy() == 0)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("end", ["the key is regenerated", "the endpoint is deleted"])
async def test_a_credential_that_ends_before_the_body_is_whole_reaches_no_replica(
    rig: Rig, end: str, chunked: bool
) -> None:
    for replica in list(rig.replicas.values()):
        rig.remove(replica)
    replica = await rig.replica()
    slow, other = await rig.client(), await rig.client()
    framing, last = ("Transfer-Encoding: chunked", b"1\r\ny\r\n0\r\n\r\n") if chunked else ("Content-Length: 2", b"y")
    for client, key in ((slow, PRIMARY), (other, SECONDARY)):
        head = request(None, fields=(f"Authorization: Bearer {key}", framing))
        client.send(head + (b"1\r\nx\r\n" if chunked else b"x"))
    await eventually(lambda: all(each.exchange for each in rig.gateway.clients))
    if end == "the key is regenerated":
        rig.lock(NEW, SECONDARY)
    else:
        rig.tell(RemoveEndpoint("iris"))
    slow.send(last)
    other.send(last)
    expected = (401, 200) if end == "the key is regenerated" else (404, 404)
    assert ((await slow.answer()).status, (await other.answer()).status) == expected
    assert len(replica.seen) == expected.count(200)


async def test_a_response_that_has_begun_is_sent_to_its_end(rig: Rig) -> None:
    for replica in list(rig.replicas.values()):
        rig.remove(replica)
    go = asyncio.Event()

    async def stream(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun")
        await go.wait()
        await wire.send(b"ended")

    await rig.replica(stream)
    client = await rig.client()
    client.send(get(fields=(f"Authorization: Bearer {PRIMARY}",)))
    await client.reader.readuntil(b"begun")
    rig.lock(NEW, SECONDARY)
    go.set()
    async with asyncio.timeout(5):
        assert await client.reader.readexactly(5) == b"ended"


async def test_tunnels_that_have_ended_are_forgotten(rig: Rig) -> None:
    clients = [await opened(rig, PRIMARY) for _ in range(5)]
    assert len(rig.gateway.tunnels) == 5
    for client in clients:
        client.leave()
    await eventually(lambda: len(rig.gateway.tunnels) == 0)


async def test_bytes_cost_no_review(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await opened(rig, PRIMARY)
    reviews = counted(rig, monkeypatch)
    for _ in range(50):
        await passes(client)
    await rig.swept(3)
    await stands_still(reviews)
    assert reviews() == 0


def counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Number of credential checks of tunnels from now on."""
    seen: list[object] = []
    whole = rig.gateway.table.match

    def match(path: bytes) -> Match:
        seen.append(path)
        return whole(path)

    monkeypatch.setattr(rig.gateway.table, "match", match)
    return lambda: len(seen)


async def test_every_worker_closes_its_tunnels() -> None:
    replica = Replica(shout)
    await replica.start()
    locked = endpoint(version(web_socket=True, slots_per_replica=50), auth=Auth.KEY)
    there = (declared("r0", replica.port, 50),)
    told = ResetAll((locked,), (keys(PRIMARY, SECONDARY),), TokenTrust("https://issuer.test"), there)
    group = Group(told, workers=2)
    await group.start()
    try:
        clients = []
        for number in range(24):  # the system spreads connections over both workers
            client = await Client.connect(group.port)
            credential = SECONDARY if number % 2 else PRIMARY
            answer: Answer = await client.ask(asks(credential))
            assert answer.status == 101
            clients.append(client)
        assert all(worker.connections for worker in await group.collect())
        group.told = replace_keys(told, keys(NEW, SECONDARY))
        group.tell(SetKeys(keys(NEW, SECONDARY)))
        for number, client in enumerate(clients):
            if number % 2:
                await passes(client)
            else:
                await ended(client)
        for client in clients:
            client.leave()
    finally:
        await group.stop()
        await replica.stop()


def replace_keys(told: ResetAll, changed: KeyDigests) -> ResetAll:
    return ResetAll(told.endpoints, (changed,), told.trust, told.replicas)
