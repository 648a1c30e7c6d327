"""Failure detection between workers: pings, the time each peer was last heard, and the validity of its slots."""

from collections.abc import Callable, Collection, Iterator

from router.core.slot_messages import PeerMessage, Ping
from router.core.timers import Timers

PINGS_PER_LEASE = 3
"""Two may be lost before a borrower must stop (doorman: refresh more often than leases run out)."""
SILENCES_PER_LEASE = 8
"""A peer silent for this part of a lease is granted nothing until it is heard again: a stopped worker would otherwise
collect a free slot for each of its tickets. A peer with tickets is pinged before that."""
PROBES_PER_SILENCE = 4
"""Probe interval; a live peer has half of the silence, a sixteenth of a lease, to answer."""


class PeerLiveness:
    """Liveness of every other member of the view."""

    def __init__(
        self,
        lease_s: float,
        timers: Timers,
        send: Callable[[str, PeerMessage], None],
        asks: Collection[tuple[str, int]],
    ) -> None:
        """`lease_s`: validity of an answer. `timers`: timers of the group. `send`: sends a message to a peer.

        `asks`: live collection of the queued asks, as (peer, number); their senders are probed.
        """
        self.last_heard: dict[str, float] = {}
        """Time of the last message, by peer."""
        self.skipped: set[str] = set()
        """Peers passed over by a grant because they were silent."""
        self._lease_s = lease_s
        self._timers = timers
        self._send = send
        self._asks = asks
        self._peers: tuple[str, ...] = ()
        # Ping rounds by number, with the time of sending.
        self._sent_at: dict[int, float] = {}
        self._round = 0
        self._valid_until: dict[str, float] = {}
        # Peers reported by `newly_expired` and not valid since.
        self._expired: set[str] = set()
        self._probing = False

    def is_valid(self, peer: str, now: float) -> bool:
        """True if the peer answered a ping of the last lease: its slots may be used for new requests."""
        return now <= self._valid_until.get(peer, -1.0)

    def is_responsive(self, peer: str, now: float) -> bool:
        """True if the peer was heard lately and may be granted slots; if not, it is pinged and noted in `skipped`."""
        if now <= self.last_heard.get(peer, now) + self._lease_s / SILENCES_PER_LEASE:
            return True
        if peer not in self.skipped:
            self.skipped.add(peer)
            self.ping((peer,), now)
        return False

    def silent(self, now: float) -> list[str]:
        """Peers not heard for a lease."""
        return [peer for peer in self._peers if now > self.last_heard[peer] + self._lease_s]

    def newly_expired(self, now: float) -> Iterator[tuple[str, float]]:
        """Peers whose validity ended, each once, with the time of its end."""
        for peer in self._peers:
            ended_at = self._valid_until.get(peer, -1.0)
            if now > ended_at and peer not in self._expired:
                self._expired.add(peer)
                yield peer, ended_at

    def set_peers(self, peers: tuple[str, ...], now: float) -> None:
        """Replace the set of peers; those without a valid answer yet are pinged."""
        self._peers = peers
        for peer in peers:
            self.last_heard.setdefault(peer, now)
        for known in (self.last_heard, self._valid_until):
            for peer in [peer for peer in known if peer not in peers]:
                del known[peer]
        self._expired.intersection_update(peers)
        self.ping(tuple(peer for peer in peers if peer not in self._valid_until), now)

    def ping(self, peers: tuple[str, ...], now: float) -> None:
        """Send one round of pings."""
        self._round += 1
        self._sent_at = {number: sent for number, sent in self._sent_at.items() if sent >= now - self._lease_s}
        self._sent_at[self._round] = now
        for peer in peers:
            self._send(peer, Ping(self._round))

    def answered(self, peer: str, number: int, now: float) -> bool:
        """Record the answer of `peer` to ping round `number`; returns `is_valid`."""
        sent = self._sent_at.get(number)
        if sent is not None and peer in self._peers:
            self._valid_until[peer] = max(sent + self._lease_s, self._valid_until.get(peer, 0.0))
            self._expired.discard(peer)
        return self.is_valid(peer, now)

    def ping_round(self, last: float, now: float) -> None:
        """Ping every peer. `last`: time of the previous round.

        A pause of this worker does not count as silence of its peers: their messages are still unread.
        """
        pause_s = self._lease_s / PINGS_PER_LEASE
        slept_s = now - last - pause_s
        if slept_s > pause_s:
            for peer, heard in self.last_heard.items():
                self.last_heard[peer] = min(now, heard + slept_s)
        self.ping(self._peers, now)

    def start_probing(self, now: float) -> None:
        """Ping peers with queued asks before they count as silent, as long as there are any."""
        if not self._probing:
            self._probing = True
            self._timers.at(now + self._lease_s / SILENCES_PER_LEASE / PROBES_PER_SILENCE, self._probe)

    def _probe(self, now: float) -> list[None]:
        self._probing = False
        quiet_since = now - self._lease_s / SILENCES_PER_LEASE / PROBES_PER_SILENCE
        waiting = dict.fromkeys(peer for peer, _ in self._asks)
        if waiting:
            self.ping(tuple(peer for peer in waiting if self.last_heard.get(peer, now) <= quiet_since), now)
            self.start_probing(now)
        return []
