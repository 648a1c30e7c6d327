"""F13: strangers cannot keep the connection table full: the one that has been idle longest makes room."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.proxy.connection_admission import ConnectionAdmission, ConnectionVerdict
from router.proxy.connection_handoff import HandoffReceiver, HandoffSender
from router.settings import RouterSettings
from serving.endpoint import Auth
from tests.fakes.clock import eventually
from tests.integration.router.clients import Client, get, request
from tests.integration.router.replicas import answers, echo, when
from tests.integration.router.rig import Rig, endpoint

KEY = "k" * 32
CREDENTIAL = (f"Authorization: Bearer {KEY}",)
Rigs = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def locked() -> AsyncIterator[Rigs]:
    """Routers with a key-protected endpoint."""
    async with AsyncExitStack() as stack:

        async def start(**changed: Any) -> Rig:
            rig = Rig(RouterSettings(**changed))
            await rig.start()
            stack.push_async_callback(rig.stop)
            rig.declare(endpoint(auth=Auth.KEY))
            rig.lock(KEY)
            return rig

        yield start


async def knows(rig: Rig) -> Client:
    """A client with an authorized request."""
    client = await rig.client()
    assert (await client.ask(request(b"x", fields=CREDENTIAL))).status == 200
    return client


async def is_open(client: Client) -> bool:
    return (await client.ask(get("/healthz"))).status == 200


REFUSED = {
    "own page": (get("/healthz"), 200),
    "no credential": (get(), 401),
    "wrong credential": (get(fields=("Authorization: Bearer " + "x" * 32,)), 401),
    "no endpoint": (get("/nowhere"), 404),
    "wrong method": (b"PUT /api/v1/service/iris/score HTTP/1.1\r\nHost: x\r\n\r\n", 405),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_strangers_that_hold_every_place_make_room_in_the_order_they_were_last_heard(
    locked: Rigs, what: str
) -> None:
    rig = await locked(max_connections=4)
    await rig.replica(echo)
    message, status = REFUSED[what]
    strangers = [await rig.client() for _ in range(4)]
    for number in (0, 1, 2, 3, 0):  # the first is heard last
        assert (await strangers[number].ask(message)).status == status
    known = [await knows(rig)]
    assert await strangers[1].end() == b""
    known.append(await knows(rig))
    assert await strangers[2].end() == b""
    assert await is_open(strangers[0]) and await is_open(strangers[3])
    assert rig.gateway.stats.counters["connections_evicted"] == 2
    assert all([(await client.ask(request(b"y", fields=CREDENTIAL))).status == 200 for client in known])
    assert len(rig.gateway.clients.admission._held) == rig.gateway.stats.connections == 4


async def test_half_a_head_and_silence_hold_no_place_either(locked: Rigs) -> None:
    rig = await locked(max_connections=3)
    await rig.replica(echo)
    strangers = [await rig.client() for _ in range(3)]
    for client in strangers[1:]:
        client.send(b"GET / HTTP/1.1\r\nHost:")
    await eventually(lambda: rig.gateway.clients.heads.total_bytes > 4096)
    for _ in range(3):
        await knows(rig)
    for client in strangers:
        assert await client.end() == b""
    assert rig.gateway.clients.heads.total_bytes == 0


async def test_clients_with_a_credential_keep_their_places_and_the_next_one_is_refused(locked: Rigs) -> None:
    rig = await locked(max_connections=3)
    await rig.replica(echo)
    known = [await knows(rig) for _ in range(3)]
    for client in known:  # a later refusal does not make it a stranger
        assert (await client.ask(get("/nowhere"))).status == 404
    for _ in range(3):
        late = await rig.client()
        answer = await late.answer()
        assert (answer.status, answer.code) == (503, "Overloaded")
        assert await late.end() == b""
    known.pop().leave()
    await eventually(lambda: len(rig.gateway.clients.admission._held) == 2)
    newcomer = await knows(rig)  # even before all refused ones have left
    assert all([await is_open(client) for client in (*known, newcomer)])
    assert rig.gateway.stats.counters["connections_evicted"] == 0


async def test_a_request_in_service_is_never_cut_off(locked: Rigs) -> None:
    rig = await locked(max_connections=2)
    go_on = asyncio.Event()
    await rig.replica(when(go_on), slots=2)
    busy = [await rig.client() for _ in range(2)]
    for client in busy:
        client.send(request(b"x", fields=CREDENTIAL))
    await eventually(lambda: rig.busy() == 2)
    assert (await (await rig.client()).answer()).status == 503
    go_on.set()
    assert [(await client.answer()).status for client in busy] == [200, 200]


async def test_before_the_first_admitted_request_a_connection_may_be_idle_for_less_long(locked: Rigs) -> None:
    rig = await locked(idle_timeout_s=60.0, unauthorized_idle_timeout_s=0.2)
    await rig.replica(answers())
    known, stranger = await knows(rig), await rig.client()
    assert (await stranger.ask(get())).status == 401
    assert await stranger.end() == b""
    assert await is_open(known)
    await rig.swept(15)
    assert await is_open(known)


async def test_one_address_may_be_limited_without_evicting_others(locked: Rigs) -> None:
    rig = await locked(max_address_connections=3)
    await rig.replica(echo)
    clients = [await rig.client() for _ in range(3)]
    assert all([await is_open(client) for client in clients])
    assert (await (await rig.client()).answer()).status == 503
    clients[0].leave()
    await eventually(lambda: rig.gateway.clients.admission._per_address.total() == 2)
    await knows(rig)


async def test_an_unlimited_address_is_not_counted(locked: Rigs) -> None:
    rig = await locked()
    client = await rig.client()
    assert await is_open(client)
    assert not rig.gateway.clients.admission._per_address


async def test_a_handed_off_connection_keeps_its_authorization(locked: Rigs) -> None:
    rig, other = await locked(), await locked(max_connections=2)
    for each in (rig, other):
        await each.replica(echo)
    stranger, known = await rig.client(), await knows(rig)
    assert await is_open(stranger)
    giving, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    giver, taker = HandoffSender(giving), HandoffReceiver(taking, other.worker._adopt)
    rig.gateway.handoff.start([giver], 2)
    rig.gateway.clients.hand_off_idle()
    await eventually(lambda: other.gateway.stats.connections == 2)
    await knows(other)
    assert await stranger.end() == b""
    assert (await known.ask(request(b"z", fields=CREDENTIAL))).body == b"z"
    known.leave()
    giver.close()
    await taker.close()


# ---- the rule itself


class Guest:
    def __init__(self, authorized: bool = False) -> None:
        self.authorized = authorized
        self.busy = False


def test_a_busy_stranger_keeps_its_place_and_is_found_again_when_it_rests() -> None:
    places: ConnectionAdmission[Guest] = ConnectionAdmission(0)
    first, second, third = Guest(), Guest(), Guest()
    for guest in (first, second):
        assert places.admit(guest, "", 2) == (ConnectionVerdict.ADMITTED, None)
    first.busy = True
    assert places.admit(third, "", 2) == (ConnectionVerdict.ADMITTED, second)
    assert places.admit(second, "", 2) == (ConnectionVerdict.ADMITTED, third)
    first.busy, second.busy = False, True
    assert places.admit(third, "", 2) == (ConnectionVerdict.REFUSED, None)
    places.note_idle(first)
    places.remove(third)
    assert places.admit(third, "", 2) == (ConnectionVerdict.ADMITTED, first)


def test_evicting_costs_the_same_however_many_places_there_are() -> None:
    looked = 0

    class Counted(Guest):
        @property
        def busy(self) -> bool:
            nonlocal looked
            looked += 1
            return False

        @busy.setter
        def busy(self, value: bool) -> None: ...

    places: ConnectionAdmission[Counted] = ConnectionAdmission(0)
    for _ in range(10_000):
        places.admit(Counted(), "", 1000)
    assert looked == 9000


def test_many_that_are_refused_are_dropped_without_an_answer() -> None:
    places: ConnectionAdmission[Guest] = ConnectionAdmission(0)
    for _ in range(2):
        places.admit(Guest(authorized=True), "", 2)
    verdicts = [places.admit(Guest(), "", 2)[0] for _ in range(20)]
    assert verdicts == [ConnectionVerdict.REFUSED] * 16 + [ConnectionVerdict.DROPPED] * 4


@pytest.mark.parametrize(
    ("one", "another", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_address_is_one_of_ipv4_and_a_network_of_ipv6(one: str, another: str, together: bool) -> None:
    places: ConnectionAdmission[Guest] = ConnectionAdmission(1)
    assert places.admit(Guest(), one, 9)[0] is ConnectionVerdict.ADMITTED
    assert (places.admit(Guest(), another, 9)[0] is ConnectionVerdict.REFUSED) == together
