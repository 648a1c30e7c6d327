"""Peer links of one worker, and the hand-off of client connections between workers of one machine."""

import asyncio
import math
import random
import socket
from collections.abc import Callable

from router.core.slot_messages import PeerMessage
from router.core.view import View
from router.peers.address import Unix, parse_address
from router.peers.handoff_socket import HandoffListener, connect_handoff
from router.peers.links import LinkEvents, Links
from router.peers.peer_identity import Trust
from router.proxy.connection_handoff import HandoffReceiver, HandoffSender
from router.proxy.gateway import Gateway


class Peering:
    """Connects the dispatcher to the peers; from `open` to `close`."""

    def __init__(
        self,
        gateway: Gateway,
        name: str,
        adopt: Callable[[bytes, bool], asyncio.Protocol],
        trust: Trust | None = None,
        yield_cpu: Callable[[], None] = lambda: None,
    ) -> None:
        """`adopt`: makes the protocol of a client connection that another worker gives, with what it has read of it,
        and whether a request on it has been admitted.

        `trust`: for peers on other machines. `yield_cpu`: see `Links`.
        """
        self._gateway = gateway
        self._name = name
        self._adopt = adopt
        events = LinkEvents(self._up, self._down, self._hear)
        self._links = Links(name, events, random.random, trust, yield_cpu)  # noqa: TID251 - a shell
        self._handoff: HandoffListener | None = None
        self._givers: dict[str, HandoffSender] = {}
        """Senders to other workers, by address."""
        self._takers: set[HandoffReceiver] = set()
        self._view = View(0, ())
        gateway.effects.on_outbox = self._flush

    def open(self, address: str, door: socket.socket | None = None) -> None:
        """Listen for peers. Raises AddressError, TrustError, OSError.

        `door`: the listening socket for peers on other machines; default none.
        """
        self._links.listen(address)
        if door is not None:
            self._links.listen_on(door)
        if isinstance(parse_address(address), Unix):  # connections pass between workers of one machine only
            self._handoff = HandoffListener(address, self._take)

    async def close(self) -> None:
        """Close all links and hand-offs."""
        await self._links.close()
        if self._handoff is not None:
            self._handoff.close()
        for giver in self._givers.values():
            giver.close()
        for taker in list(self._takers):
            await taker.close()

    @property
    def counters(self) -> dict[str, int]:
        """Counters of links and slots, by short name."""
        return {**self._links.counters, **self._gateway.dispatcher.counters}

    # ---- views

    def enter(self, view: View) -> None:
        """Enter a new view."""
        gateway = self._gateway
        self._view = view
        self._links.enter(view)
        addresses = {member.address for member in view.members}
        for address in self._givers.keys() - addresses:
            self._givers.pop(address).close()
        gateway.effects.carry_out_all(gateway.dispatcher.enter(view, gateway.now()))

    def includes_me(self) -> bool:
        """True if the view names this worker."""
        return self._name in self._view.names()

    # ---- slots

    def _up(self, peer: str) -> None:
        gateway = self._gateway
        gateway.effects.carry_out_all(gateway.dispatcher.link_up(peer, gateway.now()))

    def _down(self, peer: str) -> None:
        gateway = self._gateway
        gateway.dispatcher.link_down(peer, gateway.now())
        gateway.effects.carry_out_all([])

    def _hear(self, peer: str, message: PeerMessage) -> None:
        gateway = self._gateway
        if gateway.poller is not None:
            gateway.poller.note_activity()
        gateway.effects.carry_out_all(gateway.dispatcher.receive(peer, message, gateway.now()))

    def _flush(self) -> None:
        outbox, send = self._gateway.dispatcher.outbox, self._links.send
        for peer, message in outbox:
            send(peer, message)
        outbox.clear()
        self._links.flush_now()

    # ---- client connections

    def give(self, taker: str, count: int) -> None:
        """Hand `count` connections over to this member, now or as they become idle."""
        addresses = [member.address for member in self._view.members if member.name == taker and member.eligible]
        self._gateway.handoff.start(self._ways(addresses), count)
        self._gateway.clients.hand_off_idle()

    def give_all(self) -> None:
        """Hand all connections over to the eligible members."""
        staying = [member.address for member in self._view.members if member.eligible and member.name != self._name]
        self._gateway.handoff.start(self._ways(staying), math.inf)

    def _ways(self, addresses: list[str]) -> list[HandoffSender]:
        for address in addresses:
            if address not in self._givers and (sock := connect_handoff(address)) is not None:
                self._givers[address] = HandoffSender(sock)
        return [self._givers[address] for address in addresses if address in self._givers]

    def _take(self, sock: socket.socket) -> None:
        self._takers.add(HandoffReceiver(sock, self._adopt, self._takers.discard))
