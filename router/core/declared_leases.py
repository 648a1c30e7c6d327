"""Leases and asks of one peer: its last `Declare`, and the updates since."""

from collections.abc import Iterable
from typing import NamedTuple

from router.core.health import Failure
from router.core.slot_messages import Ask, Declare, Failed, Forget, Return
from serving.endpoint import VersionKey

LeaseUpdate = Ask | Forget | Return | Failed
"""Messages of a borrower to an owner after its Declare."""


class PeerAsk(NamedTuple):
    """A queued ask of a peer."""

    since: float
    """Arrival of its ticket, on the clock of this worker."""
    retry: bool


def peer_ask(ask: Ask, now: float) -> PeerAsk:
    """The ask with its age converted to an arrival time."""
    return PeerAsk(now - ask.age_s, ask.retry)


class DeclaredLeases:
    """Leases and asks of one peer, kept up to date while the peer is in a newer view than this worker."""

    __slots__ = ("asks", "epoch", "leases", "retired", "suspects")

    def __init__(self, declare: Declare, now: float) -> None:
        self.epoch = declare.epoch
        self.leases: dict[VersionKey, dict[int, str]] = {}
        self.asks: dict[VersionKey, dict[int, PeerAsk]] = {}
        self.retired: dict[VersionKey, tuple[str, ...]] = {}
        self.suspects: dict[VersionKey, tuple[str, ...]] = {}
        for holding in declare.holdings:
            self.leases[holding.key] = dict(holding.leases)
            self.retired[holding.key] = holding.retired
            self.suspects[holding.key] = holding.suspects
            self.asks[holding.key] = {ask.ask: peer_ask(ask, now) for ask in holding.asks}

    def update(self, message: LeaseUpdate, now: float) -> None:
        """Apply a later message of the peer."""
        match message:
            case Ask():
                self.asks.setdefault(message.key, {})[message.ask] = peer_ask(message, now)
            case Forget():
                for asks in self.asks.values():
                    for ask in message.asks:
                        asks.pop(ask, None)
            case Return():
                for leases in self.leases.values():
                    for lease in message.leases:
                        leases.pop(lease, None)
            case Failed():
                # The ejection after a refused connection would have ended or be about to.
                if message.failure not in ("", Failure.UNREACHABLE.value):
                    self.suspects[message.key] = (*self.suspects.get(message.key, ()), message.replica)

    def versions(self) -> Iterable[VersionKey]:
        """Versions with leases, asks or suspects of the peer."""
        return dict.fromkeys((*self.leases, *self.asks, *self.suspects))
